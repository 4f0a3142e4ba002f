"""The fake providers on virtual time: delays, order, faults."""

import asyncio
import math

import numpy as np
import pytest
from virtual_loop import now_ms, run

from antiphon.errors import ConfigError, ProviderError
from antiphon.providers.registry import load
from antiphon.providers.tts.fake import tone
from antiphon.runtime.ports import Heard, ReplyEnd, ReplyRequest, TextDelta

SECOND = bytes(16_000)


async def act(name: str, kind: str, arguments: str) -> str:
    raise AssertionError("the fake asks for no effects")


def request(**more: object) -> ReplyRequest:
    return ReplyRequest(**{"session": "s", "turn": 1, "attempt": 1, "text": "hello", "language": "en-IN", **more})


async def reply(responder: object, **more: object) -> tuple[str, list[int]]:
    text, times = "", []
    async for part in responder.respond(request(**more), act):
        times.append(now_ms())
        text += part.text if isinstance(part, TextDelta) else ""
    assert isinstance(part, ReplyEnd)
    return text, times


def test_transcripts_are_heard_in_turn_after_the_delay() -> None:
    async def main() -> None:
        stt = load("stt", "fake", {"stt_ms": 300, "transcripts": ["one", "two"]})
        heard: list[tuple[int, Heard]] = []
        ear = stt.open(sample_rate=8000, language="en-IN", on_heard=lambda each: heard.append((now_ms(), each)))
        for utterance in (1, 2, 3):
            ear.feed(SECOND)
            ear.finish(utterance)
            ear.finish(utterance)  # a second order for the same utterance owes nothing more
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert [(at, each.utterance, each.text, each.final) for at, each in heard] == [
            (300, 1, "one", True),
            (400, 2, "two", True),
            (500, 3, "one", True),
        ]

    run(main())


def test_without_a_delay_the_final_comes_from_the_loop_and_not_from_inside_finish() -> None:
    async def main() -> None:
        heard: list[Heard] = []
        ear = load("stt", "fake").open(sample_rate=8000, language="hi-IN", on_heard=heard.append)
        ear.finish(1)
        assert heard == []
        await asyncio.sleep(0)
        assert [(each.final, each.language) for each in heard] == [(True, "hi-IN")]
        ear.hint("te-IN")
        ear.finish(2)
        await asyncio.sleep(0)
        assert heard[-1].language == "te-IN"

    run(main())


LOUD_20_MS = b"\x00\x10" * 160


def test_partials_grow_with_the_speech_and_start_anew_with_each_utterance() -> None:
    async def main() -> None:
        heard: list[Heard] = []
        stt = load("stt", "fake", {"partial_ms": 500, "text": "a b c"})
        ear = stt.open(sample_rate=8000, language="", on_heard=heard.append)
        for _ in range(100):
            ear.feed(LOUD_20_MS)
            ear.feed(b"\xf4\x01" * 160)  # as loud as the loudest noise
        assert [each.text for each in heard] == ["a", "a b", "a b c"]
        ear.finish(1)
        ear.feed(25 * LOUD_20_MS)
        assert (heard[-1].utterance, heard[-1].text, heard[-1].final) == (2, "a", False)
        await asyncio.sleep(0)
        assert (heard[-1].utterance, heard[-1].final) == (1, True)

    run(main())


def test_a_failed_utterance_is_one_error_a_hanging_one_is_silence() -> None:
    async def main() -> None:
        heard: list[Heard] = []
        stt = load("stt", "fake", {"fail_every": 2, "hang_every": 3})
        ear = stt.open(sample_rate=8000, language="", on_heard=heard.append)
        for utterance in (1, 2, 3, 4):
            ear.finish(utterance)
        await asyncio.sleep(100)
        assert [(each.utterance, each.error) for each in heard] == [(1, ""), (2, "stt.failed"), (4, "stt.failed")]

    run(main())


def test_nothing_is_heard_after_close() -> None:
    async def main() -> None:
        heard: list[Heard] = []
        ear = load("stt", "fake", {"stt_ms": 10, "partial_ms": 1}).open(
            sample_rate=8000, language="", on_heard=heard.append
        )
        ear.finish(1)
        ear.close()
        ear.close()
        ear.feed(SECOND)
        ear.finish(2)
        await asyncio.sleep(1)
        assert heard == []

    run(main())


def test_a_reply_comes_word_by_word() -> None:
    async def main() -> None:
        llm = load("llm", "fake", {"llm_ms": 350, "llm_token_ms": 15, "reply": "one two three"})
        text, times = await reply(llm)
        assert text == "one two three"
        assert times == [350, 365, 380, 380]

    run(main())


def test_a_reply_without_delay_takes_no_time_and_yields_to_nobody() -> None:
    async def main() -> None:
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        text, times = await reply(load("llm", "fake"))
        assert text
        assert set(times) == {0}
        assert ran == []

    run(main())


def test_a_reply_names_what_was_asked_and_goes_on_from_what_was_said() -> None:
    async def main() -> None:
        llm = load("llm", "fake", {"reply": "You said {text}, in {language}, turn {turn}."})
        assert (await reply(llm))[0] == "You said hello, in en-IN, turn 1."
        assert (await reply(llm, said="You said hello,"))[0] == "in en-IN, turn 1."
        assert (await reply(load("llm", "fake", {"reply": "a b c"}), said="x"))[0] == "a b c"

    run(main())


@pytest.mark.parametrize(("after", "words"), [(0, ""), (2, "a b ")])
def test_a_reply_fails_where_told_to(after: int, words: str) -> None:
    async def main() -> None:
        llm = load("llm", "fake", {"reply": "a b c", "fail_every": 1, "fault_after_tokens": after})
        parts = llm.respond(request(), act)
        assert "".join([(await anext(parts)).text for _ in range(after)]) == words
        with pytest.raises(ProviderError) as caught:
            await anext(parts)
        assert (caught.value.code, caught.value.stage, caught.value.provider) == ("llm.failed", "llm", "fake")

    run(main())


def test_a_hanging_provider_ends_when_it_is_cancelled() -> None:
    async def main() -> None:
        for answer in (
            reply(load("llm", "fake", {"hang_every": 1})),
            load("intent", "fake", {"hang_every": 1}).classify("x", language="", history=()),
            load("retrieval", "fake", {"hang_every": 1}).retrieve("x", language="", history=()),
        ):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(answer, 5)
        assert now_ms() == 15_000

    run(main())


def test_speech_is_as_long_as_its_text_and_marks_each_word() -> None:
    async def main() -> None:
        tts = load("tts", "fake", {"tts_ms": 150, "char_ms": 50, "tts_realtime_factor": 0.5})
        text = "नमस्ते, how are you?"
        times, sounds = [], []
        async for sound in tts.synthesize(text, language="hi-IN", sample_rate=8000):
            times.append(now_ms())
            sounds.append(sound)
        pcm = b"".join(sound.pcm for sound in sounds)
        assert len(pcm) == len(text) * 50 * 8 * 2
        assert times == [150 + 50 * index for index in range(len(sounds))]
        marks = [mark for sound in sounds for mark in sound.words]
        assert [text[mark.char :].split(maxsplit=1)[0] for mark in marks] == text.split()
        assert [mark.sample for mark in marks] == sorted(mark.char * 400 for mark in marks)

    run(main())


def test_the_tone_can_be_heard_and_does_not_click() -> None:
    samples = np.frombuffer(tone(8000, 8000), "<i2").astype(float)
    peak_dbfs = 20 * math.log10(abs(samples).max() / 32767)
    assert -12.5 < peak_dbfs < -11.5
    assert np.argmax(abs(np.fft.rfft(samples))) == 440
    assert abs(samples[0]) < 50
    assert abs(samples[-1]) < 50


def test_speech_fails_where_told_to_and_of_nothing_is_nothing() -> None:
    async def main() -> None:
        tts = load("tts", "fake", {"fail_every": 2})
        assert [s async for s in tts.synthesize("  ", language="", sample_rate=8000)] == []
        with pytest.raises(ProviderError, match=r"tts\.failed"):
            await anext(tts.synthesize("x", language="", sample_rate=8000))

    run(main())


def test_intents_and_passages_are_those_set() -> None:
    async def main() -> None:
        intent = load("intent", "fake", {"intents": {"Bye": "goodbye"}, "intent_ms": 20, "fail_every": 3})
        assert (await intent.classify("ok bye then", language="", history=())).name == "goodbye"
        assert (await intent.classify("fees?", language="", history=())).name == "question"
        with pytest.raises(ProviderError, match=r"intent\.failed"):
            await intent.classify("x", language="", history=())
        assert now_ms() == 60
        found = load("retrieval", "fake", {"passages": [{"text": "a", "score": 0.1}, {"text": "b"}], "fail_every": 2})
        assert [each.text for each in await found.retrieve("x", language="", history=())] == ["b", "a"]
        with pytest.raises(ProviderError, match=r"retrieval\.failed"):
            await found.retrieve("x", language="", history=())
        assert await load("retrieval", "none").retrieve("x", language="", history=()) == ()
        assert (await load("intent", "none").classify("x", language="", history=())).name == ""

    run(main())


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("stt", {"stt_m": 3}, "stt_ms"),
        ("llm", {"llm_ms": -1}, "llm_ms"),
        ("tts", {"tts_ms": "soon"}, "tts_ms"),
        ("intent", {"confidence": 2}, "confidence"),
        ("retrieval", {"passages": [{"texts": "a"}]}, "passages"),
    ],
)
def test_a_wrong_setting_is_named(kind: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(kind, "fake", settings)
