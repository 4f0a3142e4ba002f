"""media/ is pure: what it imports, in fact and in text."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import antiphon.media

ROOT = Path(antiphon.media.__file__).parent
MODULES = ["codec", "gate", "line", "playout", "reel", "resample", "segmenter", "speakable"]
ALLOWED = {"__future__", "antiphon", "collections", "itertools", "math", "msgspec", "numpy", "re", "soxr", "struct"}
ALLOWED |= {"typing", "unicodedata"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_but_the_pure_is_imported(module: str) -> None:
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
        for name in names:
            assert name.split(".", maxsplit=1)[0] in ALLOWED
            assert not name.startswith("antiphon") or name.startswith(
                ("antiphon.errors", "antiphon.media", "antiphon.kernel")
            )


def test_media_needs_numpy_soxr_and_msgspec_alone() -> None:
    # The package's own __init__ is left out: it is the façade over everything.
    code = (
        "import sys, types\n"
        "before = set(sys.modules)\n"
        "package = types.ModuleType('antiphon')\n"
        f"package.__path__ = [{str(ROOT.parent)!r}]\n"
        "sys.modules['antiphon'] = package\n"
        f"for name in {MODULES!r}: __import__('antiphon.media.' + name)\n"
        "found = {name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names\n"
        "assert found <= {'antiphon', 'msgspec', 'numpy', 'soxr', 'typing_extensions'}, found\n"
        "assert 'asyncio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
