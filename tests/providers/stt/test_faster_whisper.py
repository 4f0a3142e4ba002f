"""The real ``faster_whisper`` package in the real worker processes, on models that are made here (``tiny_whisper``)."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import tiny_whisper

from antiphon.conformance import KITS, Kit, examine, report
from antiphon.conformance.voice import RATE, made_up_voice
from antiphon.errors import ConfigError, MissingExtra, ProviderError
from antiphon.providers.registry import load
from antiphon.providers.stt import faster_whisper, faster_whisper_pool
from antiphon.providers.stt.faster_whisper import FasterWhisperTranscriber, build
from antiphon.providers.stt.faster_whisper_messages import Begin, Finish, Setup
from antiphon.providers.worker_pipe import PING, framed
from antiphon.runtime.ports import Heard

SPEECH = made_up_voice(4)
SAID = "नमस्ते फीस कितनी है"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_whisper.make(folder / "hindi", SAID)
    tiny_whisper.make(folder / "silence", "Thank you for watching!", silence=True)
    tiny_whisper.make(folder / "english", "what are the fees", english_only=True)
    return folder


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    yield
    children = psutil.Process().children(recursive=True)
    psutil.wait_procs(children, timeout=2)
    assert [child for child in children if child.is_running()] == []


def run(model: Path, body: Callable[[FasterWhisperTranscriber], Awaitable[None]], **settings: object) -> None:
    async def main() -> None:
        ear = build({"model": str(model), "threads": 1, **settings})
        await ear.start()
        try:
            await body(ear)
        finally:
            await ear.close()
            await ear.close()

    asyncio.run(main())


class Caller:
    def __init__(self, ear: FasterWhisperTranscriber, *, language: str = "hi-IN", rate: int = RATE) -> None:
        self.heard: list[Heard] = []
        self._news = asyncio.Event()
        self.stream = ear.open(sample_rate=rate, language=language, on_heard=self._on_heard)

    def _on_heard(self, heard: Heard) -> None:
        self.heard.append(heard)
        self._news.set()

    async def end_of(self, utterance: int) -> Heard:
        async with asyncio.timeout(20):
            while not (ends := [each for each in self.heard if each.utterance == utterance]):
                self._news.clear()
                await self._news.wait()
        return ends[0]

    async def say(self, utterance: int, pcm: bytes = SPEECH) -> Heard:
        self.stream.feed(pcm)
        self.stream.finish(utterance)
        return await self.end_of(utterance)


def test_an_utterance_is_recognised_with_how_sure_the_model_is(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        caller = Caller(ear)
        heard = await caller.say(1)
        assert (heard.text, heard.language, heard.final, heard.error) == (SAID, "hi-IN", True, "")
        assert 0.9 < heard.confidence <= 1
        assert heard.language_confidence == 0.0  # it was told
        assert len(ear.pids) == 1
        assert ear.load_ms > 0
        assert psutil.Process(ear.pids[0]).nice() == min(19, os.nice(0) + 5)

    run(models / "hindi", main)


def test_the_model_finds_the_language_out_if_it_is_asked_to(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        heard = await Caller(ear, language="en-IN").say(1)
        assert (heard.text, heard.language) == (SAID, "hi-IN")
        assert heard.language_confidence > 0.9

    run(models / "hindi", main, language="detect")


def test_a_language_that_the_model_does_not_have_is_found_out_by_it(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        heard = await Caller(ear, language="fr-FR").say(1)  # Whisper's, but not among this model's four
        assert (heard.text, heard.language) == (SAID, "hi-IN")

    run(models / "hindi", main)


def test_a_model_of_english_alone_says_so_of_other_languages(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        caller = Caller(ear, language="en-GB")
        heard = await caller.say(1)
        assert (heard.text, heard.language) == ("what are the fees", "en-GB")
        caller.stream.hint("hi-IN")
        assert (await caller.say(2)).error == "stt.language"

    run(models / "english", main)


def test_what_it_makes_up_out_of_silence_is_not_believed(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        heard = await Caller(ear).say(1)
        assert (heard.text, heard.final, heard.error) == ("", True, "")

    run(models / "silence", main)


def test_without_the_guard_that_model_does_make_words_up(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        assert (await Caller(ear).say(1)).text == "Thank you for watching!"

    run(models / "silence", main, no_speech=1.0)


def test_other_rates_and_a_whole_minute(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        for rate in (16_000, 48_000):
            assert (await Caller(ear, rate=rate).say(1)).text == SAID
        heard = await Caller(ear, rate=48_000).say(1, SPEECH * 400)
        assert heard.error == ""
        assert SAID in heard.text
        with pytest.raises(ProviderError) as caught:
            Caller(ear, rate=96_000)
        assert caught.value.code == "stt.sample_rate"

    run(models / "hindi", main)


def test_a_worker_that_dies_loses_its_utterance_and_is_replaced(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        caller = Caller(ear)
        before = ear.pids
        os.kill(before[0], signal.SIGSTOP)
        caller.stream.feed(SPEECH)
        caller.stream.finish(1)
        await asyncio.sleep(0.05)
        os.kill(before[0], signal.SIGKILL)
        assert (await caller.end_of(1)).error == "stt.worker_lost"
        assert (await caller.say(2)).text == SAID
        assert ear.pids != before

    run(models / "hindi", main)


def test_what_nobody_waits_for_is_taken_from_the_queue(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        gone, stays = Caller(ear), Caller(ear)
        for utterance in range(1, 6):
            gone.stream.feed(SPEECH * 20)
            gone.stream.finish(utterance)
        await asyncio.sleep(0.05)
        gone.stream.close()
        before = len(gone.heard)  # a quick machine has ended the first by now
        assert before < 5
        assert (await stays.say(1)).text == SAID
        assert len(gone.heard) == before
        monkeypatch.setattr(faster_whisper_pool, "MAX_WAITING_BYTES", len(SPEECH))
        for utterance in (2, 3):
            stays.stream.feed(SPEECH)
            stays.stream.finish(utterance)
        assert [(await stays.end_of(number)).error for number in (2, 3)] == ["", "stt.busy"]

    run(models / "hindi", main)


def test_an_utterance_that_takes_too_long_ends(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        assert (await Caller(ear).say(1, SPEECH * 400)).error == "stt.timeout_total"

    run(models / "hindi", main, total_s=0.005)


STUCK = """
import time
from antiphon.providers.stt import faster_whisper_worker as worker
worker.load = lambda setup: None
worker.hear = lambda model, setup, job: time.sleep(60)
worker.main()
"""


def test_a_worker_that_is_stuck_in_an_utterance_ends_itself() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", STUCK, str(os.getpid()), str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE, text=True) as process:
            setup = Setup("", "cpu", "int8", 1, 1, "", "", 0.6, False, "", 0.05)
            for message in (setup, Begin(1, RATE, ""), Finish(1)):
                ours.sendall(framed(msgspec.msgpack.encode(message)))
            for _ in range(100):
                if process.poll() is not None:
                    break
                ours.sendall(PING)  # as the server's end does, by which it wakes
                time.sleep(0.05)
            assert process.poll() == 1
            assert process.stderr is not None
            assert "takes over 0.05 s" in process.stderr.read()


def test_closing_ends_what_is_under_way(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        caller = Caller(ear)
        caller.stream.feed(SPEECH * 100)
        caller.stream.finish(1)
        await asyncio.sleep(0.05)
        await ear.close()
        assert caller.heard == []
        with pytest.raises(ProviderError) as caught:
            Caller(ear)
        assert caught.value.code == "stt.closed"

    run(models / "hindi", main)


# -- models that are not there ------------------------------------------------------------------


def failure(model: str, **settings: object) -> ProviderError:
    async def main() -> ProviderError:
        ear = build({"model": model, **settings})
        with pytest.raises(ProviderError) as caught:
            await ear.start()
        assert ear.pids == []
        await ear.close()
        return caught.value

    return asyncio.run(main())


def test_a_model_that_is_not_there_is_not_fetched_unasked_and_the_error_says_how_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    error = failure("small")
    assert error.code == "stt.model_missing"
    assert not error.retryable
    assert 'download = "allowed"' in str(error)
    assert "hf download Systran/faster-whisper-small --local-dir" in str(error)
    assert "hf download someone/some-model " in str(failure("someone/some-model"))
    assert failure("no-such-size").code == "stt.model_missing"


def test_a_folder_that_holds_no_model_says_what_is_missing(models: Path, tmp_path: Path) -> None:
    error = failure(str(tmp_path))
    assert error.code == "stt.model_missing"
    assert "model.bin, config.json, tokenizer.json is not there" in str(error)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (models / "hindi").iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:1000])
    assert failure(str(broken)).code == "stt.model_broken"


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster_whisper.importlib.util, "find_spec", lambda name: None)

    async def main() -> None:
        with pytest.raises(MissingExtra, match=r'pip install "antiphon\[whisper\]"'):
            await build({}).start()

    asyncio.run(main())


def test_settings_that_cannot_be_name_the_fix() -> None:
    with pytest.raises(ConfigError, match="choose one of never, allowed"):
        load("stt", "faster_whisper", {"download": "yes"})
    with pytest.raises(ConfigError, match="workers"):
        load("stt", "faster_whisper", {"workers": 0})


class Kept:
    """A started transcriber that is not started and closed again by each check."""

    def __init__(self, ear: FasterWhisperTranscriber) -> None:
        self._ear = ear
        self.name = ear.name
        self.open = ear.open

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def test_it_keeps_the_rules_of_its_port(models: Path) -> None:
    async def main(ear: FasterWhisperTranscriber) -> None:
        kit = KITS["stt"]
        results = await examine(kit, lambda: Kept(ear))
        closing = tuple(check for check in kit.checks if "close" in check.__name__)
        results += await examine(Kit(kit.port, closing), lambda: build({"model": str(models / "hindi"), "threads": 1}))
        assert all(result.passed for result in results), report(results)

    run(models / "hindi", main)
