"""The kernel is pure: it imports nothing that does I/O, tells time, draws lots, or runs anything."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import antiphon.kernel

FOLDER = Path(antiphon.kernel.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))
ALLOWED = {
    "__future__",
    "antiphon",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "msgspec",
    "re",
    "typing",
}
"""What the kernel is made of. ``hashlib`` for digests; nothing here reads a clock or the world."""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_imports_only_what_is_pure(path: Path) -> None:
    found = imports(path)
    assert {name.partition(".")[0] for name in found} <= ALLOWED
    ours = {name for name in found if name.startswith("antiphon")}
    assert all(name.startswith("antiphon.kernel") or name == "antiphon.errors" for name in ours)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_calls_no_builtin_that_reaches_the_world_or_depends_on_the_process(path: Path) -> None:
    """``hash`` and ``id`` differ from process to process: a fold that used them could not be repeated."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = {function.id for function in calls if isinstance(function, ast.Name)}
    assert not names & {"open", "print", "input", "eval", "exec", "__import__", "hash", "id", "globals"}


def test_importing_it_loads_no_event_loop() -> None:
    code = (
        "import sys, antiphon.kernel.session, antiphon.kernel.floor\n"
        "print(sorted({'asyncio', 'logging', 'socket', 'selectors', 'numpy', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
