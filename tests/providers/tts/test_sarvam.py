"""The Sarvam synthesizer against a loopback endpoint, and the vendor's SDK against the same one."""

import asyncio
import base64
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from loopback_sarvam import CHAR_MS, KEY, Loopback, serving, tasks_left
from sarvamai import AsyncSarvamAI
from sarvamai.environment import SarvamAIEnvironment

from antiphon.conformance import KITS, Sample, examine, report
from antiphon.errors import ConfigError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.media.codec import mulaw_decode, mulaw_encode, wav_read
from antiphon.providers.tts import sarvam_socket
from antiphon.providers.tts.fake import tone
from antiphon.providers.tts.sarvam import SarvamSynthesizer, build
from antiphon.secret import Secret

TEXT = "फीस ₹1,250 है, और आवेदन जून में शुरू होते हैं।"
MARATHI = Sample(language="mr-IN", short="हो.", long=TEXT * 2)


def synthesizer(loopback: Loopback, **settings: object) -> SarvamSynthesizer:
    places = {"base_url": loopback.base_url, "ws_url": loopback.ws_url, "api_key": Secret(KEY)}
    return build({**places, **settings})


def run(main: Callable[[Loopback], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with serving() as loopback:
            await main(loopback)
            assert not tasks_left()

    asyncio.run(serve())


async def spoken(tts: SarvamSynthesizer, text: str = TEXT, rate: int = 8000, **more: Any) -> bytes:
    pieces = []
    async for sound in tts.synthesize(text, **{"language": "hi-IN", "sample_rate": rate, **more}):
        assert len(sound.pcm) % 2 == 0
        pieces.append(sound.pcm)
    return b"".join(pieces)


async def error_of(tts: SarvamSynthesizer, text: str = TEXT, **more: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await spoken(tts, text, **more)
    assert (caught.value.stage, caught.value.provider) == ("tts", "sarvam")
    return caught.value


def expected(text: str = TEXT, rate: int = 8000) -> bytes:
    return tone(rate, len(text) * CHAR_MS * rate // 1000)


def told(loopback: Loopback, kind: str, connection: int = 0) -> list[Any]:
    return [each.get("data") for each in loopback.messages["voice"][connection] if each["type"] == kind]


# -- what goes well -----------------------------------------------------------------------------


def test_sound_streams_and_the_socket_is_used_again() -> None:
    async def main(loopback: Loopback) -> None:
        tts = synthesizer(loopback)
        await tts.start()
        for text in (TEXT, "Yes.", TEXT):
            assert await spoken(tts, text) == expected(text)
        assert loopback.requests["voice"] == [{"model": "bulbul:v3", "send_completion_event": "true"}]
        assert (
            told(loopback, "config")
            == [
                {
                    "model": "bulbul:v3",
                    "language_code": "hi-IN",
                    "speaker": "shubh",
                    "speech_sample_rate": 8000,
                    "output_audio_codec": "linear16",
                }
            ]
            * 3
        )
        assert told(loopback, "text") == [{"text": TEXT}, {"text": "Yes."}, {"text": TEXT}]
        assert not loopback.requests["tts"]
        await tts.close()
        await tts.close()
        await loopback.until(lambda: loopback.closed["voice"] == 1)

    run(main)


def test_the_first_sound_comes_before_the_rest_is_made() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.piece_s = 0.02
        tts = synthesizer(loopback)
        async with aclosing(tts.synthesize(TEXT, language="hi-IN", sample_rate=8000)) as sounds:
            assert (await anext(sounds)).pcm == expected()[:1600]
            assert loopback.produced <= 2
            rest = [sound async for sound in sounds]
        assert len(rest) > 20
        await tts.close()

    run(main)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_each_rate_is_asked_for_or_made(rate: int) -> None:
    async def main(loopback: Loopback) -> None:
        tts = synthesizer(loopback)
        pcm = await spoken(tts, rate=rate)
        assert told(loopback, "config")[0]["speech_sample_rate"] == min(rate, 24_000)
        assert abs(len(pcm) / 2 / rate - len(TEXT) * CHAR_MS / 1000) < 0.01
        wave = np.abs(np.fft.rfft(np.frombuffer(pcm, "<i2")))
        assert abs(np.argmax(wave) * rate / (len(pcm) / 2) - 440) < 2
        await tts.close()

    run(main)


def test_mulaw_is_asked_for_on_the_telephone_only() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.content_type = "audio/basic"
        tts = synthesizer(loopback, codec="mulaw")
        assert await spoken(tts) == mulaw_decode(mulaw_encode(expected()))
        assert await spoken(tts, rate=16_000) == expected(rate=16_000)
        assert [each["output_audio_codec"] for each in told(loopback, "config")] == ["mulaw", "linear16"]
        await tts.close()

    run(main)


@pytest.mark.parametrize("fault", ["odd", "wav"])
def test_half_samples_and_headers_do_no_harm(fault: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["voice_socket"] = [fault]
        tts = synthesizer(loopback)
        assert await spoken(tts) == expected()
        assert not loopback.requests["tts"]
        await tts.close()

    run(main)


def test_voices_and_languages_are_chosen() -> None:
    async def main(loopback: Loopback) -> None:
        settings: dict[str, object] = {"speaker": "ritu", "speakers": {"te-IN": "kavya", "GU": "rohan"}, "pace": 1.1}
        tts = synthesizer(loopback, **settings, temperature=0.3, dict_id="d1")
        for language, voice in (("te-IN", ""), ("gu", ""), ("or-IN", ""), ("fr-FR", ""), ("hi-IN", "priya")):
            await spoken(tts, "Yes.", language=language, voice=voice)
        configs = told(loopback, "config")
        assert [(each["language_code"], each["speaker"]) for each in configs] == [
            ("te-IN", "kavya"),
            ("gu-IN", "rohan"),
            ("od-IN", "ritu"),
            ("en-IN", "ritu"),
            ("hi-IN", "priya"),
        ]
        assert {key: configs[0][key] for key in ("pace", "temperature", "dict_id")} == {
            "pace": 1.1,
            "temperature": 0.3,
            "dict_id": "d1",
        }
        await tts.close()

    run(main)


def test_long_texts_go_in_several_messages_and_wordless_ones_not_at_all() -> None:
    async def main(loopback: Loopback) -> None:
        tts = synthesizer(loopback)
        long = " ".join([TEXT] * 40)
        pcm = await spoken(tts, long)
        texts = [each["text"] for each in told(loopback, "text")]
        assert all(len(text) <= 500 for text in texts)
        assert " ".join(texts) == long
        assert pcm == expected("".join(texts))
        for nothing in ("", " \n", "…?!", "\x00"):
            assert await spoken(tts, nothing) == b""
        await spoken(tts, "a\x00b\x07c\ud800")
        assert told(loopback, "text")[-1]["text"] == "a b c"
        assert (await error_of(tts, "x" * 10_001)).code == "tts.too_long"
        assert (await error_of(tts, rate=12_345)).code == "tts.sample_rate"
        await tts.close()

    run(main)


def test_the_vendors_sdk_hears_the_same_from_the_same_server() -> None:
    async def main(loopback: Loopback) -> None:
        tts = synthesizer(loopback)
        ours = await spoken(tts)
        place = SarvamAIEnvironment(base=loopback.base_url, creative=loopback.base_url, production=loopback.ws_url)
        sdk = AsyncSarvamAI(api_subscription_key=KEY, environment=place)
        theirs = b""
        # Its configure() sends pitch and loudness, which v3 refuses: so it asks for the model that takes them.
        async with sdk.text_to_speech_streaming.connect(model="bulbul:v2", send_completion_event="true") as ws:
            await ws.configure(
                target_language_code="hi-IN", speaker="anushka", speech_sample_rate=8000, output_audio_codec="linear16"
            )
            await ws.convert(TEXT)
            await ws.flush()
            async for message in ws:
                if message.type == "event":
                    assert message.data.event_type == "final"
                    break
                theirs += base64.b64decode(message.data.audio)
        assert ours == theirs == expected()
        mine, sdks = told(loopback, "config")[0], told(loopback, "config", 1)[0]
        assert {**mine, "speaker": "anushka"}.items() <= {**sdks, "model": "bulbul:v3"}.items()
        assert loopback.requests["voice"][0].keys() == loopback.requests["voice"][1].keys()
        whole = await sdk.text_to_speech.convert(
            text=TEXT, language_code="hi-IN", speech_sample_rate=8000, output_audio_codec="wav", model="bulbul:v3"
        )
        assert wav_read(base64.b64decode(whole.audios[0])) == (ours, 8000)
        loopback.script["voice"] = ["500"]
        assert await spoken(synthesizer(loopback)) == ours
        mine, sdks = loopback.requests["tts"][1], loopback.requests["tts"][0]
        assert sdks.items() <= mine.items()
        await tts.close()

    run(main)


# -- the way back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("voice", "500"),
        ("voice", "429"),
        ("voice", "hang"),
        ("voice", "reset"),
        ("voice", "garbage"),
        ("voice", "redirect"),
        ("voice_socket", "silent"),
        ("voice_socket", "error"),
        ("voice_socket", "server_error"),
        ("voice_socket", "bad_json"),
        ("voice_socket", "bad_utf8"),
        ("voice_socket", "bad_close"),
        ("voice_socket", "mp3"),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_what_the_socket_does_not_give_comes_over_rest(endpoint: str, fault: str, rate: int) -> None:
    async def main(loopback: Loopback) -> None:
        # A reset handshake is tried twice by the HTTP client itself.
        loopback.script[endpoint] = [fault] * (2 if fault == "reset" else 1)
        tts = synthesizer(loopback, connect_s=0.1, first_s=0.15)
        pcm = await spoken(tts, rate=rate)
        assert abs(len(pcm) - len(expected(rate=rate))) < 10
        assert loopback.requests["tts"] == [
            {
                "model": "bulbul:v3",
                "language_code": "hi-IN",
                "speaker": "shubh",
                "text": TEXT,
                "speech_sample_rate": min(rate, 24_000),
                "output_audio_codec": "wav",
            }
        ]
        assert not loopback.requests["elsewhere"]
        # The next text is streamed again.
        assert await spoken(tts) == expected()
        assert len(loopback.requests["tts"]) == 1
        await tts.close()

    run(main)


def test_over_rest_a_text_is_split_at_the_endpoints_limit() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["voice"] = ["500"]
        tts = synthesizer(loopback, spares=0)
        long = " ".join([TEXT] * 120)
        pcm = await spoken(tts, long)
        texts = [each["text"] for each in loopback.requests["tts"]]
        assert len(texts) == 3
        assert all(len(text) <= 2500 for text in texts)
        assert pcm == b"".join(expected(text) for text in texts)
        await tts.close()

    run(main)


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        ("500", "tts.server", ProviderError),
        ("429", "tts.rate_limited", ProviderError),
        ("quota", "tts.quota", ProviderRefused),
        ("garbage", "tts.garbage", ProviderError),
        ("bad_utf8", "tts.garbage", ProviderError),
        ("redirect", "tts.bad_endpoint", ProviderRefused),
        ("reset", "tts.unreachable", ProviderError),
        ("hang", "tts.timeout_total", ProviderTimeout),
    ],
)
def test_what_neither_gives_is_told(fault: str, code: str, kind: type[ProviderError]) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["voice"], loopback.script["tts"] = ["500"], [fault]
        tts = synthesizer(loopback, rest_s=0.2)
        error = await error_of(tts)
        assert (error.code, type(error)) == (code, kind)
        assert error.retry_after_s == (3.0 if fault == "429" else None)
        await tts.close()

    run(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut", "tts.server"),
        ("reset", "tts.cut"),
        ("stall", "tts.timeout_stalled"),
        ("no_final", "tts.timeout_stalled"),
    ],
)
def test_a_break_within_the_sound_is_told_and_nothing_said_twice(fault: str, code: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["voice_socket"] = [fault]
        tts = synthesizer(loopback, between_s=0.1)
        heard = b""
        with pytest.raises(ProviderError) as caught:  # noqa: PT012 - the sound before the error counts
            async for sound in tts.synthesize(TEXT, language="hi-IN", sample_rate=8000):
                heard += sound.pcm
        assert caught.value.code == code
        assert heard
        assert expected().startswith(heard)
        assert not loopback.requests["tts"]
        assert await spoken(tts) == expected()
        await tts.close()

    run(main)


def test_without_credit_nothing_else_is_tried() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["voice"] = ["quota"]
        tts = synthesizer(loopback)
        assert (await error_of(tts)).code == "tts.quota"
        assert not loopback.requests["tts"]
        await tts.close()

    run(main)


def test_sound_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.providers.tts.sarvam.MAX_CHAR_S", CHAR_MS / 2000)
    monkeypatch.setattr("antiphon.providers.tts.sarvam.SPARE_S", 0.0)

    async def main(loopback: Loopback) -> None:
        tts = synthesizer(loopback)
        assert (await error_of(tts)).code == "tts.too_large"
        await loopback.until(lambda: loopback.closed["voice"] == 1)
        await tts.close()

    run(main)


# -- sockets ------------------------------------------------------------------------------------


def test_giving_up_closes_the_socket_and_another_is_opened_for_the_next_text() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.piece_s = 0.02
        tts = synthesizer(loopback)
        sounds = tts.synthesize(TEXT, language="hi-IN", sample_rate=8000)
        await anext(sounds)
        began = time.monotonic()
        await sounds.aclose()
        assert time.monotonic() - began < 0.1
        await loopback.until(lambda: loopback.closed["voice"] == 1)
        made = loopback.produced
        await loopback.until(lambda: len(loopback.messages["voice"]) == 2)
        await asyncio.gather(*tts._voices._tasks)
        loopback.piece_s = 0.0
        assert await spoken(tts) == expected()
        assert len(loopback.requests["voice"]) == 2
        assert made < 10
        task = asyncio.create_task(spoken(tts, "another text"))
        loopback.script["voice_socket"] = ["silent"]
        await loopback.until(lambda: len(told(loopback, "text", 1)) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await loopback.until(lambda: loopback.closed["voice"] == 2)
        await tts.close()
        await loopback.until(lambda: loopback.closed["voice"] == len(loopback.requests["voice"]))

    run(main)


def test_requests_at_the_same_time_have_sockets_of_their_own_and_few_are_kept() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.piece_s = 0.001
        tts = synthesizer(loopback, spares=2)
        texts = [TEXT[: 10 + 4 * number] + "." for number in range(6)]
        assert await asyncio.gather(*(spoken(tts, text) for text in texts)) == [expected(text) for text in texts]
        assert len(loopback.requests["voice"]) == 6
        await loopback.until(lambda: loopback.closed["voice"] == 4)
        await tts.close()

    run(main)


def test_a_socket_that_was_closed_while_idle_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loopback: Loopback) -> None:
        tts = synthesizer(loopback)
        assert await spoken(tts) == expected()
        await loopback.drop("voice")
        assert await spoken(tts) == expected()
        monkeypatch.setattr(sarvam_socket, "FRESH_S", 0.0)
        assert await spoken(tts) == expected()
        assert len(loopback.requests["voice"]) == 3
        assert not loopback.requests["tts"]
        await tts.close()

    run(main)


def test_closing_the_synthesizer_ends_requests_and_it_can_be_started_again() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["voice_socket"] = ["silent"]
        tts = synthesizer(loopback)
        task = asyncio.create_task(error_of(tts))
        await loopback.until(lambda: loopback.messages["voice"] and told(loopback, "text"))
        await tts.close()
        assert (await task).code == "tts.closed"
        assert (await error_of(tts)).code == "tts.closed"
        assert len(loopback.requests["voice"]) == 1
        await tts.start()
        assert await spoken(tts) == expected()
        await tts.close()

    run(main)


# -- settings, secrets --------------------------------------------------------------------------


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SARVAM_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="set SARVAM_API_KEY"):
        build({})
    monkeypatch.setenv("SARVAM_API_KEY", KEY)
    assert build({"model": "bulbul:v4-flash"}).settings.voice("hi-IN", "")["speaker"] == "shubh_enhi_ads"
    assert build({"model": "bulbul:v9", "speaker": "x"}).settings.voice("hi-IN", "")["speaker"] == "x"
    old = build({"language_field": "target_language_code"}).settings.voice("te-IN", "")
    assert (old["target_language_code"], "language_code" in old) == ("te-IN", False)
    for settings, said in (
        ({"model": "bulbul:v9"}, "speaker must be set"),
        ({"default_language": "fr-FR"}, "default_language 'fr-FR' is not spoken"),
        ({"codec": "mp3"}, "choose one of linear16, mulaw"),
        ({"ws_url": "api.sarvam.ai"}, "ws_url must be"),
    ):
        with pytest.raises(ConfigError, match=said):
            build(settings)


def test_a_wrong_key_is_refused_and_no_key_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "sk_wrong_secret_abcdef"

    async def main(loopback: Loopback) -> None:
        tts = synthesizer(loopback, api_key=Secret(wrong))
        error = await error_of(tts)
        assert (error.code, type(error)) == ("tts.unauthorized", ProviderRefused)
        with pytest.raises(ProviderRefused, match=r"tts\.unauthorized"):
            await tts.check()
        await tts.close()
        good = synthesizer(loopback)
        assert await good.check() == f"{loopback.ws_url} takes the key"
        loopback.script["voice_socket"], loopback.script["tts"] = ["error"], ["500"]
        failed = await error_of(good)
        assert "your key is ***" in str(failed)
        await good.close()
        shown = [str(error), repr(error), str(failed), repr(tts.settings), repr(good), caplog.text]
        shown += [str(record.__dict__) for record in caplog.records]
        assert "bad speaker for ***" in caplog.text
        assert not any(key in each for key in (wrong, KEY) for each in shown)

    run(main)


@pytest.mark.parametrize("sample", [Sample(), MARATHI], ids=lambda sample: sample.language)
@pytest.mark.parametrize("fault", ["", "500"])
def test_it_conforms(sample: Sample, fault: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["voice"] = [fault] * 1000 if fault else []
        loopback.piece_s = 0.0 if fault else 0.001
        began = time.monotonic()
        results = await examine(KITS["tts"], lambda: synthesizer(loopback), sample)
        print(report(results))
        assert all(result.passed for result in results)
        assert time.monotonic() - began < 8

    run(main)
