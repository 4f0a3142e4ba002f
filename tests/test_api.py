"""The public names: what they are, that they cost nothing until used, and that nobody changes them unnoticed."""

import difflib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import antiphon

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def written() -> ModuleType:
    spec = importlib.util.spec_from_file_location("written", ROOT / "scripts" / "written.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_public_names_are_as_recorded(written: ModuleType) -> None:
    recorded = (ROOT / "tests" / "data" / "api.txt").read_text(encoding="utf-8")
    now = written.api()
    changes = "\n".join(difflib.unified_diff(recorded.splitlines(), now.splitlines(), "recorded", "now", lineterm=""))
    assert recorded == now, f"the public names changed. If that is meant, run `make docs`:\n{changes}"


def test_a_changed_signature_would_be_noticed(written: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.api()
    monkeypatch.setattr(antiphon, "replay", lambda entries, strict=False: None)
    assert written.api() != before


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for name in antiphon.__all__:
        value = getattr(antiphon, name)
        if not isinstance(value, str):
            assert inspect.getdoc(value), name
    assert dir(antiphon) == antiphon.__all__
    assert antiphon.__all__ == sorted(antiphon.__all__)


def test_every_error_is_public() -> None:
    from antiphon import errors

    found = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert found <= set(antiphon.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sessions'"):
        _ = antiphon.Sessions  # type: ignore[attr-defined]


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import antiphon\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "assert loaded == {'antiphon'}, loaded\n"
        "inside = {name for name in sys.modules if name.startswith('antiphon')}\n"
        "assert inside == {'antiphon', 'antiphon._version'}, inside\n"
        "assert antiphon.ConfigError.__module__ == 'antiphon.errors'\n"
        "assert 'msgspec' not in sys.modules\n"
        "from antiphon import *\n"
        "assert Session().floor == Floor.IDLE\n"
    )
    # Without the site packages' .pth files, which import things of their own.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
