"""``SarvamAI`` against a loopback endpoint, and the vendor's SDK against the same one."""

import asyncio
import base64
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loopback_sarvam import CHAR_MS, KEY, LANGUAGE, WORDS, Loopback, serving, tasks_left
from sarvamai import AsyncSarvamAI
from sarvamai.environment import SarvamAIEnvironment

from antiphon.conformance.voice import made_up_voice
from antiphon.errors import ConfigError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.media.codec import wav_read, wav_write
from antiphon.providers import sarvam_ai
from antiphon.providers.sarvam_ai import SarvamAI
from antiphon.providers.tts.fake import tone
from antiphon.secret import Secret

SPEECH = made_up_voice(syllables=4)
WAV = wav_write(SPEECH, 8000)
MESSAGES = [
    {"role": "system", "content": "Be brief.", "language": "hi-IN", "timestamp": "2026-01-01T00:00:00"},
    {"role": "user", "content": "फीस?", "language": "hi-IN"},
]


def run(main: Callable[[Loopback], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with serving() as loopback:
            await main(loopback)
            assert not tasks_left()

    asyncio.run(serve())


def client(loopback: Loopback, **more: Any) -> SarvamAI:
    return SarvamAI(KEY, base_url=loopback.base_url, **more)


async def error_of(call: Awaitable[object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call
    assert caught.value.provider == "sarvam"
    return caught.value


def test_the_three_calls_have_the_signatures_of_the_source() -> None:
    assert str(inspect.signature(SarvamAI.speech_to_text)).startswith("(self, audio_bytes: 'bytes', language: 'str |")
    assert list(inspect.signature(SarvamAI.chat).parameters) == ["self", "messages"]
    assert list(inspect.signature(SarvamAI.text_to_speech).parameters) == ["self", "text", "language"]
    made = SarvamAI("k")
    assert made.stt_url == "https://api.sarvam.ai/speech-to-text"
    assert made.llm_url == "https://api.sarvam.ai/v1/chat/completions"
    assert made.tts_url == "https://api.sarvam.ai/text-to-speech"


def test_a_turn_from_speech_to_speech() -> None:
    async def main(loopback: Loopback) -> None:
        async with client(loopback, speakers={"hi": "ritu"}) as sarvam:
            text, language = await sarvam.speech_to_text(WAV)
            assert (text, language) == (WORDS, LANGUAGE)
            assert await sarvam.speech_to_text(WAV, language="te-IN") == (WORDS, "te-IN")
            assert await sarvam.speech_to_text(WAV, "fr-FR") == (WORDS, LANGUAGE)
            assert await sarvam.chat(MESSAGES) == WORDS
            spoken = await sarvam.text_to_speech(WORDS, "hi-IN")
            assert wav_read(spoken) == (tone(8000, len(WORDS) * CHAR_MS * 8), 8000)
        assert [each["language_code"] for each in loopback.requests["stt"]] == ["unknown", "te-IN", "unknown"]
        assert loopback.requests["stt"][0] | {"audio": b""} == {
            "model": "saaras:v4",
            "language_code": "unknown",
            "audio": b"",
            "type": "audio/wav",
            "name": "audio.wav",
        }
        assert loopback.requests["stt"][0]["audio"] == WAV
        assert loopback.requests["llm"] == [
            {
                "model": "sarvam-105b",
                "messages": [{"role": each["role"], "content": each["content"]} for each in MESSAGES],
                "max_tokens": 512,
                "reasoning_effort": None,
            }
        ]
        assert loopback.requests["tts"] == [
            {
                "model": "bulbul:v3",
                "language_code": "hi-IN",
                "speaker": "ritu",
                "text": WORDS,
                "speech_sample_rate": 8000,
                "output_audio_codec": "wav",
            }
        ]
        assert all(headers["api-subscription-key"] == KEY for headers in loopback.headers)
        assert not any("Authorization" in headers for headers in loopback.headers)

    run(main)


def test_the_vendors_sdk_asks_for_the_same_and_gets_the_same() -> None:
    async def main(loopback: Loopback) -> None:
        place = SarvamAIEnvironment(base=loopback.base_url, creative=loopback.base_url, production=loopback.ws_url)
        sdk = AsyncSarvamAI(api_subscription_key=KEY, environment=place)
        async with client(loopback) as sarvam:
            ours = (
                await sarvam.speech_to_text(WAV),
                await sarvam.chat(MESSAGES),
                await sarvam.text_to_speech(WORDS, "hi-IN"),
            )
        file = ("audio.wav", WAV, "audio/wav")
        heard = await sdk.speech_to_text.transcribe(file=file, model="saaras:v4", language_code="unknown")
        plain: Any = [{"role": each["role"], "content": each["content"]} for each in MESSAGES]
        answer = await sdk.chat.completions(messages=plain, model="sarvam-105b", max_tokens=512, reasoning_effort=None)
        spoken = await sdk.text_to_speech.convert(
            text=WORDS,
            language_code="hi-IN",
            speaker="shubh",
            model="bulbul:v3",
            speech_sample_rate=8000,
            output_audio_codec="wav",
        )
        theirs = (
            (heard.transcript, heard.language_code),
            answer.choices[0].message.content,
            base64.b64decode(spoken.audios[0]),
        )
        assert ours == theirs
        for endpoint in ("stt", "llm", "tts"):
            mine, sdks = loopback.requests[endpoint]
            sdks.pop("keyterms", None)  # sent as null by the SDK
            assert mine == sdks
        loopback.script["tts"] = ["429"] * 9
        with pytest.raises(Exception, match="429"):
            await sdk.text_to_speech.convert(text="x", language_code="hi-IN", request_options={"max_retries": 0})

    run(main)


def test_a_long_text_is_spoken_in_parts_and_joined_to_one_file() -> None:
    async def main(loopback: Loopback) -> None:
        sentence = "You need a bachelor's degree, and two letters of reference."
        long = " ".join([sentence] * 100)
        async with client(loopback, tts_model="bulbul:v2", sample_rate=16_000) as sarvam:
            spoken = await sarvam.text_to_speech(long, "en-IN")
        texts = [each["text"] for each in loopback.requests["tts"]]
        assert len(texts) == 4
        assert all(len(text) <= 1500 and text.endswith(".") for text in texts)
        assert " ".join(texts) == long
        pcm, rate = wav_read(spoken)
        assert (rate, len(pcm) // 2) == (16_000, sum(len(text) * CHAR_MS * 16 for text in texts))
        assert spoken.count(b"RIFF") == 1

    run(main)


def test_audio_is_taken_as_it_comes() -> None:
    async def main(loopback: Loopback) -> None:
        async with client(loopback) as sarvam:
            for audio in (SPEECH, SPEECH + b"\x01", b"OggS" + bytes(90), b"ID3\x04" + bytes(90)):
                assert (await sarvam.speech_to_text(audio))[0] == WORDS
            sent = loopback.requests["stt"]
            assert [each["type"] for each in sent] == ["audio/wav", "audio/wav", "audio/ogg", "audio/mpeg"]
            assert wav_read(sent[0]["audio"]) == wav_read(sent[1]["audio"]) == (SPEECH, 8000)
            assert await sarvam.speech_to_text(wav_write(bytes(16_000), 8000)) == ("", LANGUAGE)
            for audio, code in (
                (b"", "stt.bad_audio"),
                (b"RIFF" + bytes(90), "stt.bad_audio"),
                (wav_write(bytes(31 * 16_000), 8000), "stt.too_long"),
                (bytes(17 * 1024 * 1024), "stt.bad_audio"),
            ):
                error = await error_of(sarvam.speech_to_text(audio))
                assert (error.code, type(error)) == (code, ProviderRefused)
            assert len(sent) == 5

    run(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("429", "rate_limited"),
        ("quota", "quota"),
        ("500", "server"),
        ("redirect", "bad_endpoint"),
        ("garbage", "garbage"),
        ("bad_utf8", "garbage"),
        ("reset", "unreachable"),
        ("hang", "timeout_total"),
    ],
)
def test_errors_are_coded_by_stage(monkeypatch: pytest.MonkeyPatch, fault: str, code: str) -> None:
    for name in ("STT_S", "CHAT_S", "TTS_S"):
        assert getattr(sarvam_ai, name) == {"STT_S": 15, "CHAT_S": 15, "TTS_S": 20}[name]
        monkeypatch.setattr(sarvam_ai, name, 0.1)

    async def main(loopback: Loopback) -> None:
        for stage in ("stt", "llm", "tts"):
            loopback.script[stage] = [fault]
        async with client(loopback) as sarvam:
            calls = {
                "stt": lambda: sarvam.speech_to_text(WAV),
                "llm": lambda: sarvam.chat(MESSAGES),
                "tts": lambda: sarvam.text_to_speech(WORDS, "hi-IN"),
            }
            for stage, call in calls.items():
                error = await error_of(call())
                assert (error.stage, error.code) == (stage, f"{stage}.{code}")
                assert error.retry_after_s == (3.0 if fault == "429" else None)
                assert isinstance(error, ProviderTimeout) == (fault == "hang")
                await call()  # and the next one goes through
                if fault == "hang":
                    await loopback.until(lambda stage=stage: loopback.closed[stage] == 1)
        assert not loopback.requests["elsewhere"]

    run(main)


def test_an_empty_reply_and_a_wordless_text_are_errors() -> None:
    async def main(loopback: Loopback) -> None:
        async with client(loopback) as sarvam:
            loopback.script["llm_content"] = ["none"]
            assert (await error_of(sarvam.chat(MESSAGES))).code == "llm.empty"
            assert (await error_of(sarvam.text_to_speech("…?!", "hi-IN"))).code == "tts.empty"
            assert (await error_of(sarvam.text_to_speech("x" * 10_001, "hi-IN"))).code == "tts.too_long"

    run(main)


def test_it_can_be_closed_twice_and_used_again_and_addresses_can_be_changed() -> None:
    async def main(loopback: Loopback) -> None:
        sarvam = SarvamAI(Secret(KEY))
        sarvam.stt_url = f"{loopback.base_url}/speech-to-text"
        for _ in range(2):
            assert await sarvam.speech_to_text(WAV) == (WORDS, LANGUAGE)
            await sarvam.aclose()
            await sarvam.aclose()

    run(main)


def test_the_constructor_checks_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SARVAM_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="set SARVAM_API_KEY"):
        SarvamAI()
    monkeypatch.setenv("SARVAM_API_KEY", KEY)
    assert SarvamAI().llm_model == "sarvam-105b"
    for wrong, said in (
        ({"base_url": "api.sarvam.ai"}, "base_url must be"),
        ({"sample_rate": 12_345}, "sample_rate 12345"),
        ({"language_field": "lang"}, "language_field"),
        ({"tts_model": "bulbul:v9"}, "speaker must be set"),
    ):
        with pytest.raises(ConfigError, match=said):
            SarvamAI(**wrong)


def test_no_key_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "sk_wrong_secret_abcdef"

    async def main(loopback: Loopback) -> None:
        async with SarvamAI(wrong, base_url=loopback.base_url) as bad, client(loopback) as good:
            error = await error_of(bad.chat(MESSAGES))
            assert error.code == "llm.unauthorized"
            loopback.script["llm"] = ["500"]
            failed = await error_of(good.chat(MESSAGES))
            assert "your key is ***" in str(failed)
            shown = [str(error), repr(error), repr(failed), repr(good), repr(good.__dict__), caplog.text]
            assert not any(key in each for key in (wrong, KEY) for each in shown)

    run(main)
