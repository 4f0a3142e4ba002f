"""The ElevenLabs synthesizer against a loopback service, and the vendor's SDK against the same one."""

import asyncio
import logging
import pickle
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from elevenlabs import AsyncElevenLabs, VoiceSettings
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import WebsocketTtsClientMessageMulti, WebsocketTtsServerMessageMulti
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from loopback_elevenlabs import CHAR_MS, KEY, VOICE, Loopback, length_ms, serving, sound

from antiphon.conformance import KITS, examine, report
from antiphon.errors import ConfigError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.media.codec import mulaw_decode
from antiphon.providers.tts import elevenlabs_sockets
from antiphon.providers.tts.elevenlabs import ElevenLabsSynthesizer, build
from antiphon.providers.tts.elevenlabs_wire import Alignment, Marks, WordTimes
from antiphon.providers.tts.spoken import prepare
from antiphon.runtime.ports import Sound, WordMark
from antiphon.secret import Secret

TEXT = "Hello there, the fee is due on Monday."


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ELEVENLABS_API_KEY", "ANTIPHON_SECRETS_FILE"):
        monkeypatch.delenv(variable, raising=False)


def synthesizer(loopback: Loopback, **settings: object) -> ElevenLabsSynthesizer:
    return build({"base_url": loopback.base_url, "api_key": Secret(KEY), **settings})


def run(main: Callable[[Loopback], Awaitable[None]], **state: Any) -> None:
    async def serve() -> None:
        loopback = Loopback()
        for name, value in state.items():
            setattr(loopback, name, value)
        async with serving(loopback):
            await main(loopback)
            left = {task for task in asyncio.all_tasks() if "antiphon" in repr(task.get_coro())}
            assert not left, "a task outlives the synthesizer"

    asyncio.run(serve())


async def spoken(
    voice: ElevenLabsSynthesizer, text: str = TEXT, language: str = "en-IN", rate: int = 8000, name: str = ""
) -> list[Sound]:
    return [each async for each in voice.synthesize(text, language=language, sample_rate=rate, voice=name)]


def pcm(sounds: list[Sound]) -> bytes:
    return b"".join(each.pcm for each in sounds)


def marks(sounds: list[Sound]) -> list[WordMark]:
    return [mark for each in sounds for mark in each.words]


def expected_marks(text: str, rate: int = 8000) -> list[WordMark]:
    starts = [at for at in range(len(text)) if not text[at].isspace() and (at == 0 or text[at - 1].isspace())]
    return [WordMark(at, at * CHAR_MS * rate // 1000) for at in starts]


async def error_of(voice: ElevenLabsSynthesizer, text: str = TEXT) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await spoken(voice, text)
    assert (caught.value.stage, caught.value.provider) == ("tts", "elevenlabs")
    return caught.value


# -- what goes well -----------------------------------------------------------------------------


def test_one_warm_socket_serves_one_text_after_another() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, stability=0.5, similarity=0.75, speed=1.1)
        await voice.start()
        for number in range(1, 8):
            sounds = await spoken(voice)
            assert pcm(sounds) == mulaw_decode(sound(TEXT, "ulaw_8000"))
            assert marks(sounds) == expected_marks(TEXT)
            assert len(loopback.received) == 1
            first, text, close = loopback.received[0][-3:]
            assert first == {
                "text": " ",
                "context_id": f"s{number}",
                "voice_settings": {"stability": 0.5, "similarity_boost": 0.75, "speed": 1.1},
            }
            assert text == {"text": f"{TEXT} ", "context_id": f"s{number}", "flush": True}
            assert close == {"context_id": f"s{number}", "close_context": True}
        assert loopback.most_contexts == 1
        assert loopback.queries == [
            {
                "voice": VOICE,
                "model_id": "eleven_flash_v2_5",
                "output_format": "ulaw_8000",
                "auto_mode": "true",
                "sync_alignment": "true",
                "inactivity_timeout": "180",
                "language_code": "en",
            }
        ]
        await voice.close()
        await voice.close()

    run(main)


def test_the_first_sound_comes_before_the_rest_is_generated() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        began, first = time.monotonic(), 0.0
        async for _ in voice.synthesize(TEXT, language="en", sample_rate=8000):
            first = first or time.monotonic() - began
        assert first < 0.2
        assert time.monotonic() - began > 0.3
        await voice.close()

    run(main, chunk_s=0.06)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_every_rate_is_asked_for_or_made(rate: int) -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        sounds = await spoken(voice, rate=rate)
        assert length_ms(pcm(sounds), rate) == pytest.approx(len(TEXT) * CHAR_MS, abs=3)
        for mark, expected in zip(marks(sounds), expected_marks(TEXT, rate), strict=True):
            assert (mark.char, mark.sample) == (expected.char, pytest.approx(expected.sample, abs=2))
        given = 0
        for each in sounds:
            given += len(each.pcm) // 2
            assert all(mark.sample < given for mark in each.words)
        wanted = {8000: "ulaw_8000", 16_000: "pcm_16000", 22_050: "pcm_22050"}.get(rate, "pcm_24000")
        assert loopback.queries[0]["output_format"] == wanted
        await voice.close()

    run(main)


def test_texts_at_once_share_sockets_and_are_kept_apart() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, contexts=3)
        texts = [f"{word} is what is said here." for word in ("One", "Seventeen", "Constitution", "A")] * 2
        found = await asyncio.gather(*(spoken(voice, text) for text in texts))
        for text, sounds in zip(texts, found, strict=True):
            assert pcm(sounds) == mulaw_decode(sound(text, "ulaw_8000"))
            assert marks(sounds) == expected_marks(text)
        assert loopback.most_contexts <= 3
        before = len(loopback.received)
        await spoken(voice)
        assert len(loopback.received) == before
        await voice.close()
        assert loopback.open_sockets == 0

    run(main, chunk_s=0.002)


def test_it_conforms() -> None:
    async def main(loopback: Loopback) -> None:
        results = await examine(KITS["tts"], lambda: synthesizer(loopback))
        print(report(results))
        assert all(result.passed for result in results)

    run(main)


def test_it_conforms_over_http() -> None:
    async def main(loopback: Loopback) -> None:
        results = await examine(KITS["tts"], lambda: synthesizer(loopback, transport="http"))
        print(report(results))
        assert all(result.passed for result in results)

    run(main)


# -- the vendor's own SDK -----------------------------------------------------------------------


def test_the_vendors_sdk_hears_the_same_and_sends_the_same() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, transport="http", stability=0.5, similarity=0.75, speed=1.1)
        ours = pcm(await spoken(voice, rate=16_000))
        sdk = AsyncElevenLabs(base_url=loopback.base_url, api_key=KEY)
        asked, query = loopback.bodies[0], loopback.queries[0]
        theirs = b""
        async for piece in sdk.text_to_speech.stream(
            query["voice"],
            text=asked["text"],
            model_id=asked["model_id"],
            language_code=asked["language_code"],
            output_format=query["output_format"],
            voice_settings=VoiceSettings(stability=0.5, similarity_boost=0.75, speed=1.1),
        ):
            theirs += piece
        assert theirs == ours
        assert loopback.bodies[1] == asked
        assert loopback.queries[1] == query
        assert (await sdk.voices.get(VOICE)).name == "George"
        loopback.script = ["429"]
        with pytest.raises(ApiError) as caught:
            async for _ in sdk.text_to_speech.stream(VOICE, text="x", request_options={"max_retries": 0}):
                pass
        assert caught.value.status_code == 429
        await sdk._client_wrapper.httpx_client.httpx_client.aclose()
        await voice.close()

    run(main)


def test_the_vendors_types_know_every_field_of_every_message() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, stability=0.5)
        await spoken(voice)
        for message in loopback.received[0]:
            read = WebsocketTtsClientMessageMulti.model_validate(message)
            # The type spells it contextId; the documents, and every client, send context_id.
            assert set(read.model_extra or {}) <= {"context_id"}
        for message in loopback.sent:
            read = WebsocketTtsServerMessageMulti.model_validate(message)
            assert set(read.model_extra or {}) <= {"isFinal"}  # is_final in the type, isFinal on the wire
            assert read.context_id == "s1"
        assert read.alignment is None
        await voice.close()

    run(main)


# -- what is asked ------------------------------------------------------------------------------


def test_voices_and_models_by_language() -> None:
    async def main(loopback: Loopback) -> None:
        hindi, own = "pFZP5JQG7iQjIQuC4Bku", "XrExE9yKIg1WjnnlVkGX"
        voice = synthesizer(loopback, voices={"hi": hindi}, models={"ta-IN": "eleven_multilingual_v2"})
        text = "नमस्ते, शुल्क कल देना है"
        for language in ("hi-IN", "ta-IN", "te-IN", "", "not a tag \x00"):
            await spoken(voice, text, language)
        await spoken(voice, text, "hi-IN", name=own)
        asked = [(query["voice"], query.get("model_id"), query.get("language_code")) for query in loopback.queries]
        flash = "eleven_flash_v2_5"
        assert asked == [
            (hindi, flash, "hi"),
            (VOICE, "eleven_multilingual_v2", None),
            (VOICE, None, None),  # over HTTP, where the body says it
            (VOICE, flash, None),
            (own, flash, "hi"),
        ]
        assert [(body["model_id"], body["language_code"]) for body in loopback.bodies] == [("eleven_v3", "te")]
        strict = synthesizer(loopback, other_model="")
        for wrong, code in (
            ({"language": "gu-IN"}, "tts.language"),
            ({"name": "no such voice \x00"}, "tts.voice"),
            ({"rate": 12_345}, "tts.sample_rate"),
            ({"text": "x" * 2001}, "tts.too_long"),
        ):
            with pytest.raises(ProviderRefused) as caught:
                await spoken(strict, **wrong)
            assert caught.value.code == code
        await strict.close()
        await voice.close()

    run(main)


def test_what_has_nothing_to_say_is_not_sent() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        for text in ("", "  \n", "!!! ...", "🎉", "**"):
            assert await spoken(voice, text) == []
        assert loopback.received == []
        await spoken(voice, "lone \ud800 surrogate")
        await voice.close()

    run(main)


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="set ELEVENLABS_API_KEY") as caught:
        build({})
    assert caught.value.code == "config.missing_key"
    monkeypatch.setenv("ELEVENLABS_API_KEY", KEY)
    assert build({}).endpoint.ws_url == "wss://api.elevenlabs.io"
    assert build({"base_url": "http://localhost:1/x/"}).endpoint.ws_url == "ws://localhost:1/x"
    for wrong, match in (
        ({"base_url": "localhost:8000"}, "base_url must be"),
        ({"ws_url": "http://x"}, "ws_url must be"),
        ({"voice": "George!"}, "a voice is an id"),
        ({"voices": {"hi": ""}}, "a voice is an id"),
        ({"speed": 3}, "speed"),
        ({"contexts": 6}, "contexts"),
        ({"modle": "x"}, "did you mean 'model'"),
    ):
        with pytest.raises(ConfigError, match=match):
            build(wrong)


# -- interruptions ------------------------------------------------------------------------------


def test_a_text_that_is_given_up_is_not_heard_and_its_socket_goes_on() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        for _ in range(3):
            parts = voice.synthesize("This is given up soon. " * 4, language="en", sample_rate=8000)
            assert (await anext(parts)).pcm
            await parts.aclose()
        assert [message["context_id"] for message in loopback.received[0] if message.get("close_context")] == [
            "s1",
            "s2",
            "s3",
        ]
        assert pcm(await spoken(voice)) == mulaw_decode(sound(TEXT, "ulaw_8000"))
        assert len(loopback.received) <= 2
        await voice.close()

    run(main, chunk_s=0.005)


def test_quick_interruptions_never_open_a_sixth_context() -> None:
    """Contexts that are closing count too: the vendor ends the connection, and everybody's speech, for one too many."""

    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, contexts=5)
        for _ in range(12):
            parts = voice.synthesize("Interrupted.", language="en", sample_rate=8000)
            await anext(parts)
            await parts.aclose()
        assert loopback.most_contexts == 5
        assert len(loopback.received) == 3
        await asyncio.sleep(0.3)
        before = len(loopback.received)
        assert pcm(await spoken(voice))
        assert len(loopback.received) == before
        await voice.close()

    run(main, final_s=0.2)


def test_a_given_up_text_that_never_ends_keeps_its_socket_from_being_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elevenlabs_sockets, "UNHEARD_S", 0.05)

    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        loopback.script = ["no_final"]
        parts = voice.synthesize(TEXT, language="en", sample_rate=8000)
        await anext(parts)
        await parts.aclose()
        await asyncio.sleep(0.1)
        assert loopback.open_sockets == 0
        assert pcm(await spoken(voice))
        await voice.close()

    run(main)


def test_a_cancelled_task_leaves_nothing_behind() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        for steps in (0, 1, 2, 5, 20):
            task = asyncio.create_task(spoken(voice))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        loopback.asked.clear()
        task = asyncio.create_task(spoken(voice, "Something long. " * 20))
        await loopback.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pcm(await spoken(voice))
        await voice.close()
        assert loopback.open_sockets == 0

    run(main, chunk_s=0.005)


def test_an_idle_socket_is_closed_before_the_vendor_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elevenlabs_sockets, "IDLE_S", 0.05)

    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        await spoken(voice)
        await asyncio.sleep(0.1)
        assert loopback.open_sockets == 0
        await spoken(voice)
        assert len(loopback.received) == 2
        await voice.close()

    run(main)


# -- over HTTP ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["html", "500", "422", "hang"])
def test_where_no_socket_can_be_opened_http_streams(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, connect_s=0.1)
        loopback.handshakes = [fault]
        for _ in range(2):
            sounds = await spoken(voice)
            assert pcm(sounds) == mulaw_decode(sound(TEXT, "ulaw_8000"))
            assert marks(sounds) == []
        # The second text did not try the socket, which would be open by now.
        assert loopback.received == []
        assert len(loopback.bodies) == 2
        voice._no_sockets_until = 0.0
        await spoken(voice)
        assert len(loopback.received) == 1
        await voice.close()
        assert caplog.text.count("no socket, so over HTTP") == 1

    run(main)


@pytest.mark.parametrize(
    ("fault", "code"), [("quota", "tts.quota"), ("404", "tts.not_found"), ("429", "tts.rate_limited")]
)
def test_what_the_vendor_refuses_is_not_asked_over_http(fault: str, code: str) -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        loopback.handshakes = [fault]
        assert (await error_of(voice)).code == code
        assert loopback.bodies == []
        await voice.close()

    run(main)


def test_closing_an_http_stream_ends_it_at_the_server_and_half_samples_are_made_whole() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, transport="http")
        loopback.script = ["odd"]
        sounds = await spoken(voice, rate=16_000)
        assert pcm(sounds)[:-2] == sound(TEXT, "pcm_16000")
        assert all(len(each.pcm) % 2 == 0 for each in sounds)
        loopback.chunk_s = 0.01
        parts = voice.synthesize("word " * 200, language="en", sample_rate=16_000)
        await anext(parts)
        await parts.aclose()
        await asyncio.wait_for(loopback.cancelled.wait(), 2)
        await voice.close()

    run(main)


# -- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [("quota_exceeded", "tts.quota"), ("invalid_api_key", "tts.unauthorized"), ("voice_not_found", "tts.not_found")],
)
def test_a_refusal_over_the_socket_is_told_apart_and_not_repeated(fault: str, code: str) -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        loopback.script = [fault]
        error = await error_of(voice)
        assert (error.code, type(error), error.retryable) == (code, ProviderRefused, False)
        assert len(loopback.received) == 1
        assert KEY not in str(error)
        assert pcm(await spoken(voice))
        await voice.close()

    run(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("concurrent_limit_exceeded", "tts.rate_limited"),
        ("1011", "tts.server"),
        ("garbage", "tts.garbage"),
        ("bad_utf8", "tts.garbage"),
        ("silent", "tts.empty"),
    ],
)
def test_a_failure_before_the_first_sound_is_told_at_once_and_may_pass(fault: str, code: str) -> None:
    """Whether it is asked again is for the stage to say."""

    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        loopback.script = [fault]
        error = await error_of(voice)
        assert (error.code, error.retryable) == (code, True)
        assert pcm(await spoken(voice)) == mulaw_decode(sound(TEXT, "ulaw_8000"))
        await voice.close()

    run(main)


@pytest.mark.parametrize("transport", ["socket", "http"])
def test_sound_that_breaks_off_is_told_and_not_said_again(transport: str) -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, transport=transport)
        loopback.script = ["cut"]
        heard = b""
        with pytest.raises(ProviderError, match=r"tts\.cut"):  # noqa: PT012 - the sound before the error counts
            async for each in voice.synthesize(TEXT, language="en", sample_rate=16_000):
                heard += each.pcm
        assert heard
        assert sound(TEXT, "pcm_16000").startswith(heard)
        assert len(loopback.received) + len(loopback.bodies) == 1
        assert pcm(await spoken(voice))
        await voice.close()

    run(main, chunk_s=0.005)


def test_a_socket_that_was_closed_while_idle_costs_no_text() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        await spoken(voice)
        loopback.script = ["1011"]  # as if it had been closed just before
        assert pcm(await spoken(voice)) == mulaw_decode(sound(TEXT, "ulaw_8000"))
        assert len(loopback.received) == 2
        await voice.close()

    run(main)


@pytest.mark.parametrize(
    ("fault", "code", "limits"),
    [
        ("hang", "tts.timeout_first_byte", {"first_sound_s": 0.1}),
        ("hang_middle", "tts.timeout_stalled", {"between_sounds_s": 0.1}),
        ("hang_middle", "tts.timeout_total", {"total_s": 0.2}),
    ],
)
@pytest.mark.parametrize("transport", ["socket", "http"])
def test_each_wait_has_its_limit(transport: str, fault: str, code: str, limits: dict[str, float]) -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, transport=transport, **limits)
        loopback.script = [fault]
        began = time.monotonic()
        error = await error_of(voice)
        assert (error.code, type(error)) == (code, ProviderTimeout)
        assert time.monotonic() - began < 1.0
        # A socket on which nothing came is not used for the next text.
        assert pcm(await spoken(voice, "Yes."))
        if transport == "socket":
            assert len(loopback.received) == 2
        await voice.close()
        assert loopback.open_sockets == 0

    run(main)


def test_no_more_connections_than_are_allowed() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback, contexts=1, max_connections=2)
        outcomes = await asyncio.gather(*(spoken(voice) for _ in range(3)), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, ProviderError)]
        assert [error.code for error in refused] == ["tts.rate_limited"]
        # Idle ones of another manner make room.
        await spoken(voice, rate=16_000)
        await spoken(voice, rate=24_000)
        assert loopback.open_sockets <= 2
        await voice.close()

    run(main, chunk_s=0.005)


def test_close_ends_what_is_under_way_and_opens_nothing_again() -> None:
    async def main(loopback: Loopback) -> None:
        for transport in ("socket", "http"):
            voice = synthesizer(loopback, transport=transport)
            loopback.asked.clear()
            pending = asyncio.create_task(spoken(voice, "Something long. " * 20))
            await loopback.asked.wait()
            await voice.close()
            with pytest.raises(ProviderError):
                await pending
            assert voice._session is None
            with pytest.raises(ProviderError, match=r"tts\.closed"):
                await spoken(voice)
            await voice.start()
            assert pcm(await spoken(voice, "Yes."))
            await voice.close()

    run(main, chunk_s=0.01)


def test_nobody_there_is_unreachable() -> None:
    async def main() -> None:
        voice = build({"base_url": "http://127.0.0.1:9", "api_key": KEY})
        assert (await error_of(voice)).code == "tts.unreachable"
        await voice.close()

    asyncio.run(main())


def test_the_check_asks_for_the_voice() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        assert (await voice.check()).endswith(f"has the voice {VOICE}")
        await voice.close()
        other = synthesizer(loopback, voice="XrExE9yKIg1WjnnlVkGX")
        with pytest.raises(ProviderRefused, match=r"tts\.not_found"):
            await other.check()
        await other.close()
        wrong = synthesizer(loopback, api_key="sk_wrong")
        with pytest.raises(ProviderRefused, match="lets it speak only"):
            await wrong.check()
        await wrong.close()

    run(main)


def test_a_wrong_key_is_refused_and_no_key_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "sk_wrong_secret_abcdef"

    async def main(loopback: Loopback) -> None:
        shown = []
        for transport in ("socket", "http"):
            bad = synthesizer(loopback, api_key=Secret(wrong), transport=transport)
            error = await error_of(bad)
            assert (error.code, type(error)) == ("tts.unauthorized", ProviderRefused)
            good = synthesizer(loopback, transport=transport)
            loopback.handshakes = ["500"] * 2
            loopback.script = ["500"] * 9
            failed = await error_of(good)
            assert "your key is ***" in str(failed)
            loopback.script = []
            shown += [str(error), repr(error), repr(failed), repr(bad), repr(bad.settings), repr(good.endpoint)]
            with pytest.raises(TypeError):
                pickle.dumps(good.settings.api_key)
            await bad.close()
            await good.close()
        shown += [caplog.text, *(str(record.__dict__) for record in caplog.records)]
        assert not any(key in each for key in (wrong, KEY) for each in shown)
        assert all(KEY not in str(query) for query in loopback.queries)

    run(main)


# -- when words begin ---------------------------------------------------------------------------


def test_a_second_alignment_that_begins_again_marks_no_word_twice() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        assert marks(await spoken(voice)) == expected_marks(TEXT)
        await voice.close()

    run(main, alignment="restart")


def test_words_that_are_read_otherwise_are_left_out_and_the_others_found() -> None:
    async def main(loopback: Loopback) -> None:
        voice = synthesizer(loopback)
        text = "Please take line 7 now and then go on."
        found = marks(await spoken(voice, text, "de"))
        words = [text[mark.char :].partition(" ")[0] for mark in found]
        # The stand-in's sound is that of the text as written: its last word would begin after the end.
        assert " ".join(words) == "Please take line now and then go"
        samples = [mark.sample for mark in found]
        assert samples == sorted(samples)
        await voice.close()

    run(main, alignment="normalized", chunk_chars=100)


def _alignment(text: str, start: int = 0) -> Alignment:
    return Alignment(list(text), [float(10 * at) for at in range(len(text))], [10.0] * len(text))


WORDS = st.lists(st.text("abc.,é", min_size=1, max_size=5), min_size=1, max_size=8)


@hypothesis_settings(max_examples=200)
@given(WORDS, st.lists(st.integers(0, 60), max_size=5))
def test_marks_are_the_same_however_the_alignment_is_cut(words: list[str], cuts: list[int]) -> None:
    text = " ".join(words)
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    times = WordTimes(text, prepare(text, "xx"))
    found = [mark for a, b in pairwise(edges) for mark in times.feed(_alignment(text[a:b]))]
    starts = [at for at in range(len(text)) if at == 0 or text[at - 1] == " "]
    assert [char for char, _ in found] == starts
    assert [ms for _, ms in found] == [10.0 * at for at in starts]


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=5))
def test_any_alignment_at_all_gives_marks_that_go_forwards_and_name_words(text: str, told: list[str]) -> None:
    times = WordTimes(text, prepare(text, "en"))
    found = [mark for each in told for mark in times.feed(_alignment(each))]
    chars = [char for char, _ in found]
    assert chars == sorted(set(chars))
    assert all(0 <= char < len(text) and not text[char].isspace() for char in chars)


def test_marks_wait_for_their_sound_and_never_go_back() -> None:
    waiting = Marks(8000)
    for char, ms in ((0, 0.0), (5, 100.0), (9, 90.0), (12, 1000.0)):
        waiting.add(char, ms)
    assert waiting.upto(800) == (WordMark(0, 0),)
    assert waiting.upto(801) == (WordMark(5, 800), WordMark(9, 800))
    assert waiting.upto(2000, end=True) == (WordMark(12, 1999),)
