"""The Sarvam transcriber against a loopback endpoint, and the vendor's SDK against the same one."""

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loopback_sarvam import KEY, LANGUAGE, PROBABILITY, WORDS, Loopback, serving, tasks_left
from sarvamai import AsyncSarvamAI
from sarvamai.environment import SarvamAIEnvironment
from sarvamai.types import RealtimeAudioInput, RealtimeFlush, RealtimeSpeechEnd, RealtimeSpeechStart

from antiphon.conformance import KITS, Sample, examine, report
from antiphon.conformance.voice import made_up_voice
from antiphon.errors import ConfigError, ProviderError, ProviderRefused
from antiphon.media.codec import wav_read
from antiphon.providers.sarvam_wire import HeardEvent
from antiphon.providers.stt import sarvam_link, sarvam_stream
from antiphon.providers.stt.sarvam import SarvamTranscriber, build
from antiphon.runtime.ports import Heard
from antiphon.secret import Secret

SPEECH = made_up_voice(syllables=6)
FRAME = 320
TAIL = 4000
"""Bytes that rounding, resampling and filters may cost."""


class Ear:
    """A stream and what it told."""

    def __init__(self, stt: SarvamTranscriber, *, rate: int = 8000, language: str = "hi-IN") -> None:
        self.heard: list[Heard] = []
        self._news = asyncio.Event()
        self.stream = stt.open(sample_rate=rate, language=language, on_heard=self._on_heard)

    def _on_heard(self, heard: Heard) -> None:
        self.heard.append(heard)
        self._news.set()

    async def say(self, pcm: bytes = SPEECH) -> None:
        for at in range(0, len(pcm), FRAME):
            self.stream.feed(pcm[at : at + FRAME])
            if at % (10 * FRAME) == 0:
                await asyncio.sleep(0)

    def ends(self) -> list[Heard]:
        return [heard for heard in self.heard if heard.final]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not true():
                self._news.clear()
                with contextlib.suppress(TimeoutError):  # not all that is waited for is a report
                    await asyncio.wait_for(self._news.wait(), 0.01)

    async def end_of(self, utterance: int) -> Heard:
        await self.until(lambda: any(heard.utterance == utterance for heard in self.ends()))
        (end,) = [heard for heard in self.ends() if heard.utterance == utterance]
        return end

    async def asked(self, pcm: bytes = SPEECH, utterance: int = 1) -> Heard:
        await self.say(pcm)
        self.stream.finish(utterance)
        return await self.end_of(utterance)


def transcriber(loopback: Loopback, **settings: object) -> SarvamTranscriber:
    places = {"base_url": loopback.base_url, "ws_url": loopback.ws_url, "api_key": Secret(KEY)}
    return build({**places, **settings})


def run(main: Callable[[Loopback], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with serving() as loopback:
            await main(loopback)
            assert not tasks_left()

    asyncio.run(serve())


def sent(loopback: Loopback, connection: int = 0) -> list[str]:
    """The events of a connection, repetitions of ``audio_input`` left out."""
    events = [message["event"] for message in loopback.messages["realtime"][connection]]
    return [event for at, event in enumerate(events) if at == 0 or event != events[at - 1]]


def audio(loopback: Loopback, connection: int = 0) -> bytes:
    messages = loopback.messages["realtime"][connection]
    return b"".join(base64.b64decode(each["audio"]) for each in messages if each["event"] == "audio_input")


# -- what goes well -----------------------------------------------------------------------------


def test_words_come_while_the_caller_speaks_and_the_language_with_the_final() -> None:
    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback)
        await stt.start()
        ear = Ear(stt)
        await ear.say(SPEECH[:12_800])
        await ear.until(lambda: bool(ear.heard))
        assert ear.heard == [Heard(1, WORDS.split(" ")[0], language=LANGUAGE)]
        await ear.say(SPEECH[12_800:])
        ear.stream.finish(1)
        end = await ear.end_of(1)
        assert end == Heard(1, WORDS, True, language=LANGUAGE, language_confidence=PROBABILITY)
        assert sent(loopback) == ["speech_start", "audio_input", "speech_end"]
        assert audio(loopback) == SPEECH
        assert loopback.requests["realtime"] == [
            {
                "language_code": "auto",
                "model": "saaras:v3-realtime",
                "stream_type": "fast",
                "mode": "transcribe",
                "endpointing": "manual",
                "encoding": "linear16",
                "sample_rate": "8000",
            }
        ]
        assert not loopback.requests["stt"]
        await stt.close()
        await stt.close()
        await loopback.until(lambda: loopback.closed["realtime"] == 1)

    run(main)


def test_utterances_share_a_connection_and_are_answered_in_order() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.final_s = 0.02
        stt = transcriber(loopback)
        ear = Ear(stt)
        for utterance in (1, 2, 3, 4):
            await ear.say(SPEECH[:16_000] if utterance != 3 else b"")
            ear.stream.finish(utterance)
        await ear.end_of(4)
        assert [(end.utterance, end.text) for end in ear.ends()] == [(1, WORDS), (2, WORDS), (3, ""), (4, WORDS)]
        assert sent(loopback) == ["speech_start", "audio_input", "speech_end"] * 3
        assert len(loopback.messages["realtime"]) == 1
        await stt.close()

    run(main)


def test_the_language_of_the_call_is_sent_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback, language="hint", model="saaras:v4", keyterms=["IIT Delhi"], prompt="admissions")
        ear = Ear(stt, language="te-IN")
        end = await ear.asked()
        assert (end.language, end.language_confidence) == ("te-IN", 0.0)
        for utterance, hint, expected in ((2, "or-IN", "or-IN"), (3, "bn-IN", "or-IN"), (4, "fr-FR", LANGUAGE)):
            ear.stream.hint(hint)
            assert (await ear.asked(utterance=utterance)).language == expected
        asked = loopback.requests["realtime"][0]
        assert asked["language_code"] == "te-IN"
        assert (asked["keyterms"], asked["prompt"]) == ('["IIT Delhi"]', "admissions")
        updates = [m["language_code"] for m in loopback.messages["realtime"][0] if m["event"] == "config.update"]
        assert updates == ["or-IN", "bn-IN", "auto"]
        assert "refuses a setting" in caplog.text  # the second, and the session went on
        await stt.close()

    run(main)


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_other_rates_are_heard_at_16_khz_whatever_the_pieces(rate: int) -> None:
    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback)
        ear = Ear(stt, rate=rate)
        for at in range(0, len(SPEECH) - 1, 777):
            ear.stream.feed(SPEECH[at : at + 777])
        assert (await ear.asked(b"\x01")).text == WORDS
        assert abs(len(audio(loopback)) - len(SPEECH) * 16_000 // rate) < TAIL
        assert len(audio(loopback)) % 2 == 0
        await stt.close()

    run(main)


def test_what_the_endpoint_cuts_in_two_is_one_utterance() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.splits_after = 12_000
        stt = transcriber(loopback)
        ear = Ear(stt)
        await ear.say(SPEECH[:14_400])
        await ear.until(lambda: any(heard.text == "और" for heard in ear.heard))
        await ear.say(SPEECH[14_400:])
        ear.stream.finish(1)
        assert (await ear.end_of(1)).text == f"और {WORDS}"
        await stt.close()

    run(main)


def test_an_idle_socket_is_kept_open_and_a_lost_one_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarvam_stream, "PING_S", 0.02)

    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback)
        ear = Ear(stt)
        await loopback.until(lambda: loopback.messages["realtime"] and "ping" in sent(loopback))
        assert (await ear.asked()).text == WORDS
        await loopback.drop("realtime")
        await ear.until(lambda: ear.stream._link is None)
        assert (await ear.asked(utterance=2)).text == WORDS
        monkeypatch.setattr(sarvam_stream, "PING_S", 30.0)
        await ear.asked(utterance=3)
        await loopback.drop("realtime")
        await loopback.until(lambda: loopback.closed["realtime"] == 2)
        assert (await ear.asked(utterance=4)).text == WORDS
        assert len(loopback.requests["realtime"]) == 3
        assert not loopback.requests["stt"]
        await stt.close()

    run(main)


def test_the_vendors_sdk_hears_the_same_from_the_same_server() -> None:
    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback)
        ours = await Ear(stt).asked()
        place = SarvamAIEnvironment(base=loopback.base_url, creative=loopback.base_url, production=loopback.ws_url)
        sdk = AsyncSarvamAI(api_subscription_key=KEY, environment=place)
        theirs: list[Any] = []
        async with sdk.speech_to_text_realtime_streaming.connect(
            language_code="auto",
            model="saaras:v3-realtime",
            stream_type="fast",
            mode="transcribe",
            endpointing="manual",
            encoding="linear16",
            sample_rate="8000",
        ) as ws:
            await ws.send_realtime_speech_start(RealtimeSpeechStart())
            chunk = base64.b64encode(SPEECH).decode()
            await ws.send_realtime_audio_input(RealtimeAudioInput(audio=chunk))
            await ws.send_realtime_speech_end(RealtimeSpeechEnd())
            while not theirs or theirs[-1].event != "transcript.final":
                theirs.append(await ws.recv())
            await ws.send_realtime_flush(RealtimeFlush())
        assert [each.event for each in theirs] == ["session.begin", "transcript.partial", "transcript.final"]
        final = theirs[-1]
        assert (final.text, final.language) == (ours.text, ours.language) == (WORDS, LANGUAGE)
        assert final.language_confidence == ours.language_confidence
        # The server was asked and told the same by both.
        assert loopback.requests["realtime"][0] == loopback.requests["realtime"][1]
        assert sent(loopback, 1)[:3] == sent(loopback, 0)
        assert audio(loopback, 1) == audio(loopback, 0)
        await stt.close()

    run(main)


# -- the way back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("realtime", "500"),
        ("realtime", "429"),
        ("realtime", "hang"),
        ("realtime", "reset"),
        ("realtime", "garbage"),
        ("realtime", "redirect"),
        ("realtime_socket", "no_begin"),
        ("realtime_socket", "fatal"),
        ("realtime_socket", "4000"),
        ("realtime_socket", "1011"),
        ("realtime_socket", "reset_speaking"),
        ("realtime_socket", "garbage"),
        ("realtime_socket", "bad_utf8"),
        ("realtime_socket", "reset_final"),
        ("realtime_socket", "no_final"),
    ],
)
def test_what_the_socket_does_not_answer_is_sent_as_a_whole(endpoint: str, fault: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script[endpoint] = [fault] * 4
        stt = transcriber(loopback, connect_s=0.15, final_s=0.1, mode="codemix")
        ear = Ear(stt)
        end = await ear.asked()
        assert end == Heard(1, WORDS, True, language=LANGUAGE, language_confidence=PROBABILITY)
        (asked,) = loopback.requests["stt"]
        pcm, rate = wav_read(asked["audio"])
        assert (pcm, rate) == (SPEECH, 8000)
        told = {key: asked[key] for key in ("model", "mode", "language_code", "type")}
        assert told == {"model": "saaras:v4", "mode": "codemix", "language_code": "unknown", "type": "audio/wav"}
        # The next utterance is heard as well.
        loopback.script[endpoint] = []
        assert (await ear.asked(utterance=2)).text == WORDS
        assert [end.utterance for end in ear.ends()] == [1, 2]
        # A session that is refused is not asked for again by this call.
        refused = fault in {"4000", "redirect"}
        assert len(loopback.requests["stt"]) == (2 if refused else 1)
        assert not loopback.requests["elsewhere"]
        await stt.close()

    run(main)


def test_who_speaks_while_the_socket_opens_waits_for_one_attempt_only() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["realtime"] = ["hang"] * 4
        stt = transcriber(loopback, connect_s=0.2)
        began = time.monotonic()
        assert (await Ear(stt).asked()).text == WORDS
        assert time.monotonic() - began < 0.4
        assert len(loopback.requests["realtime"]) == 1
        await stt.close()

    run(main)


def test_of_a_long_utterance_the_last_thirty_seconds_are_sent() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["realtime"] = ["500"] * 4
        stt = transcriber(loopback)
        ear = Ear(stt)
        second = b"\x01\x00" * 8000
        for count in range(70):
            ear.stream.feed(second if count < 69 else SPEECH[:16_000])
        held = len(ear.stream._utterances[-1].audio)
        ear.stream.finish(1)
        assert (await ear.end_of(1)).text == WORDS
        pcm, _ = wav_read(loopback.requests["stt"][0]["audio"])
        assert len(pcm) == 30 * 16_000
        assert held <= 35 * 16_000
        assert pcm.endswith(SPEECH[:16_000])
        await stt.close()

    run(main)


@pytest.mark.parametrize("fault", ["garbage", "bad_utf8"])
def test_a_socket_that_brings_garbage_is_not_waited_for(fault: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["realtime_socket"] = [fault]
        stt = transcriber(loopback, final_s=10)
        async with asyncio.timeout(5):
            assert (await Ear(stt).asked()).text == WORDS
        assert len(loopback.requests["stt"]) == 1
        await stt.close()

    run(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("500", "stt.server"),
        ("429", "stt.rate_limited"),
        ("quota", "stt.quota"),
        ("garbage", "stt.garbage"),
        ("bad_utf8", "stt.garbage"),
        ("redirect", "stt.bad_endpoint"),
        ("reset", "stt.unreachable"),
        ("hang", "stt.timeout_total"),
    ],
)
def test_what_neither_answers_is_one_error(fault: str, code: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["realtime"] = ["500"] * 4
        loopback.script["stt"] = [fault]
        stt = transcriber(loopback, batch_s=0.2)
        ear = Ear(stt)
        assert await ear.asked() == Heard(1, "", True, error=code)
        assert (await ear.asked(utterance=2)).text == WORDS
        assert len(ear.ends()) == 2
        if fault == "hang":
            await loopback.until(lambda: loopback.closed["stt"] == 1)
        await stt.close()

    run(main)


@pytest.mark.parametrize(("endpoint", "fault"), [("realtime", "quota"), ("realtime_socket", "fatal_speaking")])
def test_without_credit_nothing_else_is_tried(endpoint: str, fault: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script[endpoint] = [fault] * 4
        stt = transcriber(loopback)
        assert (await Ear(stt).asked()).error == "stt.quota"
        assert not loopback.requests["stt"]
        await stt.close()

    run(main)


def test_an_endpoint_that_takes_no_audio_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarvam_link, "SEND_S", 0.05)

    async def stuck(self: object, message: object, patience: object = None) -> None:
        if b"audio_input" in str(message).encode():
            await asyncio.sleep(30)

    async def main(loopback: Loopback) -> None:
        monkeypatch.setattr("antiphon.providers.websocket.Socket.send", stuck)
        stt = transcriber(loopback)
        assert (await Ear(stt).asked()).text == WORDS
        assert len(loopback.requests["stt"]) == 1
        await stt.close()

    run(main)


def test_a_caller_who_finishes_without_end_is_bounded() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script["realtime"] = ["hang"] * 2
        stt = transcriber(loopback, connect_s=0.2)
        ear = Ear(stt)
        for utterance in range(1, 41):
            ear.stream.feed(SPEECH[:3200])
            ear.stream.finish(utterance)
        assert sum(len(each.audio) for each in ear.stream._utterances) <= sarvam_stream.MAX_WAITING * 3200
        await ear.end_of(40)
        assert [end.utterance for end in ear.ends()] == list(range(1, 41))
        assert {end.error for end in ear.ends()} == {"", "stt.overloaded"}
        await stt.close()

    run(main)


def test_a_fault_of_ours_is_an_error_and_the_next_utterance_is_heard(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback)
        ear = Ear(stt)
        with monkeypatch.context() as patched:
            patched.setattr(sarvam_stream, "certainty", lambda probability: 1 / 0)
            assert (await ear.asked()).error == "stt.failed"
        assert "could not be transcribed" in caplog.text
        assert (await ear.asked(utterance=2)).text == WORDS
        await stt.close()

    run(main)


# -- closing, settings, secrets -----------------------------------------------------------------


def test_closing_a_stream_ends_its_request_and_tells_nothing_more() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.final_s = 30.0
        stt = transcriber(loopback)
        ear = Ear(stt)
        await ear.say()
        ear.stream.finish(1)
        await loopback.until(lambda: loopback.messages["realtime"] and "speech_end" in sent(loopback))
        known = len(ear.heard)
        ear.stream.close()
        ear.stream._on_event(HeardEvent("transcript.partial", text="late"))
        ear.stream.close()
        await loopback.until(lambda: loopback.closed["realtime"] == 1)
        loopback.script["realtime"], loopback.script["stt"] = ["500"] * 2, ["hang"]
        other = Ear(stt)
        await other.say()
        other.stream.finish(1)
        await loopback.until(lambda: loopback.requests["stt"])
        other.stream.close()
        await loopback.until(lambda: loopback.closed["stt"] == 1)
        assert (len(ear.heard), other.heard) == (known, [])
        await stt.close()
        with pytest.raises(ProviderError, match=r"stt\.closed"):
            Ear(stt)
        await stt.start()
        loopback.final_s = 0.0
        assert (await Ear(stt).asked()).text == WORDS
        await stt.close()

    run(main)


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SARVAM_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="set SARVAM_API_KEY"):
        build({})
    monkeypatch.setenv("SARVAM_API_KEY", KEY)
    assert build({}).settings.ws_url == "wss://api.sarvam.ai"
    for settings, said in (
        ({"language": "fr-FR"}, "not transcribed"),
        ({"keyterms": ["x"]}, "saaras:v4"),
        ({"ws_url": "https://api.sarvam.ai"}, "ws_url must be"),
        ({"stream_type": "simulated"}, "choose one of fast, balanced"),
    ):
        with pytest.raises(ConfigError, match=said):
            build(settings)

    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback)
        with pytest.raises(ProviderRefused, match=r"stt\.sample_rate"):
            Ear(stt, rate=12_345)
        await stt.close()

    run(main)


def test_a_wrong_key_is_refused_and_no_key_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "sk_wrong_secret_abcdef"

    async def main(loopback: Loopback) -> None:
        stt = transcriber(loopback, api_key=Secret(wrong))
        assert (await Ear(stt).asked()).error == "stt.unauthorized"
        with pytest.raises(ProviderRefused, match=r"stt\.unauthorized") as caught:
            await stt.check()
        shown = [str(caught.value), repr(stt.settings), repr(stt)]
        await stt.close()
        for endpoint, fault in (("realtime", "500"), ("realtime_socket", "fatal"), ("realtime_socket", "4000")):
            loopback.script[endpoint] = [fault]
            good = transcriber(loopback)
            with pytest.raises(ProviderError, match=r"\*\*\*") as caught:
                await good.check()
            shown.append(str(caught.value))
            assert await good.check() == f"{loopback.ws_url} takes the key and has saaras:v3-realtime"
            await good.close()
        shown += [caplog.text, *(str(record.__dict__) for record in caplog.records)]
        assert not any(key in each for key in (wrong, KEY) for each in shown)

    run(main)


@pytest.mark.parametrize(("fault", "pause"), [("", 0.0), ("500", 0.0), ("", 0.003)])
def test_it_conforms(fault: str, pause: float) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.final_s = pause
        loopback.script["realtime"] = [fault] * 1000 if fault else []
        began = time.monotonic()
        sample = Sample(speech=made_up_voice(syllables=2))
        results = await examine(KITS["stt"], lambda: transcriber(loopback), sample)
        print(report(results))
        assert all(result.passed for result in results)
        assert time.monotonic() - began < 6

    run(main)
