#!/bin/sh
# Runs the tests: most of them side by side, then those that keep to the clock, two files at a time.
# usage: scripts/tests.sh PYTHON [pytest arguments]
set -u
python=$1
shift
none=5 # pytest's status where nothing was chosen

"$python" "$(dirname "$0")/services.py" # what is missing is told, here and at the end

# A file's tests stay together: what they share (a model, a server, a recorded call) is made once. Half of their time
# they wait for a process or a socket, so that four are quicker than two on two cores.
"$python" -m pytest -n 4 --dist loadfile -m "not exclusive and not long" --durations 10 "$@"
together=$?
[ $together -ne 2 ] || exit 2 # interrupted

# These mostly wait for sound to be over, so a second file costs the first no time; with a third, servers that start took
# the processor from calls that were to be heard. In the order of tests/conftest.py, which begins with the longest; xdist's
# own begins with the most tests. A choice of tests is small, or looked at with --pdb.
if [ $# -eq 0 ]; then
    set -- -n 2 --dist loadfile --no-loadscope-reorder
fi
"$python" -m pytest -m exclusive --durations 5 "$@"
in_time=$?

for status in $together $in_time; do
    if [ "$status" -ne 0 ] && [ "$status" -ne $none ]; then
        exit "$status"
    fi
done
# Nothing chosen at all is a mistake in the arguments.
[ $together -ne $none ] || exit $in_time
