"""The guide's example is a real provider: it is imported, checked and configured as the guide says."""

import asyncio
import re
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from antiphon.conformance import KITS
from antiphon.errors import ConfigError
from antiphon.providers import registry

GUIDE = Path(__file__).parents[2] / "docs" / "conformance.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def morse(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("antiphon_morse")
    exec(compile(blocks("python")[0], "antiphon_morse.py", "exec"), module.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, "antiphon_morse", module)
    return module


def test_the_example_passes_as_the_guide_runs_it(morse: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[1], "check.py", "exec"), {})  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) == len(KITS["tts"].checks)


def test_the_example_passes_as_tests_of_its_own(morse: ModuleType) -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[2], "test_morse.py", "exec"), names)  # noqa: S102
    (mark,) = names["test_morse_conforms"].pytestmark
    for check in mark.args[1]:
        names["test_morse_conforms"](check)
    names.clear()
    exec(compile(blocks("python")[3], "sample.py", "exec"), names)  # noqa: S102
    assert 80 <= len(names["HINDI"].long) <= 200


def test_the_example_is_found_by_its_entry_point(morse: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged, settings = map(tomllib.loads, blocks("toml"))
    ((group, points),) = packaged["project"]["entry-points"].items()
    ((name, value),) = points.items()
    point = EntryPoint(name, value, group)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    told = settings["tts"]
    voice = registry.load("tts", told["provider"], {"dot_ms": told["dot_ms"]})
    assert type(voice) is morse.Morse

    async def length() -> int:
        return sum([len(s.pcm) async for s in voice.synthesize("e", language="en", sample_rate=8000)])

    assert asyncio.run(length()) == 2 * 8 * 12 * 4
    with pytest.raises(ConfigError, match="dotms"):
        registry.load("tts", "morse", {"dotms": 3})


def test_the_table_names_every_kit() -> None:
    import antiphon.conformance as package

    named = re.findall(r"^\| `(\w+)` \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) == len(KITS)
    assert all(hasattr(package, name) for name in named)
