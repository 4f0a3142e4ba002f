"""An address in the environment makes a stage a service's (B17 to B20)."""

from pathlib import Path

import pytest

from antiphon import config
from antiphon.assembly import provider_of
from antiphon.providers.service_wire import PLACES

URLS = {place.variable: f"http://{place.title}:{place.port}" for place in PLACES.values()}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    Path("antiphon.toml").write_text(text, encoding="utf-8")


def test_the_rows_names_and_ports() -> None:
    assert URLS == {
        "STT_SERVICE_URL": "http://stt-vad-service:8001",
        "INTENT_SERVICE_URL": "http://intent-service:8002",
        "RAG_SERVICE_URL": "http://rag-service:8003",
        "TTS_SERVICE_URL": "http://tts-service:8005",
    }


@pytest.mark.parametrize(("stage", "place"), PLACES.items())
def test_an_address_chooses_the_service_and_no_other(stage: str, place: object) -> None:
    variable = PLACES[stage].variable  # type: ignore[index]
    settings = config.load(environ={variable: URLS[variable]})
    for each in PLACES:
        chosen, default = getattr(settings, each), getattr(config.Settings(), each)
        assert (chosen.provider, chosen.settings) == (
            ("http", {"url": URLS[variable]}) if each == stage else (default.provider, {})
        )
        assert chosen.limits == default.limits
    assert settings.warnings == ()
    assert provider_of(stage, settings).client.base_url == URLS[variable]  # type: ignore[arg-type]


def test_empty_is_unset() -> None:
    assert config.load(environ=dict.fromkeys(URLS, "")) == config.Settings()


def test_what_the_file_says_of_another_provider_is_left_out_and_what_holds_for_any_stays() -> None:
    write(
        """
[tts]
provider = "espeak"
rate_wpm = 200
voice = "x"
voices = { te-IN = "y" }
fallback = [{ provider = "espeak" }]
[tts.limits]
first_s = 1.5
[retrieval]
provider = "minilm"
knowledge = "mine.toml"
"""
    )
    settings = config.load(environ=URLS)
    tts = settings.tts
    assert (tts.provider, tts.settings, tts.voice, tts.voices) == (
        "http",
        {"url": URLS["TTS_SERVICE_URL"]},
        "x",
        {"te-IN": "y"},
    )
    assert tts.limits.first_s == 1.5
    assert [each.provider for each in tts.chain()] == ["http", "espeak"]
    assert settings.retrieval.settings == {"url": URLS["RAG_SERVICE_URL"], "knowledge": "mine.toml"}


def test_settings_of_the_file_for_the_service_itself_stay() -> None:
    write('[intent]\nprovider = "http"\nurl = "http://elsewhere"\ntimeout_s = 0.5\n')
    settings = config.load(environ=URLS)
    assert settings.intent.settings == {"url": URLS["INTENT_SERVICE_URL"], "timeout_s": 0.5}
    assert config.load(environ={}).intent.settings["url"] == "http://elsewhere"


@pytest.mark.parametrize("where", ["environment", "command line"])
def test_a_provider_that_is_named_beside_the_address_wins_and_that_is_told(where: str) -> None:
    environ = {"INTENT_SERVICE_URL": "http://x:1"}
    named = {"ANTIPHON_INTENT_PROVIDER": "none"} if where == "environment" else {}
    overrides = {"intent.provider": "none"} if where == "command line" else {}
    settings = config.load(environ={**environ, **named}, overrides=overrides)
    assert (settings.intent.provider, settings.intent.settings) == ("none", {})
    (warning,) = settings.warnings
    assert "INTENT_SERVICE_URL is not used" in warning
    assert where in warning
    both = config.load(environ={**environ, "ANTIPHON_INTENT_PROVIDER": "http"})
    assert both.intent.settings == {"url": "http://x:1"}
    assert both.warnings == ()
