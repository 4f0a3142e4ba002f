"""``TaskRouter``: each stage asked as often as it may be, and no longer than it may take."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from antiphon.errors import ConfigError, ProviderError, ProviderRefused
from antiphon.media.codec import wav_write
from antiphon.runtime.chain import _shared
from antiphon.runtime.resilience import StagePolicy
from antiphon.sim.clock import run
from orchestrator import TaskRouter


def router(stt: Any = None, llm: Any = None, tts: Any = None, **options: Any) -> TaskRouter:
    """Modules of one method each, given as what it does: a value, a list of values and errors, or a function."""

    def method(effect: Any) -> Any:
        if callable(effect):
            return effect
        return AsyncMock(side_effect=effect) if isinstance(effect, list) else AsyncMock(return_value=effect)

    return TaskRouter(
        Mock(speech_to_text=method(stt)),
        Mock(chat=method(llm)),
        Mock(text_to_speech=method(tts)),
        clock=lambda: asyncio.get_running_loop().time(),
        **options,
    )


def timed(made: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
    """The result, and how long it took in seconds of virtual time."""

    async def main() -> tuple[Any, float]:
        return await made(), asyncio.get_running_loop().time()

    return run(main())


def test_the_providers_are_at_hand() -> None:
    stt, llm, tts = Mock(), Mock(), Mock()
    routes = TaskRouter(stt, llm, tts)
    assert (routes.stt, routes.llm, routes.tts) == (stt, llm, tts)


# -- speech to text ------------------------------------------------------------------------------


def test_transcription() -> None:
    routes = router(stt=("नमस्ते", "hi-IN"))
    assert run(routes.route_transcription(b"wav", language="te-IN")) == ("नमस्ते", "hi-IN")
    routes.stt.speech_to_text.assert_awaited_once_with(b"wav", "te-IN")  # type: ignore[attr-defined]


def test_an_exception_is_followed_by_a_pause_and_one_more_attempt() -> None:
    routes = router(stt=[RuntimeError("down"), ("hello", None)])
    assert timed(lambda: routes.route_transcription(b"wav")) == (("hello", None), 0.5)


@pytest.mark.parametrize("blank", ["", "  \n", None])
def test_a_blank_result_is_followed_by_another_attempt_at_once(blank: str | None) -> None:
    routes = router(stt=[(blank, "hi-IN"), ("hello", "hi-IN")])
    assert timed(lambda: routes.route_transcription(b"wav")) == (("hello", "hi-IN"), 0.0)


def test_nothing_after_all_attempts() -> None:
    for effect, wait, code in (
        ([RuntimeError("1"), RuntimeError("2")], 0.5, "stt.raised"),
        ([("", None), (" ", None)], 0.0, "stt.blank"),
        ([RuntimeError("1"), ("", None)], 0.5, "stt.blank"),
    ):
        routes = router(stt=effect)
        assert timed(partial(routes.route_transcription, b"wav")) == ((None, None), wait)
        assert routes.stt.speech_to_text.await_count == 2  # type: ignore[attr-defined]
        assert routes.last_errors["stt"].code == code


@pytest.mark.parametrize(("count", "asked"), [(1, 1), (4, 4), (0, 1)])
def test_the_number_of_attempts_may_be_given(count: int, asked: int) -> None:
    routes = router(stt=RuntimeError, tts=RuntimeError)
    routes.stt.speech_to_text = AsyncMock(side_effect=RuntimeError)  # type: ignore[method-assign]
    routes.tts.text_to_speech = AsyncMock(side_effect=RuntimeError)  # type: ignore[method-assign]
    run(routes.route_transcription(b"wav", retry_count=count))
    run(routes.route_synthesis("text", "en-IN", retry_count=count))
    assert routes.stt.speech_to_text.await_count == routes.tts.text_to_speech.await_count == asked


def test_an_attempt_that_hangs_is_given_up_after_fifteen_seconds() -> None:
    gone: list[str] = []

    async def hangs(audio: bytes, language: str | None) -> tuple[str, str]:
        try:
            await asyncio.sleep(1000)
        finally:
            gone.append("closed")
        return "never", "en-IN"

    routes = router(stt=hangs)
    result, took = timed(lambda: routes.route_transcription(b"wav"))
    assert (result, took) == ((None, None), 30.5)
    assert gone == ["closed", "closed"]
    assert routes.last_errors["stt"].code == "stt.timeout"


def test_a_provider_that_does_not_listen_to_its_cancellation_is_left_behind() -> None:
    async def deaf(text: str, language: str) -> bytes:
        while True:
            try:
                await asyncio.sleep(50)
                return b"late"
            except asyncio.CancelledError:
                pass

    routes = router(tts=deaf)
    assert timed(lambda: routes.route_synthesis("text", "en-IN", retry_count=1)) == (None, 20.0)


def test_a_refusal_is_not_asked_again() -> None:
    routes = router(stt=[ProviderRefused("the key is wrong", code="stt.unauthorized")])
    assert timed(lambda: routes.route_transcription(b"wav")) == ((None, None), 0.0)


# -- answers -------------------------------------------------------------------------------------


def test_generation_adds_the_question_to_a_copy() -> None:
    routes = router(llm="Hello!")
    context = [{"role": "system", "content": "Be brief."}]
    assert run(routes.route_generation("hi", context, "en-IN")) == "Hello!"
    routes.llm.chat.assert_awaited_once_with([*context, {"role": "user", "content": "hi"}])  # type: ignore[attr-defined]
    assert len(context) == 1


@pytest.mark.parametrize("blank", ["", "   ", None])
def test_a_blank_answer_is_none_and_not_asked_again(blank: str | None) -> None:
    routes = router(llm=blank)
    assert run(routes.route_generation("hi", [], "en-IN")) is None
    assert routes.llm.chat.await_count == 1  # type: ignore[attr-defined]


def test_an_answer_is_asked_for_once_more_after_an_error_that_may_pass() -> None:
    routes = router(llm=[ProviderError("busy", code="llm.rate_limited"), "Hello!"])
    assert timed(lambda: routes.route_generation("hi", [], "en-IN")) == ("Hello!", 0.5)
    routes = router(llm=[ProviderRefused("no credit", code="llm.quota")])
    assert timed(lambda: routes.route_generation("hi", [], "en-IN")) == (None, 0.0)
    assert routes.last_errors["llm"].code == "llm.quota"


# -- speech --------------------------------------------------------------------------------------


def test_synthesis() -> None:
    routes = router(tts=bytearray(b"RIFF"))
    audio = run(routes.route_synthesis("hi", "gu-IN"))
    assert (audio, type(audio)) == (b"RIFF", bytes)
    routes.tts.text_to_speech.assert_awaited_once_with("hi", "gu-IN")  # type: ignore[attr-defined]


def test_synthesis_is_tried_twice() -> None:
    assert timed(lambda: router(tts=[OSError("reset"), b"RIFF"]).route_synthesis("hi", "en-IN")) == (b"RIFF", 0.5)
    assert timed(lambda: router(tts=[b"", b"RIFF"]).route_synthesis("hi", "en-IN")) == (b"RIFF", 0.0)
    assert timed(lambda: router(tts=[OSError(), OSError()]).route_synthesis("hi", "en-IN")) == (None, 0.5)


# -- providers that are wrong --------------------------------------------------------------------


def plain(*arguments: object) -> Any:
    return "an answer, at once"


def cancels(*arguments: object) -> Any:
    async def work() -> None:
        raise asyncio.CancelledError

    return work()


@pytest.mark.parametrize(
    ("effect", "code"),
    [
        (plain, "not_async"),
        (cancels, "cancelled"),
        (lambda: 1, "raised"),
        (42, "bad_result"),
        ([KeyError("x"), ValueError("y")], "raised"),
        ([TimeoutError(), TimeoutError()], "timeout"),
    ],
)
def test_a_wrong_provider_is_a_coded_error(effect: Any, code: str) -> None:
    routes = router(stt=effect, llm=effect, tts=effect)

    async def main() -> None:
        assert await routes.route_transcription(b"wav") == (None, None)
        assert await routes.route_generation("hi", [], "en-IN") is None
        assert await routes.route_synthesis("hi", "en-IN") is None

    run(main())
    assert {name: error.code for name, error in routes.last_errors.items()} == {
        name: f"{name}.{code}" for name in ("stt", "llm", "tts")
    }


@pytest.mark.parametrize("result", [("text",), ("text", "hi-IN", 0.9), "te", {"text": "x"}, (b"text", None), ("x", 1)])
def test_a_transcript_of_the_wrong_shape(result: Any) -> None:
    routes = router(stt=result)
    assert run(routes.route_transcription(b"wav")) == (None, None)
    assert routes.last_errors["stt"].code == "stt.bad_result"
    assert "(text, language)" in str(routes.last_errors["stt"])


def test_an_object_without_the_method_is_refused_at_once() -> None:
    for at, method in enumerate(("speech_to_text", "chat", "text_to_speech")):
        modules: list[Any] = [Mock(), Mock(), Mock()]
        modules[at] = object()
        with pytest.raises(ConfigError, match=method):
            TaskRouter(*modules)


def test_texts_are_bounded() -> None:
    routes = router(stt=("x" * 10_000, None), llm="y" * 10_000)
    assert len(run(routes.route_transcription(b"wav"))[0] or "") == 4_000
    assert len(run(routes.route_generation("hi", [], "en-IN")) or "") == 8_000


# -- breakers ------------------------------------------------------------------------------------


def test_every_attempt_counts_and_an_open_breaker_is_not_waited_for() -> None:
    routes = router(stt=RuntimeError)
    routes.stt.speech_to_text = AsyncMock(side_effect=RuntimeError)  # type: ignore[method-assign]

    async def main() -> tuple[list[float], dict[str, Any]]:
        times = []
        for _ in range(4):
            await routes.route_transcription(b"wav")
            times.append(asyncio.get_running_loop().time())
        return times, routes.get_breaker_status()

    times, status = run(main())
    # The fifth failure opens it: it is not asked a sixth time, nor waited for.
    assert times == [0.5, 1.0, 1.0, 1.0]
    assert routes.stt.speech_to_text.await_count == 5
    assert routes.last_errors["stt"].code == "breaker.open"
    assert (status["stt"]["state"], status["stt"]["failure_count"]) == ("open", 5)
    assert status["llm"]["state"] == status["tts"]["state"] == "closed"


def test_after_a_minute_one_attempt_closes_it() -> None:
    routes = router(stt=[RuntimeError()] * 5 + [("hello", None)])

    async def main() -> Any:
        for _ in range(3):
            await routes.route_transcription(b"wav")
        await asyncio.sleep(60)
        return await routes.route_transcription(b"wav")

    assert run(main()) == ("hello", None)
    assert routes.get_breaker_status()["stt"] == {
        "state": "closed",
        "failure_count": 0,
        "failure_threshold": 5,
        "timeout": 60.0,
        "retry_in": 0.0,
    }


def test_blank_answers_say_nothing_against_a_provider() -> None:
    routes = router(stt=("", None))
    for _ in range(5):
        run(routes.route_transcription(b"wav"))
    assert routes.get_breaker_status()["stt"]["failure_count"] == 0


def test_without_breakers_it_is_asked_for_ever() -> None:
    routes = router(stt=("", None), enable_circuit_breaker=False)
    routes.stt.speech_to_text = AsyncMock(side_effect=RuntimeError)  # type: ignore[method-assign]
    for _ in range(6):
        run(routes.route_transcription(b"wav"))
    assert routes.stt.speech_to_text.await_count == 12
    assert routes.get_breaker_status() == {}


def test_a_cancelled_attempt_counts_neither_way() -> None:
    async def hangs(text: str, language: str) -> bytes:
        await asyncio.sleep(1000)
        return b""

    routes = router(tts=hangs)

    async def main() -> None:
        for _ in range(6):
            task = asyncio.ensure_future(routes.route_synthesis("hi", "en-IN"))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    assert routes.get_breaker_status()["tts"]["failure_count"] == 0


# -- the log -------------------------------------------------------------------------------------


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    routes = router(
        stt=[
            RuntimeError("no route to host"),
            ("a question that is a good deal longer than fifty letters", "hi-IN"),
        ],
        tts=wav_write(bytes(320), 8_000),
        call_id="CA1",
    )

    async def main() -> None:
        await routes.route_transcription(b"wav")
        await routes.route_synthesis("hi", "en-IN")

    with caplog.at_level(logging.DEBUG, logger="antiphon"):
        run(main())
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.startswith("antiphon")]
    assert told == [
        ("ERROR", "STT attempt 1 of 2 failed: [stt.raised] RuntimeError: no route to host"),
        ("WARNING", "STT is tried again in 0.5 s"),
        ("INFO", "STT successful: 'a question that is a good deal longer than fifty …' (lang: hi-IN)"),
        ("INFO", "TTS successful: 364 bytes"),
    ]
    assert {record.__dict__["call"] for record in caplog.records if record.name.startswith("antiphon")} == {"CA1"}


@pytest.mark.parametrize(
    ("audio", "told"),
    [(b"ID3 an mp3", True), (wav_write(bytes(320), 8_000)[:-1], True), (wav_write(bytes(320), 8_000), False)],
)
def test_what_is_no_wav_is_handed_on_and_said_in_the_log(
    audio: bytes, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    routes = router(tts=audio)
    assert run(routes.route_synthesis("hi", "en-IN")) == audio
    assert ("[tts.not_wav]" in caplog.text) is told


# -- breakers of one process ---------------------------------------------------------------------


def down() -> Any:
    return Mock(chat=AsyncMock(side_effect=ProviderError("down", stage="llm", code="llm.server")))


def routed(llm: Any, **how: Any) -> TaskRouter:
    return TaskRouter(Mock(speech_to_text=AsyncMock()), llm, Mock(text_to_speech=AsyncMock()), **how)


def test_what_one_conversation_found_out_a_hundred_others_know() -> None:
    model = down()
    conversations = [routed(model, sleep=AsyncMock()) for _ in range(100)]

    async def main() -> None:
        for each in conversations:
            await each.route_generation("x", [], "en-IN")

    run(main())
    assert model.chat.await_count == 5
    assert {each.get_breaker_status()["llm"]["state"] for each in conversations} == {"open"}
    assert {each.get_breaker_status()["stt"]["state"] for each in conversations} == {"closed"}
    assert routed(down()).get_breaker_status()["llm"]["state"] == "closed", "another object"


def test_of_conversations_that_come_together_one_is_the_probe() -> None:
    model, now = down(), [0.0]
    limits = {"llm": StagePolicy(first_s=15.0, share=1.0, retries=0, failures=1, open_s=10.0)}
    clock = lambda: now[0]  # noqa: E731 - one clock for all, so that they share
    one, two, three = (routed(model, policies=limits, clock=clock) for _ in range(3))
    assert one.breakers["llm"] is two.breakers["llm"] is three.breakers["llm"]

    async def main() -> None:
        await one.route_generation("x", [], "en-IN")
        now[0] = 10.0
        answers = asyncio.Event()

        async def slowly(messages: object) -> str:
            await answers.wait()
            return "back"

        model.chat = AsyncMock(side_effect=slowly)
        asked = [asyncio.ensure_future(each.route_generation("x", [], "en-IN")) for each in (one, two, three)]
        await asyncio.sleep(0)
        asked[0].cancel()  # the caller hung up: it says nothing, and the next is the probe
        await asyncio.gather(asked[0], return_exceptions=True)
        assert [await each for each in asked[1:]] == [None, None]
        probe = asyncio.ensure_future(two.route_generation("x", [], "en-IN"))
        await asyncio.sleep(0)
        answers.set()
        assert await probe == "back"
        assert await three.route_generation("x", [], "en-IN") == "back"

    run(main())


def test_breakers_live_as_long_as_the_provider() -> None:
    class Slotted:
        __slots__ = ()

        async def chat(self, messages: object) -> str:
            return "x"

    llm = down()
    first, known = routed(llm), id(llm)
    assert known in _shared
    assert routed(llm, policies={"llm": StagePolicy(failures=2)}).breakers["llm"] is not first.breakers["llm"]
    assert routed(llm).breakers["llm"] is first.breakers["llm"]
    del first, llm
    gc.collect()
    assert known not in _shared
    one = Slotted()
    assert routed(one).breakers["llm"] is not routed(one).breakers["llm"]
