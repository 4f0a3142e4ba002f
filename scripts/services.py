"""Sees to the programs that tests start for themselves: ``python scripts/services.py``; status 1 if one is missing.

Root on a Debian machine gets the distribution's package; everybody else is told its name. The tests that need a
missing program are not run, and the end of their report says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PACKAGES = {"redis-server": "redis-server", "chromium": "chromium"}
"""Program and Debian package. Tests start the program themselves and never use one that runs already."""


def main() -> int:
    lacking = missing()
    if lacking and os.geteuid() == 0 and shutil.which("apt-get"):
        install([PACKAGES[program] for program in lacking])
        lacking = missing()
    for program in lacking:
        print(
            f"tests that need {program} will NOT be run: install it (Debian: apt-get install {PACKAGES[program]})",
            file=sys.stderr,
        )
    return 1 if lacking else 0


def missing() -> list[str]:
    return [program for program in PACKAGES if shutil.which(program) is None]


def install(packages: list[str]) -> None:
    print(f"installing what tests need: {' '.join(packages)}", file=sys.stderr)
    # RUNLEVEL=1: the package's own service is not started (invoke-rc.d(8)).
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *words], env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
