"""The ``http`` providers against a service written by hand: what is sent, and what each of its faults becomes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest
from loopback_service import KEY, Loopback, serving

from antiphon.errors import ConfigError, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.kernel.history import Message
from antiphon.providers.registry import load
from antiphon.runtime.ports import Heard, Intent, Sound, WordMark
from antiphon.secret import Secret

HISTORY = (Message("user", "hello", "en-IN", 1), Message("assistant", "Hi.", "en-IN", 1))
TEXT = "The fee is due on Monday."
LATE_VOICE = {"first_sound_s": 0.5, "between_sounds_s": 0.5}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTIPHON_SERVICE_KEY", "ANTIPHON_SECRETS_FILE"):
        monkeypatch.delenv(variable, raising=False)


def run(main: Callable[[Loopback], Awaitable[None]], *script: str) -> None:
    async def serve() -> None:
        loopback = Loopback()
        loopback.script = list(script)
        async with serving(loopback):
            async with asyncio.timeout(20):
                await main(loopback)
            left = {task for task in asyncio.all_tasks() if "antiphon" in repr(task.get_coro())}
            assert not left, "a task outlives the provider"

    asyncio.run(serve())


def make(stage: Any, loopback: Loopback, **settings: Any) -> Any:
    return load(stage, "http", {"url": loopback.url, "api_key": Secret(KEY), **settings})


async def classified(classifier: Any, text: str = "what are the fees") -> Intent:
    found: Intent = await classifier.classify(text, language="en-IN", history=HISTORY)
    return found


async def spoken(voice: Any, text: str = TEXT, rate: int = 8000) -> list[Sound]:
    return [sound async for sound in voice.synthesize(text, language="en-IN", sample_rate=rate, voice="v")]


# -- one question, one answer ----------------------------------------------------------------------


def test_what_is_asked_and_what_is_made_of_the_answer() -> None:
    async def main(loopback: Loopback) -> None:
        classifier, retriever = make("intent", loopback), make("retrieval", loopback, limit=1)
        assert await classified(classifier) == Intent("fees", 0.75)
        found = await retriever.retrieve("fees?", language="hi-IN", history=HISTORY)
        assert [(each.id, each.text, each.score) for each in found] == [("a", "First.", 0.5)], "the best, and no more"
        history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi."}]
        (path, headers, body), (_, _, other) = loopback.asked
        assert path == "/classify"
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert body == {"text": "what are the fees", "language": "en-IN", "history": history}
        assert other == {"text": "fees?", "language": "hi-IN", "history": history, "limit": 1}
        await classifier.close()
        await retriever.close()

    run(main)


FAULTS = [
    ("401", "unauthorized", ProviderRefused),
    ("422", "bad_request", ProviderRefused),
    ("404", "not_found", ProviderRefused),
    ("302", "bad_endpoint", ProviderRefused),
    ("429", "rate_limited", ProviderError),
    ("500", "server", ProviderError),
    ("drop", "unreachable", ProviderError),
    ("html", "garbage", ProviderError),
    ("bytes", "garbage", ProviderError),
    ("deep", "garbage", ProviderError),
    ("large", "too_large", ProviderError),
    ("hang", "timeout_total", ProviderTimeout),
]


@pytest.mark.parametrize(("fault", "code", "kind"), FAULTS)
@pytest.mark.parametrize("stage", ["intent", "retrieval"])
def test_each_fault_has_its_code(
    stage: str, fault: str, code: str, kind: type[ProviderError], caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loopback: Loopback) -> None:
        with caplog.at_level(logging.DEBUG):
            provider = make(stage, loopback, timeout_s=0.3 if fault == "hang" else 5.0)
            ask = provider.classify if stage == "intent" else provider.retrieve
            with pytest.raises(kind) as caught:
                await ask("fees?", language="en-IN", history=())
        assert caught.value.code == f"{stage}.{code}"
        assert (caught.value.provider, caught.value.stage) == ("http", stage)
        assert KEY not in f"{caught.value!r} {caught.value} {caplog.text}"
        if fault == "429":
            assert caught.value.retry_after_s == 3.0
        if fault == "hang":
            await asyncio.wait_for(loopback.left.wait(), 2)
        assert (await ask("fees?", language="en-IN", history=())) is not None, "and the next request is answered"
        await provider.close()

    run(main, fault)


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        ("intent", {"intent": "fees", "confidence": 1.5}),
        ("intent", {"confidence": 0.5}),
        ("intent", {"intent": "x" * 101}),
        ("intent", [1]),
        ("retrieval", {"passages": [{"id": "a", "text": "", "score": 0.5}]}),
        ("retrieval", {"passages": [{"id": "a", "text": "x" * 4001, "score": 0.5}]}),
        ("retrieval", {"passages": [{"id": "a", "text": "x", "score": 7}]}),
        ("retrieval", {"passages": [{"id": "a", "text": "x"}] * 11}),
        ("retrieval", {"passages": "all"}),
    ],
)
def test_an_answer_past_its_bounds_is_none(stage: str, answer: Any) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.answers = {"/classify": answer, "/retrieve": answer}
        provider = make(stage, loopback)
        ask = provider.classify if stage == "intent" else provider.retrieve
        with pytest.raises(ProviderError) as caught:
            await ask("fees?", language="en-IN", history=())
        assert caught.value.code == f"{stage}.garbage"
        await provider.close()

    run(main)


def test_nobody_there() -> None:
    async def main(loopback: Loopback) -> None:
        provider = load("intent", "http", {"url": "http://127.0.0.1:1"})
        with pytest.raises(ProviderError) as caught:
            await provider.classify("fees?", language="en-IN", history=())
        assert caught.value.code == "intent.unreachable"
        assert "http://127.0.0.1:1 cannot be reached" in str(caught.value)
        assert "antiphon service intent" in str(caught.value)
        await provider.close()
        with pytest.raises(ProviderError) as caught:
            await provider.classify("fees?", language="en-IN", history=())
        assert caught.value.code == "intent.closed"

    run(main)


@pytest.mark.parametrize(
    ("health", "code"),
    [
        ({"status": "healthy", "provider": "minilm"}, ""),
        ({"status": "degraded"}, "server"),
        ({"ok": True}, "garbage"),
        (["healthy"], "garbage"),
    ],
)
@pytest.mark.parametrize("stage", ["stt", "intent", "retrieval", "tts"])
def test_its_health_is_asked_for(stage: str, health: Any, code: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.health = health
        provider = make(stage, loopback)
        if code:
            with pytest.raises(ProviderError) as caught:
                await provider.check()
            assert caught.value.code == f"{stage}.{code}"
        else:
            assert await provider.check() == f"{loopback.url} is healthy (minilm)"
        await provider.close()

    run(main)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "url must be set"),
        ({"url": "rag-service:8003"}, 'such as "http://rag-service:8003"'),
        ({"url": "ws://rag-service"}, 'such as "http://rag-service:8003"'),
        ({"url": "http://me:pass@rag-service"}, "ANTIPHON_SERVICE_KEY"),
        ({"url": "http://rag-service", "timeout": 1}, "did you mean 'timeout_s'"),
    ],
)
def test_settings_that_cannot_be_used_say_what_to_write(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("retrieval", "http", settings)
    assert told in str(caught.value)


# -- speech ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["lines", "bare"])
@pytest.mark.parametrize(("rate", "source"), [(8000, 8000), (8000, 24_000), (16_000, 16_000)])
def test_sound_comes_at_the_rate_asked_for(form: str, rate: int, source: int) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.form, loopback.rate = form, source
        voice = make("tts", loopback)
        sounds = await spoken(voice, rate=rate)
        samples = sum(len(each.pcm) for each in sounds) // 2
        assert abs(samples - rate * 60 * len(TEXT) // 1000) < rate // 100
        assert all(len(each.pcm) % 2 == 0 and each.pcm for each in sounds)
        words = [mark for each in sounds for mark in each.words]
        marked = [WordMark(0, 0), WordMark(4, 100 * rate // source)]
        assert [mark.char for mark in words] == ([0, 4] if form == "lines" else [])
        assert all(abs(a.sample - b.sample) <= 1 for a, b in zip(words, marked, strict=False))
        assert all(first.sample <= second.sample for first, second in pairwise(words))
        assert loopback.asked[0][2] == {"text": TEXT, "language": "en-IN", "rate": rate, "voice": "v"}
        await voice.close()

    run(main)


@pytest.mark.parametrize("form", ["lines", "bare"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("401", "unauthorized"),
        ("422", "bad_request"),
        ("429", "rate_limited"),
        ("500", "server"),
        ("html", "garbage"),
        ("silent", "empty"),
        ("hang", "timeout_first_byte"),
        ("cut", "cut"),
        ("stall", "timeout_stalled"),
        ("told", "server"),
        ("garbage", "garbage"),
        ("bad_utf8", "garbage"),
        ("endless", "too_large"),
    ],
)
def test_each_fault_of_a_voice_has_its_code(form: str, fault: str, code: str) -> None:
    if form == "bare" and fault in {"told", "garbage", "bad_utf8", "endless"}:
        fault, code = "cut", "cut"  # bare sound has no lines to break

    async def main(loopback: Loopback) -> None:
        loopback.form = form
        voice = make("tts", loopback, **(LATE_VOICE if fault in {"hang", "stall"} else {}))
        with pytest.raises(ProviderError) as caught:
            await spoken(voice)
        assert caught.value.code == f"tts.{code}"
        assert KEY not in str(caught.value)
        assert sum(len(each.pcm) for each in await spoken(voice)) > 0, "and the next text is spoken"
        await voice.close()

    run(main, fault)


def test_an_interruption_ends_the_services_work() -> None:
    async def main(loopback: Loopback) -> None:
        voice = make("tts", loopback, between_sounds_s=10)
        async with aclosing(voice.synthesize(TEXT, language="en-IN", sample_rate=8000)) as sounds:
            await anext(sounds)
        await asyncio.wait_for(loopback.left.wait(), 2)
        await voice.close()

    run(main, "stall")


def test_marks_that_make_no_sense_are_left_out() -> None:
    async def main(loopback: Loopback) -> None:
        loopback._encoded = lambda pcm, sample, text: (  # type: ignore[method-assign]
            b'{"audio": "AAAAAAAA", "words": [[4, 9], [2, 0], [4, 1], [99, 2]]}\n'
        )
        voice = make("tts", loopback)
        sounds = await spoken(voice)
        assert [mark.char for each in sounds for mark in each.words] == [4]
        await voice.close()

    run(main)


# -- hearing ---------------------------------------------------------------------------------------


class Call:
    """One caller's ear at the service, and what it told."""

    def __init__(self, transcriber: Any, rate: int = 8000) -> None:
        self.heard: list[Heard] = []
        self.stream = transcriber.open(sample_rate=rate, language="en-IN", on_heard=self.heard.append)
        self.utterance = 0

    async def says(self, ms: int = 200, *, rate: int = 8000) -> Heard:
        """Speaks one utterance, and returns its end."""
        self.utterance += 1
        for _ in range(ms // 20):
            self.stream.feed(bytes(rate // 50 * 2))
            await asyncio.sleep(0)
        self.stream.finish(self.utterance)
        return await self.end()

    async def end(self) -> Heard:
        async with asyncio.timeout(5):
            while not self.ends(self.utterance):  # noqa: ASYNC110 - a report comes on no event of the test's
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        (end,) = self.ends(self.utterance)
        return end

    def ends(self, number: int) -> list[Heard]:
        return [each for each in self.heard if each.utterance == number and (each.final or each.error)]


def test_what_is_sent_and_heard() -> None:
    async def main(loopback: Loopback) -> None:
        ear = make("stt", loopback)
        call = Call(ear, 16_000)
        first = await call.says(200, rate=16_000)
        call.stream.hint("hi-IN")
        second = await call.says(100, rate=16_000)
        assert first == Heard(1, "hello", final=True, language="en-IN", confidence=0.5)
        assert second == Heard(2, "hello", final=True, language="en-IN", confidence=0.5)
        assert [each.text for each in call.heard] == ["hel", "hello"] * 2
        assert loopback.queries == [{"rate": "16000", "language": "en-IN"}]
        assert loopback.sockets == 1
        sizes = [each for each in loopback.told if isinstance(each, int)]
        orders = [each for each in loopback.told if isinstance(each, dict)]
        assert sum(sizes) == 300 * 32
        assert max(sizes) >= 60 * 32, "not a message for each frame"
        assert orders == [
            {"type": "finish", "utterance": 1},
            {"type": "language", "language": "hi-IN"},
            {"type": "finish", "utterance": 2},
        ]
        await ear.close()

    run(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("401", "unauthorized"),
        ("422", "bad_request"),
        ("429", "rate_limited"),
        ("500", "server"),
        ("html", "server"),
        ("drop", "unreachable"),
        ("hang", "timeout_connect"),
        ("1011", "server"),
        ("abort", "cut"),
        ("garbage", "garbage"),
        ("bad_utf8", "garbage"),
        ("fail", "busy"),
        ("mute", "timeout_total"),
        ("early", "server"),
    ],
)
def test_each_fault_of_an_ear_ends_the_utterance_once_and_the_next_is_heard(
    fault: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loopback: Loopback) -> None:
        late = {"hang": {"connect_s": 0.3}, "mute": {"final_s": 0.3}}
        ear = make("stt", loopback, **late.get(fault, {}))
        call = Call(ear)
        with caplog.at_level(logging.DEBUG):
            assert (await call.says()).error == f"stt.{code}"
            loopback.script.clear()
            assert (await call.says()).text == "hello"
        assert KEY not in caplog.text
        assert len(call.ends(1)) == 1
        await ear.close()

    # A handshake that is refused before anything is said is tried again with the first word.
    run(main, *([fault] * 2))


def test_what_is_no_utterances_end_is_nobodys() -> None:
    async def main(loopback: Loopback) -> None:
        ear = make("stt", loopback)
        call = Call(ear)
        assert (await call.says()).text == "hello"
        assert [each.utterance for each in call.heard] == [1, 1]
        await ear.close()

    run(main, "alien")


def test_a_service_that_was_away_between_two_utterances_is_not_missed() -> None:
    async def main(loopback: Loopback) -> None:
        ear = make("stt", loopback)
        call = Call(ear)
        await call.says()
        for socket in list(loopback.open):
            await socket.close(code=1012)
        await asyncio.sleep(0.05)
        assert (await call.says()).text == "hello"
        assert loopback.sockets == 2
        await ear.close()

    run(main)


def test_audio_that_nobody_takes_is_an_error_and_not_kept_for_ever() -> None:
    async def main(loopback: Loopback) -> None:
        ear = make("stt", loopback, connect_s=0.5)
        call = Call(ear)
        for _ in range(100):
            call.stream.feed(bytes(16_000))
        assert call.stream._unsent <= 60 * 16_000
        call.utterance = 1
        assert (await call.end()).error in {"stt.timeout_connect", "stt.overloaded"}
        call.stream.finish(1)
        loopback.script.clear()
        assert (await call.says()).text == "hello"
        await ear.close()

    run(main, "hang", "hang")


def test_more_than_a_minute_at_once_is_an_error_and_not_heard_with_a_hole() -> None:
    async def main(loopback: Loopback) -> None:
        ear = make("stt", loopback)
        call = Call(ear)
        await asyncio.wait_for(loopback.begun.wait(), 5)
        for _ in range(61):
            call.stream.feed(bytes(16_000))
        call.stream.finish(1)
        call.utterance = 1
        assert (await call.end()).error == "stt.overloaded"
        assert (await call.says()).text == "hello"
        await ear.close()

    run(main)


@pytest.mark.parametrize(("fault", "code"), [("early", "stt.server"), ("giveup", "stt.busy")])
def test_an_utterance_that_had_its_error_before_its_end_has_no_other_after_it(fault: str, code: str) -> None:
    async def main(loopback: Loopback) -> None:
        ear = make("stt", loopback)
        call = Call(ear)
        call.utterance = 1
        call.stream.feed(bytes(3200))
        assert (await call.end()).error == code
        loopback.told.clear()
        call.stream.feed(bytes(3200))
        call.stream.finish(1)
        await asyncio.sleep(0.1)
        assert len(call.ends(1)) == 1
        assert loopback.told == [], "what is left of it is not sent"
        assert (await call.says()).text == "hello"
        await ear.close()

    run(main, fault)
