"""Antiphon's own providers as modules: audio in any rate, prompts, passages, starting and closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest

from antiphon.errors import ConfigError, PeerError, ProviderError
from antiphon.facade.ports_as_modules import ResponderModule, SynthesizerModule, TranscriberModule
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.media.codec import BadAudio, wav_read, wav_write
from antiphon.providers.registry import load
from antiphon.providers.tts.fake import tone
from antiphon.runtime.ports import Act, Heard, Intent, ReplyEnd, ReplyPart, ReplyRequest, TextDelta
from antiphon.runtime.resilience import StagePolicy
from antiphon.sim.clock import run
from orchestrator import AgentOrchestrator

WAV = wav_write(tone(8000, 4000), 8000)


class Part:
    """Starts, closes, and counts how often."""

    name = "part"

    def __init__(self, start_s: float = 0.0, fails: int = 0) -> None:
        self.started = self.closed = 0
        self._start_s = start_s
        self._fails = fails

    async def start(self) -> None:
        self.started += 1
        await asyncio.sleep(self._start_s)
        if self.started <= self._fails:
            raise ProviderError("no worker", code="stt.unavailable")

    async def close(self) -> None:
        self.closed += 1


class Ears(Part):
    """Hears a fixed thing, and keeps what it was given. ``open_streams`` is how many are open."""

    def __init__(self, heard: Heard, **options: Any) -> None:
        super().__init__(**options)
        self.heard = heard
        self.opened: list[tuple[int, str]] = []
        self.pcm = b""
        self.open_streams = 0

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> Stream:
        self.opened.append((sample_rate, language))
        self.open_streams += 1
        return Stream(self, on_heard)


class Stream:
    def __init__(self, ears: Ears, on_heard: Callable[[Heard], None]) -> None:
        self._ears = ears
        self._on_heard = on_heard

    def feed(self, pcm: bytes) -> None:
        self._ears.pcm += pcm

    def finish(self, utterance: int) -> None:
        self._on_heard(Heard(utterance, "half a"))
        asyncio.get_running_loop().call_soon(self._on_heard, self._ears.heard)

    def close(self) -> None:
        self._ears.open_streams -= 1


class Brain(Part):
    """Says what it was asked, and keeps the requests."""

    def __init__(self, *deltas: str, acts: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.deltas = deltas
        self.acts = acts
        self.requests: list[ReplyRequest] = []

    async def respond(self, request: ReplyRequest, act: Act) -> AsyncGenerator[ReplyPart, None]:
        self.requests.append(request)
        if self.acts:
            await act("book", "write", "{}")
        for delta in self.deltas:
            yield TextDelta(delta)
        yield ReplyEnd()
        yield TextDelta("after the end")


def final(text: str, **fields: Any) -> Heard:
    return Heard(1, text, final=True, **fields)


# -- hearing -------------------------------------------------------------------------------------


def test_a_wav_is_heard() -> None:
    ears = Ears(final("what are the fees"))
    module = TranscriberModule(ears)
    assert run(module.speech_to_text(WAV, "hi-IN")) == ("what are the fees", None)
    assert ears.opened == [(8000, "hi-IN")]
    assert wav_read(WAV)[0] == ears.pcm
    assert ears.open_streams == 0


@pytest.mark.parametrize(("rate", "given"), [(16_000, 16_000), (11_025, 16_000), (48_000, 48_000), (96_000, 16_000)])
def test_rates_that_transcribers_do_not_take_are_changed(rate: int, given: int) -> None:
    ears = Ears(final("x"))
    run(TranscriberModule(ears).speech_to_text(wav_write(tone(rate, rate), rate)))
    assert ears.opened == [(given, "")]
    assert abs(len(ears.pcm) / 2 - given) < given / 100


@pytest.mark.parametrize(
    ("language", "confidence", "told"),
    [("hi-IN", 0.9, "hi-IN"), ("hi-IN", 0.4, None), ("hi-IN", 0.0, None), ("", 1.0, None)],
)
def test_a_detected_language_is_told_if_it_is_sure(language: str, confidence: float, told: str | None) -> None:
    ears = Ears(final("x", language=language, language_confidence=confidence))
    assert run(TranscriberModule(ears).speech_to_text(WAV)) == ("x", told)


def test_what_is_no_wav_says_nothing_against_the_transcriber() -> None:
    ears = Ears(final("x"))
    with pytest.raises(BadAudio):
        run(TranscriberModule(ears).speech_to_text(b"no wav"))
    one = AgentOrchestrator(ears, Brain("hi"), load("tts", "fake"))  # type: ignore[arg-type]
    for _ in range(6):
        result = run(one.process_turn(b"no wav"))
    assert result["error"].startswith("[media.bad_audio]")
    assert one.get_status()["circuit_breakers"]["stt"]["failure_count"] == 0


def test_an_utterance_that_could_not_be_finished_is_its_error() -> None:
    ears = Ears(final("", error="stt.worker_lost"))
    with pytest.raises(ProviderError, match=r"stt\.worker_lost"):
        run(TranscriberModule(ears).speech_to_text(WAV))
    assert ears.open_streams == 0


# -- answering -----------------------------------------------------------------------------------

CONVERSATION = [
    {
        "role": "system",
        "content": "You sell tickets.\n\nAnswer in English (en-IN), whatever language the facts are in.",
    },
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "what are the fees"},
]


def test_messages_become_a_request() -> None:
    brain = Brain("Ninety ", "thousand.")
    assert run(ResponderModule(brain).answer(CONVERSATION, "en-IN")) == "Ninety thousand."
    (request,) = brain.requests
    assert (request.text, request.language, request.turn) == ("what are the fees", "en-IN", 2)
    assert request.history == (Message("user", "hello", "en-IN", 1), Message("assistant", "Hello.", "en-IN", 1))
    assert request.prompt == "You sell tickets.", "responders ask for the language by themselves"
    assert (request.intent, request.passages) == ("", ())


def test_chat_alone_names_no_language() -> None:
    brain = Brain("Hello.")
    assert run(ResponderModule(brain).chat(CONVERSATION)) == "Hello."
    assert brain.requests[0].language == ""


class Finds(Part):
    """Classifies and retrieves."""

    def __init__(self, wait_s: float = 0.0, error: Exception | None = None, fails: int = 0) -> None:
        super().__init__(fails=fails)
        self._wait_s = wait_s
        self._error = error

    async def _work(self) -> None:
        await asyncio.sleep(self._wait_s)
        if self._error:
            raise self._error

    async def classify(self, text: str, *, language: str, history: Sequence[Message]) -> Intent:
        await self._work()
        return Intent("ask", 0.9)

    async def retrieve(self, text: str, *, language: str, history: Sequence[Message]) -> tuple[Passage, ...]:
        await self._work()
        return (Passage("fees", "Ninety thousand.", "section 3", 0.9),)


def test_a_question_is_understood_first_and_side_by_side() -> None:
    brain = Brain("x")
    both = Finds(wait_s=1.0)

    async def main() -> float:
        await ResponderModule(brain, classifier=both, retriever=both).answer(CONVERSATION, "en-IN")
        return asyncio.get_running_loop().time()

    assert run(main()) == 1.0
    assert brain.requests[0].intent == "ask"
    assert [passage.id for passage in brain.requests[0].passages] == ["fees"]


@pytest.mark.parametrize(
    "finds", [Finds(wait_s=60.0), Finds(error=ProviderError("down", code="retrieval.down")), Finds(error=KeyError("x"))]
)
def test_what_understanding_lacks_costs_no_answer(finds: Finds) -> None:
    brain = Brain("x")

    async def main() -> float:
        await ResponderModule(brain, classifier=finds, retriever=finds).answer(CONVERSATION, "en-IN")
        return asyncio.get_running_loop().time()

    assert run(main()) <= 2.0
    assert (brain.requests[0].intent, brain.requests[0].passages) == ("", ())


def test_effects_are_refused() -> None:
    with pytest.raises(ProviderError, match=r"effect\.unknown"):
        run(ResponderModule(Brain(acts=True)).chat(CONVERSATION))


def test_a_reply_that_runs_away_is_left() -> None:
    reply = run(ResponderModule(Brain(*["word " * 100] * 1000)).chat(CONVERSATION))
    assert len(reply) < 10_000


# -- speaking ------------------------------------------------------------------------------------


def test_a_text_is_spoken_in_pieces_as_one_wav() -> None:
    module = SynthesizerModule(load("tts", "fake", {"char_ms": 10}))
    text = "The fees are ninety thousand rupees. **You** may pay in two parts. " * 20
    pcm, rate = wav_read(run(module.text_to_speech(text, "en-IN")))
    assert rate == 8000
    assert len(pcm) / 2 / rate == pytest.approx(len(text.replace("*", "")) / 100, rel=0.05)
    assert run(module.text_to_speech(" ... ", "en-IN")) == b""
    pcm, rate = wav_read(run(SynthesizerModule(load("tts", "fake"), sample_rate=16_000).text_to_speech("Hi.", "en-IN")))
    assert rate == 16_000


# -- starting and closing ------------------------------------------------------------------------


def test_a_provider_is_started_when_it_is_first_asked() -> None:
    ears = Ears(final("x"), start_s=1.0)
    module = TranscriberModule(ears)

    async def main() -> None:
        await module.close()
        assert (ears.started, ears.closed) == (0, 0), "what was never started needs no closing"
        await asyncio.gather(module.speech_to_text(WAV), module.speech_to_text(WAV))
        await module.speech_to_text(WAV)
        assert ears.started == 1
        await module.close()
        await module.close()
        assert ears.closed == 1

    run(main())


def test_a_start_that_failed_is_tried_again() -> None:
    ears = Ears(final("x"), fails=1)
    module = TranscriberModule(ears)

    async def main() -> None:
        with pytest.raises(ProviderError):
            await module.speech_to_text(WAV)
        assert await module.speech_to_text(WAV) == ("x", None)
        await module.close()

    run(main())
    assert (ears.started, ears.closed) == (2, 1)


def test_only_the_part_whose_start_failed_is_started_again() -> None:
    brain, finds = Brain("Yes.", start_s=5.0), Finds(fails=1)
    module = ResponderModule(brain, retriever=finds)

    async def main() -> float:
        with pytest.raises(ProviderError):
            await module.start()
        await module.start()
        return asyncio.get_running_loop().time()

    assert run(main()) == 5.0
    assert (brain.started, finds.started) == (1, 2)


def test_a_turn_that_is_cancelled_does_not_stop_the_start() -> None:
    ears = Ears(final("x"), start_s=5.0)
    module = TranscriberModule(ears)

    async def main() -> float:
        asking = asyncio.ensure_future(module.speech_to_text(WAV))
        await asyncio.sleep(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await module.speech_to_text(WAV)
        return asyncio.get_running_loop().time()

    assert run(main()) == 5.0
    assert ears.started == 1


def test_closing_while_it_starts() -> None:
    ears = Ears(final("x"), start_s=1000.0)
    module = TranscriberModule(ears)

    async def main() -> None:
        asking = asyncio.ensure_future(module.speech_to_text(WAV))
        await asyncio.sleep(1)
        await module.close()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(main())
    assert ears.closed == 1


def test_an_orchestrator_of_antiphons_own_providers() -> None:
    ears, brain, voice = Ears(final("what are the fees")), Brain("Ninety thousand."), load("tts", "fake")

    async def main() -> dict[str, Any]:
        async with AgentOrchestrator(ears, brain, voice, system_prompt="You sell tickets.") as one:  # type: ignore[arg-type]
            assert (ears.started, brain.started) == (1, 1)
            return await one.process_turn(WAV)

    result = run(main())
    assert (result["response"], result["error"]) == ("Ninety thousand.", None)
    assert wav_read(result["audio"])[1] == 8000
    assert (brain.requests[0].prompt, brain.requests[0].language) == ("You sell tickets.", "en-IN")
    assert (ears.closed, brain.closed) == (1, 1)


@pytest.mark.parametrize("at", range(3))
def test_a_provider_of_another_kind_is_refused(at: int) -> None:
    modules: list[Any] = [Ears(final("x")), Brain("x"), load("tts", "fake")]
    modules[at] = modules[(at + 1) % 3]
    with pytest.raises(ConfigError, match="registry"):
        AgentOrchestrator(*modules)


def test_a_policy_for_no_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match="no stage is called sst: take stt, llm, tts"):
        AgentOrchestrator(Ears(final("x")), Brain(), load("tts", "fake"), policies={"sst": StagePolicy()})


def test_a_recording_that_is_no_utterance_is_refused_before_it_holds_up_other_calls() -> None:
    ears = Ears(final("x"))
    long = wav_write(bytes(2 * 8000 * 61), 8000)
    with pytest.raises(PeerError, match=r"audio\.too_long.*61 s, at most 60") as raised:
        run(TranscriberModule(ears).speech_to_text(long))
    assert raised.value.fault == "peer", "nothing is said against the transcriber"
    assert (ears.opened, ears.started) == ([], 0)
    assert run(TranscriberModule(ears, longest_s=70).speech_to_text(long)) == ("x", None)


def test_a_language_that_is_not_heard_is_asked_for_once_and_opens_no_breaker() -> None:
    ears = Ears(Heard(1, "", final=True, error="stt.language"))
    one = AgentOrchestrator(ears, Brain("x"), load("tts", "fake"), default_language="te-IN")  # type: ignore[arg-type]

    async def main() -> list[str]:
        return [(await one.process_turn(WAV))["error"] for _ in range(6)]

    assert run(main()) == ["[stt.language] part does not hear te-IN: configure another transcriber"] * 6
    assert len(ears.opened) == 6
    assert one.get_status()["circuit_breakers"]["stt"]["state"] == "closed"


@pytest.mark.parametrize("at", range(3))
def test_a_class_where_an_object_is_meant(at: int) -> None:
    modules: list[Any] = [Ears(final("x")), Brain("x"), load("tts", "fake")]
    modules[at] = type(modules[at])
    with pytest.raises(ConfigError, match=r"is the class \w+: give it an object"):
        AgentOrchestrator(*modules)


def test_a_method_that_is_none() -> None:
    ears: Any = Ears(final("x"))
    ears.open = None
    with pytest.raises(ConfigError, match=r"stt_module is a Ears without `async def speech_to_text"):
        AgentOrchestrator(ears, Brain("x"), load("tts", "fake"))
