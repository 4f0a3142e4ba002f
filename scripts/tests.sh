#!/bin/sh
# Runs the tests: most of them side by side, then those that measure time, alone.   usage: scripts/tests.sh PYTHON [pytest arguments]
set -u
python=$1
shift
none=5 # pytest's status where nothing was chosen

"$python" -m pytest -n logical --maxprocesses 4 --dist loadgroup -m "not exclusive" --durations 10 "$@"
together=$?
if [ $together -ne 0 ] && [ $together -ne $none ]; then
    exit $together
fi
"$python" -m pytest -m exclusive "$@"
alone=$?
if [ $alone -eq $none ]; then
    exit $together
fi
exit $alone
