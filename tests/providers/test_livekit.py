"""LiveKit's own base classes through the adapters: small plugins of ours, as objects and by import path."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from livekit.agents.utils import http_context
from livekit_fakes import ANSWER, CODES, SAID, Answering, Hearing, NeedsHttp, Speaking

from antiphon.conformance import KITS, examine, report
from antiphon.conformance.voice import RATE, made_up_voice
from antiphon.errors import ConfigError, MissingExtra, ProviderError
from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.providers import livekit_plugin
from antiphon.providers.livekit import adapt_llm, adapt_stt, adapt_tts
from antiphon.providers.registry import load
from antiphon.runtime.ports import Heard, ReplyEnd, ReplyRequest, Sound, TextDelta

SPEECH = made_up_voice(5)  # over a second: all of SAID
SECRET = "sk-secret-123456789"
PICKY = "livekit_fakes:Picky"


@pytest.fixture(autouse=True)
def _a_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setenv("FAKES_API_KEY", SECRET)
    monkeypatch.delenv("ANTIPHON_SECRETS_FILE", raising=False)
    yield
    assert SECRET not in caplog.text


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()
        # What a plugin had running is over, or ends now that it was let go of.
        for _ in range(20):
            await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    asyncio.run(main())


class Caller:
    def __init__(self, ear: Any, *, language: str = "en-IN", rate: int = RATE) -> None:
        self.heard: list[Heard] = []
        self._news = asyncio.Event()
        self.stream = ear.open(sample_rate=rate, language=language, on_heard=self._on_heard)

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


# -- hearing ------------------------------------------------------------------------------------


def test_a_streaming_plugin_tells_words_while_the_caller_speaks() -> None:
    async def body() -> None:
        plugin = Hearing()
        ear = adapt_stt(plugin)
        await ear.start()
        caller = Caller(ear)
        caller.stream.feed(SPEECH[: RATE // 2 * 2 + 1])  # half a second and half a sample
        await caller.until(lambda: bool(caller.heard) and caller.heard[-1].text == "what are")
        caller.stream.feed(SPEECH[RATE // 2 * 2 + 1 :])
        caller.stream.finish(1)
        heard = await caller.end_of(1)
        assert (heard.text, heard.final, heard.language, heard.confidence) == (SAID, True, "en-IN", 0.875)
        assert plugin.audio == [pytest.approx(len(SPEECH) / 2 / RATE)]
        assert (await caller.say(2)).text == SAID
        assert plugin.opened == plugin.ended == 2
        await ear.close()
        assert not plugin.closed  # it is its maker's

    run(body)


def test_an_utterance_is_over_soon_after_its_final_though_the_stream_stays_open() -> None:
    async def body() -> None:
        plugin = Hearing(keeps_open=True)
        ear = adapt_stt(plugin, settle_ms=20, final_s=5)
        await ear.start()
        caller = Caller(ear)
        assert (await caller.say(1)).text == SAID
        plugin.final_early = True  # all was final before the utterance was over
        assert (await caller.say(2)).text == SAID
        await ear.close()
        assert plugin.ended == 2

    run(body)


def test_without_a_final_the_last_word_on_it_counts_after_a_while() -> None:
    async def body() -> None:
        plugin = Hearing(keeps_open=True, said="")
        ear = adapt_stt(plugin, settle_ms=20, final_s=0.1)
        await ear.start()
        caller = Caller(ear)
        heard = await caller.say(1)  # nothing heard of a second and a half: a cough
        assert (heard.text, heard.final) == ("", True)
        heard = await caller.say(2, SPEECH * 3)  # of over three seconds there was something to hear
        assert heard.error == "stt.timeout_total"
        assert (await caller.say(3, b"")).final
        await ear.close()

    run(body)


@pytest.mark.parametrize("fault", [*CODES, "lost"])
def test_what_a_streaming_plugin_raises_is_told_as_a_code_and_the_next_utterance_is_heard(fault: str) -> None:
    async def body() -> None:
        plugin = Hearing()
        ear = adapt_stt(plugin)
        await ear.start()
        caller = Caller(ear)
        for utterance, (after, code) in enumerate(((0, "unreachable"), (2, "cut")), 1):
            plugin.faults, plugin.fault_after = [fault], after
            heard = await caller.say(utterance)
            assert heard.error == f"stt.{CODES.get(fault, code)}"
        plugin.faults, plugin.fault_after = [fault], 0
        caller.stream.feed(SPEECH)
        await asyncio.sleep(0.01)  # it breaks while the caller speaks on
        assert (await caller.say(3)).error
        assert (await caller.say(4)).text == SAID
        await ear.close()

    run(body)


def test_a_plugin_that_does_not_stream_is_asked_once_the_utterance_is_over() -> None:
    async def body() -> None:
        plugin = Hearing(streaming=False)
        ear = adapt_stt(plugin, language="call")
        await ear.start()
        caller = Caller(ear)
        heard = await caller.say(1)
        assert (heard.text, heard.language, heard.confidence) == (SAID, "hi-IN", 0.875)
        assert plugin.told == ["en-IN"]
        assert plugin.audio == [pytest.approx(len(SPEECH) / 2 / RATE)]
        for utterance, (fault, code) in enumerate({**CODES, "lost": "unreachable"}.items(), 2):
            plugin.faults = [fault]
            assert (await caller.say(utterance)).error == f"stt.{code}"
        plugin.said = ""
        assert (await caller.say(20)).final
        await ear.close()
        hasty = adapt_stt(plugin, total_s=0.05)
        await hasty.start()
        plugin.faults = ["hang"]
        assert (await Caller(hasty).say(1)).error == "stt.timeout_first_byte"
        await hasty.close()

    run(body)


def test_closing_lets_go_of_what_the_plugin_has() -> None:
    async def body() -> None:
        plugin = Hearing(keeps_open=True)
        ear = adapt_stt(plugin)
        await ear.start()
        gone, stays = Caller(ear), Caller(ear)
        for caller in (gone, stays):
            caller.stream.feed(SPEECH)
            caller.stream.finish(1)
            caller.stream.feed(SPEECH)
        await asyncio.sleep(0.01)
        assert plugin.opened == 4
        gone.stream.close()
        told = len(gone.heard)
        await asyncio.sleep(0.01)
        assert plugin.ended == 2
        await ear.close()
        assert plugin.ended == 4
        assert len(gone.heard) == told
        with pytest.raises(ProviderError) as caught:
            Caller(ear)
        assert caught.value.code == "stt.closed"

    run(body)


def test_hearing_keeps_the_rules_of_its_port() -> None:
    async def body() -> None:
        for make in (lambda: adapt_stt(Hearing()), lambda: adapt_stt(Hearing(streaming=False))):
            results = await examine(KITS["stt"], make)
            assert results
            assert all(result.passed for result in results), report(results)

    run(body)


# -- answering ----------------------------------------------------------------------------------


async def no_act(name: str, kind: str, arguments: str) -> str:
    raise AssertionError("no tools are set")


def request(**more: object) -> ReplyRequest:
    asked = {"session": "s", "turn": 1, "attempt": 1, "text": "What do I need?", "language": "en-IN"}
    return ReplyRequest(**{**asked, **more})


async def reply(llm: Any, asked: ReplyRequest | None = None, act: Any = no_act) -> tuple[str, ReplyEnd]:
    text, end = "", None
    async for part in llm.respond(asked or request(), act):
        if isinstance(part, TextDelta):
            text += part.text
        else:
            end = part
    assert end is not None
    return text, end


async def error_of(llm: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await reply(llm)
    assert SECRET not in str(caught.value)
    return caught.value


def test_an_answer_streams_and_the_plugin_is_told_what_every_model_is() -> None:
    async def body() -> None:
        plugin = Answering()
        plugin.gate = asyncio.Event()
        llm = adapt_llm(plugin, system_prompt="Be brief.")
        await llm.start()
        passage = Passage("req-1", "A degree is needed.", "https://example.org", 0.9, "Requirements")
        asked = request(passages=(passage,), history=(Message("user", "hello"), Message("assistant", "Hi.")))
        async with aclosing(llm.respond(asked, no_act)) as parts:
            assert await anext(parts) == TextDelta("You")
            plugin.gate.set()
            rest = [part async for part in parts]
        assert "You" + "".join(part.text for part in rest[:-1]) == ANSWER
        assert rest[-1] == ReplyEnd(sources=("https://example.org",))
        told = [(message.role, message.text_content) for message in plugin.contexts[0].messages()]
        assert [role for role, _ in told] == ["system", "user", "assistant", "user"]
        assert told[0][1].startswith("Be brief.")
        assert "A degree is needed." not in told[0][1]
        assert "A degree is needed." in told[-1][1]
        assert told[-1][1].endswith("The caller says: What do I need?")
        await llm.close()

    run(body)


@pytest.mark.parametrize("pieces", [0, 1])
def test_closing_the_reply_closes_the_plugins_stream(pieces: int) -> None:
    async def body() -> None:
        plugin = Answering()
        plugin.gate = asyncio.Event()
        llm = adapt_llm(plugin)
        await llm.start()
        parts = llm.respond(request(), no_act)
        step = asyncio.ensure_future(anext(parts))
        await plugin.asked.wait()
        if pieces:
            await step
        else:
            step.cancel()
        await asyncio.wait({step})
        await parts.aclose()
        assert (plugin.opened, plugin.ended) == (1, 1)
        await llm.close()

    run(body)


def test_tools_are_declared_to_the_plugin_and_run_by_the_runtime() -> None:
    async def body() -> None:
        plugin = Answering()
        plugin.calls = [("fee", '{"course": "MBA"}'), ("nothing", "{}")]
        fee = {"name": "fee", "description": "What a course costs", "parameters": {"type": "object", "properties": {}}}
        llm = adapt_llm(plugin, tools=[fee])
        await llm.start()
        ran: list[tuple[str, str, str]] = []

        async def act(name: str, kind: str, arguments: str) -> str:
            ran.append((name, kind, arguments))
            return "42"

        assert (await reply(llm, act=act))[0] == ANSWER
        assert ran == [("fee", "read", '{"course": "MBA"}')]
        assert plugin.tools[0].info.raw_schema["name"] == "fee"
        items = plugin.contexts[1].items
        assert [item.type for item in items[-4:]] == ["function_call"] * 2 + ["function_call_output"] * 2
        assert items[-2].output == "42"
        assert "there is no tool" in items[-1].output
        await llm.close()

    run(body)


def test_failures_of_a_plugin_are_coded_and_time_is_kept() -> None:
    async def body() -> None:
        plugin = Answering()
        llm = adapt_llm(plugin)
        await llm.start()
        for after, broken, late in ((0, "unreachable", "timeout_first_token"), (3, "cut", "timeout_stalled")):
            plugin.fault_after = after
            hasty = adapt_llm(plugin, **{"between_tokens_s" if after else "first_token_s": 0.05})
            await hasty.start()
            for fault, code in {**CODES, "lost": broken, "hang": late}.items():
                plugin.faults = [fault]
                error = await error_of(hasty if fault == "hang" else llm)
                assert error.code == f"llm.{code}"
                assert error.retryable == (fault != "401")
            await hasty.close()
        plugin.answer = ""
        assert (await error_of(llm)).code == "llm.empty"
        plugin.answer = "word " * 4000
        assert (await error_of(llm)).code == "llm.too_large"
        plugin.answer = ANSWER
        assert (await reply(llm))[0] == ANSWER
        assert plugin.opened == plugin.ended
        await llm.close()

    run(body)


def test_answering_keeps_the_rules_of_its_port() -> None:
    async def body() -> None:
        results = await examine(KITS["llm"], lambda: adapt_llm(Answering()))
        assert results
        assert all(result.passed for result in results), report(results)

    run(body)


# -- speaking -----------------------------------------------------------------------------------

TEXT = "You need a degree."


async def spoken(tts: Any, text: str = TEXT, *, language: str = "en-IN", rate: int = RATE) -> list[Sound]:
    async with aclosing(tts.synthesize(text, language=language, sample_rate=rate)) as sounds:
        return [sound async for sound in sounds]


@pytest.mark.parametrize("mode", ["request", "stream"])
@pytest.mark.parametrize(("rate", "channels"), [(24_000, 1), (8_000, 1), (22_050, 1), (48_000, 2)])
def test_sound_comes_at_the_rate_asked_for(mode: str, rate: int, channels: int) -> None:
    async def body() -> None:
        plugin = Speaking(rate=rate, channels=channels)
        tts = adapt_tts(plugin, mode=mode)
        await tts.start()
        for wanted in (8_000, 16_000):
            pcm = b"".join(sound.pcm for sound in await spoken(tts, rate=wanted))
            assert len(pcm) / 2 / wanted == pytest.approx(0.06 * len(TEXT), abs=0.03)
            wave = np.frombuffer(pcm, "<i2").astype(float)
            assert np.argmax(np.abs(np.fft.rfft(wave))) * wanted / len(wave) == pytest.approx(440, abs=2)
        assert plugin.texts == [TEXT, TEXT]
        assert plugin.streamed == (2 if mode == "stream" else 0)
        await tts.close()

    run(body)


def test_words_are_marked_where_the_plugin_times_them() -> None:
    async def body() -> None:
        tts = adapt_tts(Speaking(timed=True), mode="stream")
        await tts.start()
        sounds = await spoken(tts, "You need a degree, a degree.")
        given, marks = 0, []
        for sound in sounds:
            given += len(sound.pcm) // 2
            assert all(mark.sample < given for mark in sound.words)
            marks += sound.words
        assert [mark.char for mark in marks] == [0, 4, 9, 11, 19, 21]
        assert [mark.sample for mark in marks] == [round(mark.char * 0.06 * RATE) for mark in marks]
        await tts.close()

    run(body)


def test_the_first_sound_comes_before_the_rest_is_made_and_closing_ends_it() -> None:
    async def body() -> None:
        plugin = Speaking()
        plugin.gate = asyncio.Event()
        tts = adapt_tts(plugin)
        await tts.start()
        sounds = tts.synthesize(TEXT, language="en-IN", sample_rate=RATE)
        assert (await anext(sounds)).pcm
        await sounds.aclose()
        assert plugin.ended == 1
        await tts.close()

    run(body)


def test_what_cannot_be_spoken_is_refused_and_signs_alone_are_silence() -> None:
    async def body() -> None:
        plugin = Speaking()
        tts = adapt_tts(plugin)
        await tts.start()
        assert await spoken(tts, "…?!") == []
        for text, rate, code in (("a" * 2001, RATE, "too_long"), (TEXT, 12_345, "sample_rate")):
            with pytest.raises(ProviderError) as caught:
                await spoken(tts, text, rate=rate)
            assert caught.value.code == f"tts.{code}"
        for after, broken, late in ((0, "unreachable", "timeout_first_byte"), (2, "cut", "timeout_stalled")):
            plugin.fault_after = after
            hasty = adapt_tts(plugin, **{"between_s" if after else "first_s": 0.05})
            await hasty.start()
            for fault, code in {**CODES, "lost": broken, "hang": late}.items():
                plugin.faults = [fault]
                with pytest.raises(ProviderError) as caught:
                    await spoken(hasty if fault == "hang" else tts)
                assert caught.value.code == f"tts.{code}"
                assert SECRET not in str(caught.value)
            await hasty.close()
        await tts.close()
        odd = adapt_tts(Speaking(rate=32_000))
        await odd.start()
        with pytest.raises(ProviderError, match="set its sample_rate"):
            await spoken(odd)
        await odd.close()

    run(body)


@pytest.mark.parametrize("mode", ["request", "stream"])
def test_speaking_keeps_the_rules_of_its_port(mode: str) -> None:
    async def body() -> None:
        results = await examine(KITS["tts"], lambda: adapt_tts(Speaking(timed=True), mode=mode))
        assert results
        assert all(result.passed for result in results), report(results)

    run(body)


# -- plugins by import path ---------------------------------------------------------------------


def test_a_plugin_is_made_of_its_options_and_closed_with_its_provider() -> None:
    async def body() -> None:
        llm = load(
            "llm",
            "livekit",
            {
                "plugin": "livekit_fakes:NeedsHttp",
                "options": {"answer": "Yes.", "model": "small"},
                "languages": {"hi-IN": {"answer": "हाँ।"}},
                "api_key_env": "FAKES_API_KEY",
            },
        )
        await llm.start()
        await llm.start()
        assert (await reply(llm))[0] == "Yes."
        assert (await reply(llm, request(language="hi-IN")))[0] == "हाँ।"
        english, hindi = llm.plugin.of("en-IN"), llm.plugin.of("hi-IN")
        assert isinstance(english, NeedsHttp)
        assert english.options == {"model": "small", "api_key": SECRET}
        assert english.sessions[0] is hindi.sessions[0]
        assert SECRET not in repr(llm.settings) + str(vars(llm.plugin))
        await llm.close()
        assert english.closed
        assert hindi.closed
        assert english.sessions[0].closed
        await llm.close()
        assert (await error_of(llm)).code == "llm.closed"

    run(body)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "plugin must be set"),
        ({"plugin": "livekit_fakes"}, "plugin"),
        ({"plugin": "livekit_fakes:Answering", "options": {"api_key": "x"}}, "api_key_env"),
        ({"plugin": "livekit_fakes:Answering", "languages": {"hi": {"token": "x"}}}, "api_key_env"),
        ({"plugin": "livekit_fakes:Answering", "api_key_env": "NOT_SET_API_KEY"}, "set NOT_SET_API_KEY"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load("llm", "livekit", settings)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"plugin": "livekit_fakes:Unusable"}, r"is no livekit\.agents\.llm\.LLM"),
        ({"plugin": "livekit_fakes:Speaking"}, r"is no livekit\.agents\.llm\.LLM"),
        ({"plugin": "livekit_fakes:NotThere"}, "cannot be imported"),
        (
            {"plugin": "livekit_fakes:Picky", "options": {"temperature": 2.0}, "api_key_env": "FAKES_API_KEY"},
            r"for \*\*\*",
        ),
        ({"plugin": "livekit_fakes:Picky"}, "missing"),
    ],
)
def test_plugins_that_cannot_be_made_say_why_at_the_start(settings: dict[str, object], word: str) -> None:
    async def body() -> None:
        llm = load("llm", "livekit", settings)
        with pytest.raises(ConfigError, match=word) as caught:
            await llm.start()
        assert SECRET not in str(caught.value)
        await llm.close()

    run(body)


def test_a_plugin_that_is_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        with pytest.raises(MissingExtra, match="pip install livekit-plugins-nobody"):
            await load("stt", "livekit", {"plugin": "livekit.plugins.nobody:STT"}).start()

        def missing(name: str) -> Any:
            raise ModuleNotFoundError(name=name)

        monkeypatch.setattr(livekit_plugin, "import_module", missing)
        with pytest.raises(MissingExtra, match=r'pip install "antiphon\[livekit\]"'):
            await load("stt", "livekit", {"plugin": "livekit.plugins.nobody:STT"}).start()

    run(body)


def test_a_livekit_that_is_too_old_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.delattr(http_context, "open")
        with pytest.raises(MissingExtra, match=r"livekit-agents>=1\.6"):
            await adapt_llm(Answering()).start()

    run(body)


def test_an_object_of_another_kind_is_refused() -> None:
    async def body() -> None:
        with pytest.raises(ConfigError, match=r"Answering is no livekit\.agents\.tts\.TTS"):
            await adapt_tts(Answering()).start()
        with pytest.raises(ConfigError, match="made here"):
            adapt_tts(Speaking(), options={"a": 1})

    run(body)


def test_livekit_is_not_imported_before_a_provider_starts() -> None:
    code = "import sys; from antiphon.providers.livekit import adapt_llm as a; a(1); print('livekit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
