"""The repository itself: what is written from the code is up to date, and the checks that keep it in order can fail."""

import difflib
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.version import Version

import antiphon

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- what is written from the code ---------------------------------------------------------------


@pytest.mark.parametrize("place", ["docs/configuration.md", "docs/floor.md", "docs/architecture.svg"])
def test_what_is_written_from_the_code_is_up_to_date(place: str) -> None:
    now = script("written").written()[place]
    kept = (ROOT / place).read_text(encoding="utf-8")
    changes = "\n".join(difflib.unified_diff(kept.splitlines(), now.splitlines(), place, "the code", lineterm=""))
    assert kept == now, f"{place} is out of date, run `make docs`:\n{changes}"


def test_the_chart_command_prints_what_the_docs_show(capsys: pytest.CaptureFixture[str]) -> None:
    from antiphon.cli import main

    floor = (ROOT / "docs" / "floor.md").read_text(encoding="utf-8")
    for arguments in ([], ["--format", "table"]):
        assert main(["chart", "floor", *arguments]) == 0
        assert capsys.readouterr().out in floor
    assert main(["chart", "ceiling"]) == 2


def test_the_drawing_is_one_that_mermaid_can_read() -> None:
    """Its grammar takes one colon in an arrow and in a note of one line: text holding another ends the drawing."""
    drawing = re.search(r"```mermaid\n(.*?)```", (ROOT / "docs" / "floor.md").read_text(encoding="utf-8"), re.DOTALL)
    assert drawing
    inside_note = False
    for line in drawing[1].splitlines()[1:]:
        if inside_note:
            inside_note = line.strip() != "end note"
        elif re.fullmatch(r"    note right of \w+", line):
            inside_note = True
        else:
            assert re.fullmatch(r"    (\[\*\] --> \w+|\w+ --> \w+: [^:]+|note right of \w+: [^:]+)", line), line
    assert not inside_note


# -- versions ------------------------------------------------------------------------------------


def pins() -> list[tuple[str, Version, Marker | None]]:
    found = []
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            found.append((requirement.name, Version(pin.version), requirement.marker))
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_one_fitting_version_of_every_dependency(python: str) -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for text in (*project["dependencies"], *(each for extra in extras.values() for each in extra)):
        wanted = Requirement(text)
        if wanted.name == "antiphon":
            assert wanted.extras <= set(extras)
            continue
        if wanted.marker and not wanted.marker.evaluate(environment):
            continue
        versions = [
            version
            for name, version, marker in pins()
            if name == wanted.name.lower() and (marker is None or marker.evaluate(environment))
        ]
        assert len(versions) == 1, f"{wanted}: the lock has {versions}: run `make lock`"
        assert versions[0] in wanted.specifier, f"{wanted}: the lock has {versions[0]}: run `make lock`"


def test_python_versions_are_told_everywhere_alike() -> None:
    project = PYPROJECT["project"]
    told = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert tuple(told) == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"


def test_the_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{antiphon.__version__}]" in changelog or "## [Unreleased]\n\n###" in changelog


# -- the checks can fail -------------------------------------------------------------------------

INTRUSIONS = {
    "kernel/floor.py": ("import time", "Kernel and media are pure"),
    "kernel/chart.py": ("import antiphon.runtime.ports", "Imports point downwards"),
    "media/gate.py": ("import asyncio", "Kernel and media are pure"),
    "runtime/driver.py": ("import pocketsphinx", "Optional packages are imported by their adapters alone"),
    "providers/tts/spoken.py": ("import piper", "Piper is GPL and slow to load"),
    "providers/endpoints.py": ("import livekit", "What may be absent and has no types is loaded by name"),
    "server/access.py": ("import joserfc", "Session tokens are made and read in one file"),
    "transports/sequence.py": ("import fastapi", "HTTP belongs to the server"),
    "stores/rows.py": ("import picows", "Sockets belong to the server"),
    "stores/redis.py": ("import redis", "Redis is spoken to by the journal's link alone"),
    "observe/views.py": ("import aiohttp", "The HTTP client belongs to the providers"),
    "runtime/host.py": ("import loguru", "The library logs through the standard library"),
    "cli/calls.py": ("import hypothesis", "What checks others is used by nobody"),
}


def test_each_import_contract_notices_an_intruder(tmp_path: Path) -> None:
    """All intruders at once: each must be named by its own contract."""
    shutil.copytree(ROOT / "src" / "antiphon", tmp_path / "antiphon", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "antiphon" / "attic").mkdir()
    (tmp_path / "antiphon" / "attic" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for place, (line, _) in INTRUSIONS.items():
        path = tmp_path / "antiphon" / place
        path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    for place, (line, contract) in INTRUSIONS.items():
        imported = line.split()[-1]
        assert re.search(rf"^{contract}.* BROKEN", done.stdout, re.MULTILINE), done.stdout
        assert f"antiphon.{place.removesuffix('.py').replace('/', '.')} -> {imported}" in done.stdout
    assert "attic" in done.stdout, "a new package without a place in the layers must be noticed"


BAD = (
    '''\
"""A file."""


def promised() -> None:
    """Says what it will do."""
    raise NotImplementedError


def empty() -> None: ...


def long() -> None:
    """Says it."""
'''
    + "    print(1)\n" * 60
)


def test_the_rooms_notice_what_is_unfinished_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = script("rooms")
    monkeypatch.setattr(rooms, "ROOT", tmp_path)
    source, test = tmp_path / "src" / "bad.py", tmp_path / "tests" / "test_bad.py"
    for path in (source, test):
        path.parent.mkdir()
    later, off = "TO" + "DO", "pytest.mark." + "skip"
    source.write_text(BAD + f"# {later} later\n# /ro" + "ot/x\n" + "#\n" * 400, encoding="utf-8")
    test.write_text(f"@{off}\ndef test() -> None:\n    x = ...\n", encoding="utf-8")
    found = "\n".join(problem for path in rooms.files() for problem in rooms.examine(path))
    for expected in (
        "files stay under",
        "promised does nothing",
        "empty does nothing",
        "long has 61",
        later,
        "one machine",
        off,
    ):
        assert expected in found
    assert rooms.main() == 1
    source.write_text('"""A file."""\n', encoding="utf-8")
    test.write_text("def test() -> None:\n    assert True\n", encoding="utf-8")
    assert rooms.main() == 0


def test_the_installer_leaves_out_what_a_machine_cannot_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install = script("install")
    asked: list[str] = []

    def pip(*arguments: str) -> str:
        asked.append(" ".join(arguments))
        return "no wheel" if any("local" in each or "espeakng" in each for each in arguments) else ""

    monkeypatch.setattr(install, "pip", pip)
    assert install.main(["local", "dev"]) == 0
    assert "left out: espeakng-loader" in capsys.readouterr().err
    assert any(each.startswith("install -e .[dev] ") for each in asked)
    assert any("pocketsphinx" in each for each in asked)
    monkeypatch.setattr(install, "pip", lambda *arguments: "no network")
    assert install.main(["local", "dev"]) == 1
    assert "no network" in capsys.readouterr().err


def test_pip_is_told_apart_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    install = script("install")
    assert install.pip("--version") == ""
    assert "no such option" in install.pip("install", "--not-an-option")
