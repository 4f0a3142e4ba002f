#!/bin/sh
# Makes a virtual environment, also where Debian left ensurepip out.   usage: scripts/venv.sh PYTHON FOLDER [named]
# An environment that is there is kept; with `named`, it must be of that Python.
set -eu
python=$1
folder=$2
named=${3:-}

# Complete, and not what an interrupted attempt left behind.
complete() {
    set -- "$folder"/lib/python3.*/site-packages/pip
    [ -x "$folder/bin/python" ] && [ -d "$1" ]
}

if [ -z "$named" ] && complete; then
    exit 0
fi

say() { printf '%s\n' "$*" >&2; }

if ! command -v "$python" >/dev/null 2>&1; then
    say "$python is not installed. Install Python 3.11 or later, or name one: make PYTHON=/path/to/python3 ..."
    exit 1
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "$python is Python $version; Antiphon needs 3.11 or later. Name another one: make PYTHON=python3.12 ..."
    exit 1
fi
if complete; then
    here=$("$folder/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$here" != "$version" ]; then
        say "$folder holds Python $here, and $python is $version. Keep both with VENV=.venv-$version, or make clean first."
        exit 1
    fi
    exit 0
fi
say "making $folder with Python $version"
if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
    "$python" -m venv "$folder"
elif "$python" -m pip --version >/dev/null 2>&1; then
    # Debian keeps ensurepip in a package of its own; the system's pip can fill the environment instead.
    "$python" -m venv --without-pip "$folder"
    "$python" -m pip --python "$folder/bin/python" install --quiet --disable-pip-version-check pip
else
    say "$python has neither ensurepip nor pip. On Debian or Ubuntu: apt-get install python3-venv python3-pip"
    exit 1
fi
# Whatever its name, it is not part of the repository.
echo '*' >"$folder/.gitignore"
