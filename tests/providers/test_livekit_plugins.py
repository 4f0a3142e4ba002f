"""Real LiveKit plugins through the adapters, by import path: OpenAI's and Deepgram's, against loopback servers."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import loopback_openai
import loopback_whisper
import pytest
from loopback_voices import KEY, SAID, Voices, serving

from antiphon.conformance import KITS, examine, report
from antiphon.conformance.voice import RATE, made_up_voice
from antiphon.errors import ProviderError
from antiphon.providers.registry import load
from antiphon.runtime.ports import Heard, ReplyRequest, TextDelta

SPEECH = made_up_voice(5)
TEXT = "You need a bachelor's degree."


@pytest.fixture(autouse=True)
def _the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_API_KEY", KEY)
    monkeypatch.setenv("CHAT_API_KEY", loopback_openai.KEY)
    monkeypatch.setenv("WRONG_API_KEY", "sk-wrong-9876543210")
    for variable in ("OPENAI_API_KEY", "DEEPGRAM_API_KEY", "ANTIPHON_SECRETS_FILE"):
        monkeypatch.delenv(variable, raising=False)


def run(main: Callable[[Voices], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with serving(Voices()) as voices:
            await main(voices)

    asyncio.run(serve())


async def heard_of(ear: Any, pcm: bytes, *, language: str = "en-IN") -> list[Heard]:
    """All that is heard of one utterance, to its end."""
    told: list[Heard] = []
    done = asyncio.Event()

    def on_heard(heard: Heard) -> None:
        told.append(heard)
        if heard.final or heard.error:
            done.set()

    stream = ear.open(sample_rate=RATE, language=language, on_heard=on_heard)
    for at in range(0, len(pcm), 640):
        stream.feed(pcm[at : at + 640])
        await asyncio.sleep(0.001)
    stream.finish(1)
    await asyncio.wait_for(done.wait(), 10)
    stream.close()
    return told


async def replied(llm: Any) -> str:
    asked = ReplyRequest(session="s", turn=1, attempt=1, text="What do I need?", language="en-IN")

    async def act(name: str, kind: str, arguments: str) -> str:
        raise AssertionError("no tools are set")

    async with aclosing(llm.respond(asked, act)) as parts:
        return "".join([part.text async for part in parts if isinstance(part, TextDelta)])


async def spoken(tts: Any, rate: int = RATE) -> bytes:
    async with aclosing(tts.synthesize(TEXT, language="en-IN", sample_rate=rate)) as sounds:
        return b"".join([sound.pcm async for sound in sounds])


# -- OpenAI's -----------------------------------------------------------------------------------


def openai_llm(loopback: loopback_openai.Loopback, **settings: object) -> Any:
    options = {"base_url": loopback.base_url, "model": "test"}
    given = {"plugin": "livekit.plugins.openai:LLM", "options": options, "api_key_env": "CHAT_API_KEY"}
    return load("llm", "livekit", {**given, **settings})


def test_openais_llm_answers_and_closing_stops_the_generation() -> None:
    async def main() -> None:
        async with loopback_openai.serving(loopback_openai.Loopback()) as loopback:
            llm = openai_llm(loopback)
            await llm.start()
            assert await replied(llm) == loopback_openai.REPLY
            assert [message["role"] for message in loopback.requests[0]["messages"]] == ["system", "user"]
            loopback.token_s = 0.05
            parts = llm.respond(
                ReplyRequest(session="s", turn=2, attempt=1, text="And then?", language="en-IN"), _no_act
            )
            assert isinstance(await anext(parts), TextDelta)
            await parts.aclose()
            await asyncio.wait_for(loopback.cancelled.wait(), 2)
            await llm.close()

    asyncio.run(main())


async def _no_act(name: str, kind: str, arguments: str) -> str:
    raise AssertionError("no tools are set")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("429", "llm.rate_limited"),
        ("quota", "llm.quota"),
        ("500", "llm.server"),
        ("404", "llm.not_found"),
        ("hang", "llm.timeout_first_token"),
        ("hang_middle", "llm.timeout_stalled"),
        ("cut", "llm.cut"),
    ],
)
def test_openais_llm_fails_with_our_codes(fault: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with loopback_openai.serving(loopback_openai.Loopback()) as loopback:
            loopback.script = [fault]
            # Short where it is waited for; elsewhere a busy machine may take its time.
            waits = {"hang": {"first_token_s": 0.5}, "hang_middle": {"between_tokens_s": 0.3}}
            llm = openai_llm(loopback, **waits.get(fault, {}))
            await llm.start()
            with pytest.raises(ProviderError) as caught:
                await replied(llm)
            assert caught.value.code == code
            assert loopback_openai.KEY not in str(caught.value)
            assert await replied(llm) == loopback_openai.REPLY
            await llm.close()

    caplog.set_level(logging.DEBUG)
    asyncio.run(main())
    assert loopback_openai.KEY not in caplog.text


def test_a_wrong_key_is_refused_and_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with loopback_openai.serving(loopback_openai.Loopback()) as loopback:
            llm = openai_llm(loopback, api_key_env="WRONG_API_KEY")
            await llm.start()
            with pytest.raises(ProviderError) as caught:
                await replied(llm)
            assert caught.value.code == "llm.unauthorized"
            assert not caught.value.retryable
            assert "sk-wrong" not in str(caught.value)
            await llm.close()

    caplog.set_level(logging.DEBUG)
    asyncio.run(main())
    assert "sk-wrong" not in caplog.text


def test_openais_stt_is_asked_once_the_utterance_is_over() -> None:
    async def main() -> None:
        async with loopback_whisper.serving(loopback_whisper.Loopback()) as loopback:
            ear = load(
                "stt",
                "livekit",
                {
                    "plugin": "livekit.plugins.openai:STT",
                    "options": {"base_url": loopback.base_url, "model": "gpt-transcribe", "language": "en"},
                    "languages": {"hi-IN": {"language": ["hi", "en"]}},
                    "api_key_env": "CHAT_API_KEY",
                },
            )
            await ear.start()
            heard = await heard_of(ear, SPEECH)
            assert [(each.text, each.language, each.final) for each in heard] == [
                (loopback_whisper.TEXT, "en-IN", True)
            ]
            await heard_of(ear, SPEECH, language="hi-IN")
            assert [each.all("languages[]") for each in loopback.requests] == [["en"], ["hi", "en"]]
            assert loopback.requests[0].pcm == SPEECH
            loopback.script = ["500"]
            assert (await heard_of(ear, SPEECH))[-1].error == "stt.server"
            await ear.close()

    asyncio.run(main())


@pytest.mark.parametrize("model", ["gpt-4o-mini-tts", "tts-1"])
def test_openais_tts_speaks_though_its_pieces_are_odd(model: str) -> None:
    async def main(voices: Voices) -> None:
        options = {"base_url": voices.base_url, "model": model, "response_format": "pcm"}
        tts = load(
            "tts",
            "livekit",
            {"plugin": "livekit.plugins.openai:TTS", "options": options, "api_key_env": "LOOPBACK_API_KEY"},
        )
        await tts.start()
        for rate in (8_000, 24_000):
            assert len(await spoken(tts, rate)) / 2 / rate == pytest.approx(0.06 * len(TEXT), abs=0.03)
        voices.script = ["429"]
        with pytest.raises(ProviderError) as caught:
            await spoken(tts)
        assert caught.value.code == "tts.rate_limited"
        await tts.close()

    run(main)


# -- Deepgram's ---------------------------------------------------------------------------------


def deepgram_stt(voices: Voices, **settings: object) -> Any:
    given = {
        "plugin": "livekit.plugins.deepgram:STT",
        "options": {"base_url": f"{voices.base_url}/listen", "language": "en-IN"},
        "api_key_env": "LOOPBACK_API_KEY",
        "settle_ms": 50,
    }
    return load("stt", "livekit", {**given, **settings})


def test_deepgrams_stt_streams_words_and_its_final_does_not_wait_for_the_sockets_end() -> None:
    async def main(voices: Voices) -> None:
        ear = deepgram_stt(voices)
        await ear.start()
        heard = await heard_of(ear, SPEECH)
        assert (heard[-1].text, heard[-1].final, heard[-1].language) == (SAID, True, "en-IN")
        assert heard[-1].confidence == pytest.approx(0.9)
        texts = [each.text for each in heard[:-1]]
        assert texts == sorted(texts, key=len)
        assert len(texts) >= 3
        assert all(SAID.startswith(text) for text in texts)
        # The plugin's own stream ends some seconds after its last word.
        began = time.monotonic()
        assert (await heard_of(ear, SPEECH[:1600]))[-1].text == SAID
        assert time.monotonic() - began < 1
        await ear.close()
        # 1.55 s at the plugin's 16 kHz, give or take what its resampler keeps.
        assert voices.audio[0] == pytest.approx(len(SPEECH) * 2, rel=0.05)

    run(main)


@pytest.mark.parametrize(("fault", "code"), [("close", "stt.cut"), ("drop", "stt.cut"), ("", "stt.unauthorized")])
def test_deepgrams_stt_fails_with_our_codes(fault: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(voices: Voices) -> None:
        voices.script = [fault]
        ear = deepgram_stt(voices, api_key_env="LOOPBACK_API_KEY" if fault else "WRONG_API_KEY")
        await ear.start()
        assert (await heard_of(ear, SPEECH))[-1].error == code
        await ear.close()

    caplog.set_level(logging.DEBUG)
    run(main)
    assert KEY not in caplog.text
    assert "sk-wrong" not in caplog.text


def test_deepgrams_stt_keeps_the_rules_of_our_port() -> None:
    async def main(voices: Voices) -> None:
        results = await examine(KITS["stt"], lambda: deepgram_stt(voices))
        assert results
        assert all(result.passed for result in results), report(results)

    run(main)


def deepgram_tts(voices: Voices, **settings: object) -> Any:
    options = {"base_url": f"{voices.base_url}/speak", "sample_rate": 16_000}
    given = {"plugin": "livekit.plugins.deepgram:TTS", "options": options, "api_key_env": "LOOPBACK_API_KEY"}
    return load("tts", "livekit", {**given, **settings})


@pytest.mark.parametrize("mode", ["request", "stream"])
def test_deepgrams_tts_speaks(mode: str) -> None:
    async def main(voices: Voices) -> None:
        tts = deepgram_tts(voices, mode=mode)
        await tts.start()
        for _ in range(2):
            assert len(await spoken(tts)) / 2 / RATE == pytest.approx(0.06 * len(TEXT), abs=0.05)
        assert voices.asked[0]["text"].split() == TEXT.split()
        assert voices.sessions == (1 if mode == "stream" else 0)  # the plugin's socket is used again
        await tts.close()

    run(main)


def test_closing_closes_deepgrams_request() -> None:
    async def main(voices: Voices) -> None:
        voices.script = ["hang"]
        tts = deepgram_tts(voices)
        await tts.start()
        sounds = tts.synthesize(TEXT, language="en-IN", sample_rate=RATE)
        assert (await anext(sounds)).pcm
        await sounds.aclose()
        await asyncio.wait_for(voices.cancelled.wait(), 2)
        await tts.close()

    run(main)


def test_deepgrams_tts_keeps_the_rules_of_our_port() -> None:
    async def main(voices: Voices) -> None:
        results = await examine(KITS["tts"], lambda: deepgram_tts(voices))
        assert results
        assert all(result.passed for result in results), report(results)

    run(main)
