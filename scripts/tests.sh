#!/bin/sh
# Runs the tests: most of them side by side, then those that keep to the clock, alone.
# usage: scripts/tests.sh PYTHON [pytest arguments]
set -u
python=$1
shift
none=5 # pytest's status where nothing was chosen

# A file's tests stay together: what they share (a model, a server, a recorded call) is made once.
"$python" -m pytest -n logical --maxprocesses 4 --dist loadfile -m "not exclusive" --durations 10 "$@"
together=$?
[ $together -ne 2 ] || exit 2 # interrupted
"$python" -m pytest -m exclusive --durations 5 "$@"
alone=$?

for status in $together $alone; do
    if [ "$status" -ne 0 ] && [ "$status" -ne $none ]; then
        exit "$status"
    fi
done
# Nothing chosen at all is a mistake in the arguments.
[ $together -ne $none ] || exit $alone
