"""The peers' environments: made when they are first needed, kept outside of git in ``.bench``, versions pinned.

``python -m bench.peers.environment`` makes both and ends.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
PEERS = {"pipecat": "pipecat-ai", "livekit": "livekit-agents"}
"""Name of the environment and of ``<name>.txt`` beside this file, and the package that it is for."""
INSTALL_S = 1800


def python_of(peer: str) -> Path:
    return FOLDER / peer / "bin" / "python"


def is_ready(peer: str) -> bool:
    """True if the environment is whole and holds the pinned versions."""
    try:
        return _mark(peer).read_text() == _wanted(peer)
    except FileNotFoundError:
        return False


def prepare(peer: str) -> None:
    """Makes the environment, or brings it up to date. Raises ``RuntimeError`` saying what failed."""
    if is_ready(peer):
        return
    sys.stderr.write(f"installing {PEERS[peer]} into {FOLDER.name}/{peer} (about 500 MB, once)\n")
    steps = (
        ["sh", str(ROOT / "scripts" / "venv.sh"), sys.executable, str(FOLDER / peer)],
        [str(python_of(peer)), "-m", "pip", "install", "--quiet", "--requirement", str(_requirements(peer))],
    )
    for command in steps:
        try:
            subprocess.run(command, check=True, timeout=INSTALL_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(
                f"the environment of {peer} was not made: {error}. Leave it out with --only, or mend what pip says."
            ) from error
    _mark(peer).write_text(_wanted(peer))


def versions(peer: str) -> dict[str, str]:
    """What runs there: the interpreter, the peer, and what its figures depend on."""
    asked = [PEERS[peer], "uvloop", "onnxruntime", "numpy", "fastapi", "uvicorn", "websockets", "picows"]
    script = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))\n"
    )
    said = subprocess.run([str(python_of(peer)), "-c", script, *asked], check=True, stdout=subprocess.PIPE).stdout
    return dict(json.loads(said))


def _requirements(peer: str) -> Path:
    return Path(__file__).parent / f"{peer}.txt"


def _mark(peer: str) -> Path:
    return FOLDER / peer / ".made"


def _wanted(peer: str) -> str:
    pinned = hashlib.sha256(_requirements(peer).read_bytes()).hexdigest()
    return f"{platform.python_version()} {pinned}\n"


if __name__ == "__main__":
    for each in PEERS:
        prepare(each)
