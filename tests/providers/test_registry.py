"""Providers by name: built-in, of another package, missing, broken, twice."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.errors import ConfigError
from antiphon.providers import registry

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one entry point on the path, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(package: str, line: str, source: str = "", group: str = "antiphon.llm") -> None:
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{line}\n")
        (tmp_path / f"{package}.py").write_text(source)
        sys.modules.pop(package, None)

    return put


def test_every_built_in_name_has_a_module_of_its_own() -> None:
    here = Path(registry.__file__).parent
    for kind, names in registry.BUILT_IN.items():
        for name in names:
            assert (here / kind / f"{name}.py").is_file() or (here / kind / name / "__init__.py").is_file(), (
                kind,
                name,
            )


def test_another_package_adds_a_provider_without_touching_this_one(install: Install) -> None:
    install("acme_llm", "acme = acme_llm:build", "def build(settings):\n    return ('built', settings)\n")
    assert registry.load("llm", "acme", {"a": 1}) == ("built", {"a": 1})
    assert registry.names("llm")[: len(registry.BUILT_IN["llm"])] == registry.BUILT_IN["llm"]
    assert "acme" in registry.names("llm")
    assert "acme" not in registry.names("tts")


def test_an_unknown_name_lists_what_there_is(install: Install) -> None:
    install("acme_llm2", "acme = acme_llm2:build")
    with pytest.raises(ConfigError, match=r"no 'opnai'.*extractive, openai, .*fake, acme") as caught:
        registry.load("llm", "opnai")
    assert caught.value.code == "config.unknown_provider"
    with pytest.raises(ConfigError, match="stt, llm, tts"):
        registry.load("lmm", "fake")  # type: ignore[call-overload]


def test_a_package_cannot_take_over_a_built_in_name(install: Install) -> None:
    install("evil_llm", "fake = evil_llm:build", "raise AssertionError('imported')")
    assert registry.load("llm", "fake").name == "fake"
    assert registry.names("llm").count("fake") == 1


def test_a_broken_or_doubled_package_is_said_to_be_so(install: Install) -> None:
    install("broken_llm", "broken = broken_llm:build", "import no_such_module_at_all")
    with pytest.raises(ConfigError, match=r"broken_llm:build.*no_such_module_at_all"):
        registry.load("llm", "broken")
    install("one_llm", "twin = one_llm:build")
    install("two_llm", "twin = two_llm:build")
    with pytest.raises(ConfigError, match="one_llm, two_llm"):
        registry.load("llm", "twin")
