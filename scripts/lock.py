"""Chooses the versions anew: ``python scripts/lock.py`` writes ``requirements.lock`` from ``pyproject.toml``.

One file for every Python from 3.11 to 3.14 and every platform, with markers. It names no package index. An index of
your own is given to uv as to anybody else (``UV_DEFAULT_INDEX``), and stays out of the file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HEAD = """\
# Written by `make lock`: the versions that are tested, for Python 3.11 to 3.14. Used as constraints:
#   pip install -c requirements.lock "antiphon[local]"
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        run(sys.executable, "-m", "venv", folder)
        run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
        pins = run(
            *(str(python), "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", "local", "--extra", "dev"),
            *("--universal", "--python-version", "3.11", "--upgrade", "--quiet"),
            *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        )
    LOCK.write_text(HEAD + pins, encoding="utf-8")
    print(f"{LOCK.name}: {len(pins.splitlines())} packages")
    return 0


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
