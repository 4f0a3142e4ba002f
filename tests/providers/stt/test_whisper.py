"""The transcriber for OpenAI-compatible endpoints against a loopback, and the vendor's SDK against the same one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from loopback_whisper import KEY, TEXT, Loopback, segment, serving

from antiphon.conformance import KITS, examine, report
from antiphon.conformance.voice import RATE, made_up_voice
from antiphon.errors import ConfigError, ProviderError
from antiphon.media.codec import wav_write
from antiphon.providers.registry import load
from antiphon.providers.stt import utterances
from antiphon.providers.stt.whisper import WhisperTranscriber, build
from antiphon.runtime.ports import Heard, TranscriberStream
from antiphon.secret import Secret

SPEECH = made_up_voice(4)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "GROQ_API_KEY", "SPEACHES_API_KEY", "ANTIPHON_SECRETS_FILE"):
        monkeypatch.delenv(variable, raising=False)


def transcriber(loopback: Loopback, **settings: object) -> WhisperTranscriber:
    given = {"base_url": loopback.base_url, "model": "gpt-transcribe", "api_key": Secret(KEY), "first_s": 2}
    return build({**given, **settings})


class Caller:
    """One stream, and what is heard on it."""

    def __init__(self, ear: WhisperTranscriber, *, language: str = "en-IN", rate: int = RATE) -> None:
        self.heard: list[Heard] = []
        self._news = asyncio.Event()
        self.stream: TranscriberStream = ear.open(sample_rate=rate, language=language, on_heard=self._on_heard)

    def _on_heard(self, heard: Heard) -> None:
        self.heard.append(heard)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def end_of(self, utterance: int) -> Heard:
        def ends() -> list[Heard]:
            return [each for each in self.heard if each.utterance == utterance and (each.final or each.error)]

        await self.until(lambda: bool(ends()))
        return ends()[0]

    async def say(self, utterance: int, pcm: bytes = SPEECH) -> Heard:
        self.stream.feed(pcm)
        self.stream.finish(utterance)
        return await self.end_of(utterance)


def run(main: Callable[[Loopback], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with serving(Loopback()) as loopback:
            await main(loopback)
            left = [task for task in asyncio.all_tasks() if "antiphon.providers" in repr(task.get_coro())]
            assert left == []

    asyncio.run(serve())


@pytest.mark.parametrize("model", ["gpt-transcribe", "whisper-1"])
def test_an_utterance_is_sent_once_it_is_over_and_the_connection_is_used_again(model: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.language = "english"
        ear = transcriber(loopback, model=model)
        caller = Caller(ear)
        for utterance in (1, 2, 3):
            heard = await caller.say(utterance)
            assert (heard.text, heard.final, heard.language) == (TEXT, True, "en-IN")
        assert len(loopback.connections) == 1
        first = loopback.requests[0]
        assert (first.pcm, first.rate) == (SPEECH, RATE)
        assert (first.filename, first.content_type) == ("utterance.wav", "audio/wav")
        await ear.close()
        await ear.close()

    run(main)


def test_the_text_streams_while_it_is_being_written() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.gate_streams = True
        ear = transcriber(loopback)
        caller = Caller(ear)
        caller.stream.feed(SPEECH)
        caller.stream.finish(1)
        await caller.until(lambda: bool(caller.heard))
        assert caller.heard == [Heard(1, "what")]  # the endpoint has not said more yet
        loopback.gate.set()
        assert (await caller.end_of(1)).text == TEXT
        texts = [each.text for each in caller.heard]
        assert all(TEXT.startswith(text) for text in texts)
        assert texts == sorted(texts, key=len)
        await ear.close()

    run(main)


@pytest.mark.parametrize("fault", ["by_segment", "chat_like", "stays_open"])
def test_other_shapes_of_a_streamed_answer(fault: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script = [fault]
        ear = transcriber(loopback)
        assert (await Caller(ear).say(1)).text == TEXT
        await ear.close()

    run(main)


def test_the_vendors_sdk_hears_and_sends_the_same() -> None:
    async def main(loopback: Loopback) -> None:
        ear = transcriber(
            loopback, languages=["en-IN", "hi-IN"], keywords=["Antiphon"], prompt="A call to the admissions office."
        )
        ours = await Caller(ear).say(1)
        sdk = openai.AsyncOpenAI(base_url=loopback.base_url, api_key=KEY, max_retries=0)
        wav = ("utterance.wav", wav_write(SPEECH, RATE), "audio/wav")
        asked: dict[str, Any] = {"file": wav, "model": "gpt-transcribe", "response_format": "json"}
        hints: dict[str, Any] = {"languages": ["en", "hi"], "keywords": ["Antiphon"]}
        prompt = "A call to the admissions office."
        theirs, languages = "", None
        async for event in await sdk.audio.transcriptions.create(**asked, **hints, prompt=prompt, stream=True):
            if event.type == "transcript.text.delta":
                theirs += event.delta
            else:
                assert event.type == "transcript.text.done"
                assert event.text == theirs
                languages = [each.code for each in event.languages or ()]
        assert theirs == ours.text == TEXT
        assert languages == ["en"]
        assert sorted(loopback.requests[0].fields) == sorted(loopback.requests[1].fields)
        assert loopback.requests[0].pcm == loopback.requests[1].pcm

        whole = await sdk.audio.transcriptions.create(
            **{**asked, "model": "whisper-1", "response_format": "verbose_json"}
        )
        assert whole.language == "hindi"
        assert whole.segments is not None
        assert whole.segments[0].no_speech_prob == 0.01
        logs = await sdk.audio.transcriptions.create(
            **{**asked, "model": "gpt-4o-mini-transcribe"}, include=["logprobs"]
        )
        assert logs.logprobs is not None
        loopback.script = ["429"]
        with pytest.raises(openai.RateLimitError):
            await sdk.audio.transcriptions.create(**asked)
        await sdk.close()
        await ear.close()

    run(main)


def test_what_whisper_says_of_its_segments_is_the_confidence_and_its_language_the_calls() -> None:
    async def main(loopback: Loopback) -> None:
        ear = transcriber(loopback, model="whisper-1", language="detect")
        heard = await Caller(ear).say(1)
        assert (heard.text, heard.language) == (TEXT, "hi-IN")
        assert heard.confidence == pytest.approx(0.8187, abs=1e-3)
        assert heard.language_confidence == heard.confidence
        assert loopback.requests[0].one("response_format") == "verbose_json"
        assert loopback.requests[0].all("language") == []
        assert loopback.requests[0].all("stream") == []
        await ear.close()

    run(main)


def test_the_call_tells_its_language_and_a_hint_changes_it_from_the_next_utterance_on() -> None:
    async def main(loopback: Loopback) -> None:
        ear = transcriber(loopback, model="whisper-large-v3-turbo")
        caller = Caller(ear, language="hi-IN")
        caller.stream.feed(SPEECH)
        caller.stream.hint("te-IN")
        caller.stream.finish(1)
        first = await caller.end_of(1)
        assert (first.language, first.language_confidence) == ("hi-IN", 0.0)
        loopback.language = "Telugu"
        assert (await caller.say(2)).language == "te-IN"
        caller.stream.hint("or-IN")  # Odia: none of Whisper's languages
        await caller.say(3)
        assert [each.all("language") for each in loopback.requests] == [["hi"], ["te"], []]
        await ear.close()

    run(main)


def test_the_gpt_4o_transcribers_tell_how_sure_they_are_of_each_token() -> None:
    async def main(loopback: Loopback) -> None:
        for stream in ("on", "off"):
            ear = transcriber(loopback, model="gpt-4o-mini-transcribe", stream=stream)
            heard = await Caller(ear).say(1)
            assert heard.confidence == pytest.approx(0.8187, abs=1e-3)
            assert loopback.requests[-1].all("include[]") == ["logprobs"]
            await ear.close()

    run(main)


def test_a_language_that_gpt_transcribe_lists_speaks_for_itself_when_it_was_asked_to_find_it_out() -> None:
    async def main(loopback: Loopback) -> None:
        ear = transcriber(loopback, language="detect", languages=["en-US", "gu-IN"])
        caller = Caller(ear)
        heard = await caller.say(1)
        assert (heard.language, heard.language_confidence) == ("en-IN", 0.75)  # the call's own English is meant
        loopback.languages = ["gu"]
        assert (await caller.say(2)).language == "gu-IN"
        loopback.languages = []
        heard = await caller.say(3)
        assert (heard.language, heard.language_confidence) == ("", 0.0)
        assert loopback.requests[0].all("languages[]") == ["en", "gu"]
        await ear.close()
        # What it is told is a hint to this model: it finds the language out all the same.
        loopback.languages = ["te"]
        hinted = transcriber(loopback)
        heard = await Caller(hinted, language="hi-IN").say(1)
        assert (heard.language, heard.language_confidence) == ("te-IN", 0.75)
        assert loopback.requests[-1].all("languages[]") == ["hi"]
        await hinted.close()

    run(main)


# -- silence ------------------------------------------------------------------------------------


def test_silence_and_coughs_are_sent_to_nobody() -> None:
    async def main(loopback: Loopback) -> None:
        ear = transcriber(loopback)
        caller = Caller(ear)
        for utterance, pcm in enumerate((b"", bytes(RATE), SPEECH[: RATE // 10], b"\x05\x00" * RATE), 1):
            heard = await caller.say(utterance, pcm)
            assert (heard.text, heard.final, heard.error) == ("", True, "")
        assert loopback.requests == []
        await ear.close()

    run(main)


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ([segment("Thank you for watching!", avg_logprob=-0.1, no_speech_prob=0.97)], ""),
        ([segment("you", avg_logprob=-1.4, no_speech_prob=0.7)], ""),
        ([segment("no no no no no", ratio=3.0)], ""),
        (
            [segment("what are the fees"), segment("Subscribe!", avg_logprob=-1.6, no_speech_prob=0.8)],
            "what are the fees",
        ),
        ([segment("yes", avg_logprob=-0.3, no_speech_prob=0.8)], "yes"),
        ([], ""),
    ],
)
def test_what_the_model_makes_up_out_of_silence_is_not_believed(segments: list[dict[str, Any]], text: str) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.segments = segments
        ear = transcriber(loopback, model="whisper-1")
        heard = await Caller(ear).say(1)
        assert (heard.text, heard.error) == (text, "")
        assert (heard.confidence > 0) == bool(text)
        await ear.close()

    run(main)


def test_a_prompt_that_comes_back_was_not_spoken() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.text = "Admissions. MBA, BTech"
        ear = transcriber(loopback, model="whisper-1", prompt="Admissions.", keywords=["MBA", "BTech"])
        assert (await Caller(ear).say(1)).text == ""
        assert loopback.requests[0].one("prompt") == "Admissions. MBA, BTech"
        await ear.close()

    run(main)


# -- partials while the caller speaks -----------------------------------------------------------


def test_the_beginning_is_asked_about_while_the_caller_speaks_one_request_at_a_time() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.texts = ["what are", "what are the admission", TEXT]
        loopback.script = ["gated"]
        ear = transcriber(loopback, interim_ms=500)
        caller = Caller(ear)
        for at in range(0, RATE * 2 * 3, 320):  # three seconds, while the first request waits
            caller.stream.feed(SPEECH[at % 8000 : at % 8000 + 320])
        await asyncio.wait_for(loopback.asked.wait(), 2)
        await asyncio.sleep(0.02)
        assert len(loopback.requests) == 1
        loopback.gate.set()
        await caller.until(lambda: len(caller.heard) == 1)
        caller.stream.feed(SPEECH)
        await caller.until(lambda: len(caller.heard) == 2)
        caller.stream.finish(1)
        await caller.end_of(1)
        assert [each.text for each in caller.heard if not each.final][:2] == ["what are", "what are the admission"]
        sizes = [len(each.pcm) for each in loopback.requests]
        assert sizes[0] == RATE  # 500 ms
        assert sizes == sorted(sizes)
        assert len(sizes) == 3
        await ear.close()

    run(main)


def test_a_partial_under_way_is_given_up_when_the_utterance_is_over_and_a_failed_one_is_the_last() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script = ["hang", "", "500"]
        ear = transcriber(loopback, interim_ms=300)
        caller = Caller(ear)
        caller.stream.feed(SPEECH)
        await asyncio.wait_for(loopback.asked.wait(), 2)
        caller.stream.finish(1)
        assert (await caller.end_of(1)).text == TEXT
        await asyncio.wait_for(loopback.cancelled.wait(), 2)
        for _ in range(6):
            caller.stream.feed(SPEECH)
            await asyncio.sleep(0.02)
        assert len(loopback.requests) == 3
        caller.stream.finish(2)
        assert (await caller.end_of(2)).text == TEXT
        await ear.close()

    run(main)


# -- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("429", "stt.rate_limited"),
        ("quota", "stt.quota"),
        ("500", "stt.server"),
        ("400", "stt.bad_request"),
        ("404", "stt.not_found"),
        ("redirect", "stt.bad_endpoint"),
        ("not_json", "stt.garbage"),
        ("no_text", "stt.garbage"),
        ("huge", "stt.garbage"),
        ("too_long", "stt.too_large"),
        ("hang", "stt.timeout_first_byte"),
        ("stall", "stt.timeout_stalled"),
        ("cut", "stt.cut"),
        ("ends_early", "stt.cut"),
        ("garbage", "stt.garbage"),
        ("bad_utf8", "stt.garbage"),
        ("body_bad_utf8", "stt.garbage"),
        ("error_event", "stt.server"),
    ],
)
def test_a_failure_is_told_by_its_code(fault: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script = [fault]
        # Short where it is waited for; elsewhere a busy machine may take its time.
        ear = transcriber(loopback, first_s=0.15 if fault == "hang" else 5, between_s=0.1)
        caller = Caller(ear)
        heard = await caller.say(1)
        assert (heard.error, heard.final, heard.text) == (code, False, "")
        await ear.close()
        ear = transcriber(loopback)
        assert (await Caller(ear).say(1)).text == TEXT
        await ear.close()

    caplog.set_level(logging.DEBUG)
    run(main)
    assert KEY not in caplog.text
    assert code in caplog.text


def test_an_answer_that_breaks_off_is_cut_and_not_half_a_sentence() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script = ["cut_body"]
        ear = transcriber(loopback, model="whisper-1")
        assert (await Caller(ear).say(1)).error == "stt.cut"
        await ear.close()

    run(main)


def test_a_failure_is_told_at_once_and_nothing_is_sent_twice() -> None:
    """Whether it is asked again is for the stage to say."""

    async def main(loopback: Loopback) -> None:
        ear = transcriber(loopback)
        caller = Caller(ear)
        faults = {"429": "stt.rate_limited", "500": "stt.server", "ends_early": "stt.cut", "quota": "stt.quota"}
        for utterance, (fault, code) in enumerate(faults.items(), 1):
            loopback.script = [fault]
            assert (await caller.say(utterance)).error == code
            assert len(loopback.requests) == utterance
        await ear.close()

    run(main)


def test_nobody_listens_there() -> None:
    async def main(loopback: Loopback) -> None:
        ear = build({"preset": "speaches", "base_url": "http://127.0.0.1:9/v1"})
        assert (await Caller(ear).say(1)).error == "stt.unreachable"
        with pytest.raises(ProviderError, match="start speaches"):
            await ear.check()
        await ear.close()

    run(main)


def test_closing_closes_the_request_and_nothing_is_told_afterwards() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script = ["hang", "hang"]
        ear = transcriber(loopback)
        for way in ("stream", "transcriber"):
            caller = Caller(ear)
            loopback.asked.clear()
            loopback.cancelled.clear()
            caller.stream.feed(SPEECH)
            caller.stream.finish(1)
            await asyncio.wait_for(loopback.asked.wait(), 2)
            await asyncio.sleep(0.01)
            if way == "stream":
                caller.stream.close()
            else:
                await ear.close()
            await asyncio.wait_for(loopback.cancelled.wait(), 2)
            assert caller.heard == []
        with pytest.raises(ProviderError) as caught:
            Caller(ear)
        assert caught.value.code == "stt.closed"
        with pytest.raises(ProviderError) as caught:
            await ear.check()
        assert caught.value.code == "stt.closed", "it opens nothing again by itself"

    run(main)


def test_a_wrong_key_is_refused_and_stands_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    wrong = "sk-wrong-9876543210"

    async def main(loopback: Loopback) -> None:
        ear = transcriber(loopback, api_key=Secret(wrong))
        assert (await Caller(ear).say(1)).error == "stt.unauthorized"
        assert len(loopback.requests) == 1
        assert wrong not in repr(ear.settings) + repr(ear.endpoint) + str(vars(ear))
        await ear.close()

    caplog.set_level(logging.DEBUG)
    run(main)
    assert "sk-wrong" not in caplog.text


def test_an_utterance_is_heard_up_to_a_minute_and_a_caller_has_so_many_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loopback: Loopback) -> None:
        ear = transcriber(loopback)
        caller = Caller(ear)
        for _ in range(40):
            caller.stream.feed(SPEECH * 2)
        caller.stream.finish(1)
        await caller.end_of(1)
        assert len(loopback.requests[0].pcm) == 60 * RATE * 2
        monkeypatch.setattr(utterances, "MAX_OWED", 2)
        loopback.script = ["gated", "gated"]
        for utterance in (2, 3, 4):
            caller.stream.feed(SPEECH)
            caller.stream.finish(utterance)
        await asyncio.wait_for(loopback.asked.wait(), 2)
        loopback.gate.set()
        assert [(await caller.end_of(number)).error for number in (2, 3, 4)] == ["", "", "stt.busy"]
        assert [each.utterance for each in caller.heard if each.final or each.error] == [1, 2, 3, 4]
        await ear.close()

    run(main)
    assert "over 60 s" in caplog.text


def test_finals_come_in_the_order_of_the_utterances() -> None:
    async def main(loopback: Loopback) -> None:
        loopback.script = ["gated"]
        ear = transcriber(loopback)
        caller = Caller(ear)
        for utterance in (1, 2):
            caller.stream.feed(SPEECH)
            caller.stream.finish(utterance)
        await asyncio.wait_for(loopback.answered.wait(), 2)
        await asyncio.sleep(0.05)
        assert caller.heard == []
        loopback.gate.set()
        await caller.end_of(2)
        assert [each.utterance for each in caller.heard if each.final] == [1, 2]
        assert [each.utterance for each in caller.heard] == sorted(each.utterance for each in caller.heard)
        await ear.close()

    run(main)


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"preset": "groq"}, "GROQ_API_KEY"),
        ({"preset": "nobody"}, "choose one of openai"),
        ({"preset": "vllm"}, "model must be set"),
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"preset": "speaches", "interim_ms": 100}, "at least 300"),
        ({"preset": "speaches", "keywords": ["a<b"]}, "keywords"),
        ({"preset": "speaches", "stream": "perhaps"}, "choose one of auto, on, off"),
        ({"preset": "speaches", "modle": "x"}, "did you mean 'model'"),
    ],
)
def test_settings_that_cannot_be_name_the_fix(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load("stt", "whisper", settings)


def test_presets_need_nothing_but_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    found = {name: build({"preset": name}).endpoint for name in ("openai", "groq", "speaches")}
    assert {name: (each.base_url, each.model) for name, each in found.items()} == {
        "openai": ("https://api.openai.com/v1", "gpt-transcribe"),
        "groq": ("https://api.groq.com/openai/v1", "whisper-large-v3-turbo"),
        "speaches": ("http://localhost:8000/v1", "Systran/faster-whisper-small"),
    }
    assert found["openai"].request_headers()["Authorization"] == f"Bearer {KEY}"


def test_the_form_can_be_added_to_and_changed() -> None:
    async def main(loopback: Loopback) -> None:
        ear = transcriber(
            loopback, model="whisper-1", temperature=0, form={"response_format": "json", "vad_filter": "true"}
        )
        heard = await Caller(ear).say(1)
        assert (heard.text, heard.confidence) == (TEXT, 0.0)
        asked = loopback.requests[0]
        assert asked.all("response_format") == ["json"]
        assert (asked.one("vad_filter"), asked.one("temperature")) == ("true", "0")
        await ear.close()

    run(main)


def test_doctor_asks_whether_the_model_is_there() -> None:
    async def main(loopback: Loopback) -> None:
        for model, said in (("whisper-1", "has whisper-1"), ("gpt-transcribe", "does not list gpt-transcribe")):
            ear = transcriber(loopback, model=model)
            assert said in await ear.check()
            await ear.close()
        loopback.script = ["bad_utf8"]
        ear = transcriber(loopback)
        assert "lists no models" in await ear.check()
        await ear.close()

    run(main)


def test_it_keeps_the_rules_of_its_port() -> None:
    async def main(loopback: Loopback) -> None:
        results = await examine(KITS["stt"], lambda: transcriber(loopback, interim_ms=500))
        assert results
        assert all(result.passed for result in results), report(results)

    run(main)
