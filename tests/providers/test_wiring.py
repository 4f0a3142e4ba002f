"""The recogniser is told what callers ask about, unless its own settings say so."""

from pathlib import Path

import pytest

from antiphon.errors import ConfigError
from antiphon.providers.registry import load
from antiphon.providers.wiring import transcriber_settings, unheard
from antiphon.runtime.ports import Transcriber


def test_the_demo_knowledge_base_is_what_the_recogniser_expects() -> None:
    made = transcriber_settings("pocketsphinx", {"workers": 1}, {})
    assert made["workers"] == 1
    assert "What are the admission requirements?" in made["phrases"]


def test_own_phrases_and_other_recognisers_are_left_alone(tmp_path: Path) -> None:
    assert transcriber_settings("pocketsphinx", {"phrases": ["hi"]}, {}) == {"phrases": ["hi"]}
    assert transcriber_settings("pocketsphinx", {"phrases_file": "x"}, {}) == {"phrases_file": "x"}
    assert transcriber_settings("fake", {"text": "hi"}, {}) == {"text": "hi"}
    with pytest.raises(ConfigError):
        transcriber_settings("pocketsphinx", {}, {"knowledge": str(tmp_path / "none.toml")})


OFFERED = ("en-IN", "hi-IN", "EN-us", "te")


def hearing(*languages: str) -> Transcriber:
    made = load("stt", "fake")
    made.hears = languages  # type: ignore[attr-defined]
    return made


def test_what_is_offered_and_heard_by_nobody() -> None:
    pocketsphinx, anything = load("stt", "pocketsphinx", {"phrases": ["hi"]}), load("stt", "fake")
    assert unheard([pocketsphinx], OFFERED) == ("hi-IN", "te")
    assert unheard([pocketsphinx, hearing("hi")], OFFERED) == ("te",), "the chain is asked one after the other"
    assert unheard([pocketsphinx, anything], OFFERED) == (), "who says nothing may hear everything"
    assert unheard([hearing()], OFFERED) == OFFERED
    assert unheard([], OFFERED) == ()
    assert unheard([pocketsphinx], ()) == ()
