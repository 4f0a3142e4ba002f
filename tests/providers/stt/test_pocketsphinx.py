"""The real recogniser in real worker processes, on speech made by the embedded synthesizer over mu-law."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from antiphon.errors import ConfigError, MissingExtra, ProviderError
from antiphon.media.codec import mulaw_decode, mulaw_encode
from antiphon.providers import workers
from antiphon.providers.stt import pocketsphinx_pool
from antiphon.providers.stt.language_model import words
from antiphon.providers.stt.pocketsphinx import PocketsphinxTranscriber, build, read_phrases, transcribe
from antiphon.providers.stt.pocketsphinx_messages import Begin, Final
from antiphon.providers.stt.pocketsphinx_worker import MAX_UTTERANCE_S, Decoding
from antiphon.providers.tts.espeak import EspeakSynthesizer
from antiphon.runtime.ports import Heard

RATE = 8000

PHRASES = [
    "What are the admission requirements?",
    "And for international students?",
    "How much is the tuition fee for the MBA?",
    "What is the application deadline?",
    "Do I need to take the TOEFL?",
    "Is hostel accommodation available?",
    "How do I apply for a scholarship?",
    "Can I pay the fees in instalments?",
    "Which documents do I need to submit?",
    "Is there a bus from the city to the campus?",
    "Do you serve mango lassi and paneer tikka?",
    "How many seats are there in computer science?",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def speech() -> dict[str, bytes]:
    """Each phrase as a telephone delivers it: 8 kHz, mu-law, a little silence around it."""

    async def main() -> dict[str, bytes]:
        synthesizer = EspeakSynthesizer()
        await synthesizer.start()
        said = {}
        for phrase in PHRASES:
            sounds = [s async for s in synthesizer.synthesize(phrase, language="en-IN", sample_rate=RATE)]
            pcm = bytes(RATE // 5 * 2) + b"".join(s.pcm for s in sounds) + bytes(RATE // 2)
            said[phrase] = mulaw_decode(mulaw_encode(pcm))
        await synthesizer.close()
        return said

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    yield
    children = psutil.Process().children(recursive=True)
    psutil.wait_procs(children, timeout=2)
    assert [child for child in children if child.is_running()] == []


def run(cache: str, body: Callable[[PocketsphinxTranscriber], Awaitable[None]], *, count: int = 1) -> None:
    async def main() -> None:
        transcriber = PocketsphinxTranscriber(phrases=PHRASES, workers=count, cache=cache)
        await transcriber.start()
        try:
            await body(transcriber)
        finally:
            await transcriber.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    for _ in range(int(timeout_s / 0.002)):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise TimeoutError


class Caller:
    """Feeds a stream frame by frame and keeps what is heard."""

    def __init__(self, transcriber: PocketsphinxTranscriber, language: str = "en-IN") -> None:
        self.heard: list[Heard] = []
        self.stream = transcriber.open(sample_rate=RATE, language=language, on_heard=self.heard.append)

    async def say(self, pcm: bytes, frame_ms: int = 20, pause_s: float = 0.001) -> None:
        step = RATE * frame_ms // 1000 * 2
        for at in range(0, len(pcm), step):
            self.stream.feed(pcm[at : at + step])
            await asyncio.sleep(pause_s)

    async def result(self, utterance: int, timeout_s: float = 10) -> Heard:
        def found() -> list[Heard]:
            return [heard for heard in self.heard if heard.utterance == utterance and (heard.final or heard.error)]

        await until(lambda: bool(found()), timeout_s)
        return found()[0]


def distance(reference: list[str], hypothesis: list[str]) -> int:
    """Words to insert, delete or change."""
    row = list(range(len(hypothesis) + 1))
    for at, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], at
        for to, other in enumerate(hypothesis, 1):
            diagonal, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, diagonal + (word != other))
    return row[-1]


def test_known_sentences_are_understood_over_the_telephone(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        errors = total = 0
        for phrase in PHRASES:
            text = await transcribe(speech[phrase], RATE, transcriber=transcriber)
            reference = [word.lower() for word in words(phrase)]
            errors += distance(reference, text.split())
            total += len(reference)
        assert errors / total < 0.12  # 0.03 measured

    run(cache, body)


def test_partials_come_before_the_final_and_grow(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        caller = Caller(transcriber)
        await caller.say(speech[PHRASES[0]])
        caller.stream.finish(1)
        final = await caller.result(1)
        assert final.text == "what are the admission requirements"
        assert final.confidence > 0.5
        assert final.language == "en"
        partials = [heard for heard in caller.heard if not heard.final]
        assert len(partials) >= 3
        assert all(heard.utterance == 1 and not heard.error for heard in partials)
        assert all(before.text != after.text for before, after in itertools.pairwise(partials)), "only what is new"
        assert "what are" in partials[len(partials) // 2].text
        assert caller.heard.index(final) == len(caller.heard) - 1

    run(cache, body)


def test_utterances_of_one_call_follow_each_other(cache: str, speech: dict[str, bytes]) -> None:
    """Without waiting for a final: what is fed after ``finish`` belongs to the next utterance."""

    async def body(transcriber: PocketsphinxTranscriber) -> None:
        caller = Caller(transcriber)
        for number, phrase in enumerate(PHRASES[:4], 1):
            caller.stream.feed(speech[phrase])
            caller.stream.finish(number)
        for number, phrase in enumerate(PHRASES[:4], 1):
            heard = await caller.result(number)
            reference = [word.lower() for word in words(phrase)]
            assert distance(reference, heard.text.split()) <= 2
        finals = [heard.utterance for heard in caller.heard if heard.final]
        assert finals == [1, 2, 3, 4]

    run(cache, body, count=2)


def test_streams_do_not_disturb_one_another(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        async def call(phrase: str) -> str:
            caller = Caller(transcriber)
            await caller.say(speech[phrase], pause_s=0.002)
            caller.stream.finish(1)
            return (await caller.result(1)).text

        alone = [await call(phrase) for phrase in PHRASES[2:6]]
        together = await asyncio.gather(*(call(phrase) for phrase in PHRASES[2:6]))
        assert together == alone

    run(cache, body)


def test_an_utterance_without_sound_or_words_is_a_blank_final(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        caller = Caller(transcriber)
        caller.stream.feed(b"")
        caller.stream.finish(1)
        assert caller.heard == [], "never from inside finish"
        assert (await caller.result(1)).text == ""
        caller.stream.feed(b"\x01")
        caller.stream.finish(2)
        assert (await caller.result(2)).text == ""
        await caller.say(bytes(RATE * 2))
        caller.stream.finish(3)
        assert (await caller.result(3)).text == ""
        caller.stream.feed(speech[PHRASES[0]])
        caller.stream.finish(4)
        assert "requirements" in (await caller.result(4)).text
        assert [heard.utterance for heard in caller.heard if heard.final] == [1, 2, 3, 4]

    run(cache, body)


def test_another_language_is_refused_until_english_again(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        caller = Caller(transcriber, "hi-IN")
        caller.stream.feed(speech[PHRASES[0]])
        caller.stream.finish(1)
        assert await caller.result(1) == Heard(1, "", error="stt.language")
        caller.stream.hint("en-IN")
        caller.stream.feed(speech[PHRASES[0]])
        caller.stream.hint("te-IN")
        caller.stream.finish(2)
        assert "requirements" in (await caller.result(2)).text, "a hint counts from the next utterance on"
        caller.stream.feed(speech[PHRASES[0]])
        caller.stream.finish(3)
        assert (await caller.result(3)).error == "stt.language"
        assert [heard.utterance for heard in caller.heard if heard.final or heard.error] == [1, 2, 3]

    run(cache, body)


def test_a_closed_stream_says_nothing_more(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        finished, unfinished, other = Caller(transcriber), Caller(transcriber), Caller(transcriber)
        for caller in (finished, unfinished, other):
            caller.stream.feed(speech[PHRASES[0]])
        for caller in (finished, other):
            caller.stream.finish(1)
        for caller in (finished, unfinished):
            caller.stream.close()
            caller.stream.close()
            caller.stream.feed(speech[PHRASES[0]])
            caller.stream.finish(2)
        assert (await other.result(1)).text
        assert finished.heard == unfinished.heard == []

    run(cache, body)


def test_a_killed_worker_costs_the_utterances_under_way_and_no_more(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        middle, ended, idle = Caller(transcriber), Caller(transcriber), Caller(transcriber)
        worker = transcriber.pids[1]
        half = len(speech[PHRASES[0]]) // 4 * 2
        os.kill(worker, signal.SIGSTOP)
        middle.stream.feed(speech[PHRASES[0]][:half])
        ended.stream.feed(speech[PHRASES[0]])
        ended.stream.finish(1)
        await asyncio.sleep(0.02)
        os.kill(worker, signal.SIGKILL)
        assert (await ended.result(1)).error == "stt.worker_lost"
        assert (await middle.result(1)).error == "stt.worker_lost", "told at once, before it is finished"
        middle.stream.feed(speech[PHRASES[0]][half:])
        middle.stream.finish(1)
        for caller, number in ((middle, 2), (ended, 2), (idle, 1)):
            caller.stream.feed(speech[PHRASES[3]])
            caller.stream.finish(number)
            assert (await caller.result(number)).text == "what is the application deadline"
        for caller in (middle, ended):
            assert [heard.utterance for heard in caller.heard if heard.final or heard.error] == [1, 2]
        assert worker not in transcriber.pids
        assert not psutil.pid_exists(worker), "no zombie either"

    run(cache, body)


def test_a_hung_worker_is_replaced(cache: str, speech: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        monkeypatch.setattr(workers, "TICK_S", 0.1)
        caller = Caller(transcriber)
        assert await transcribe(speech[PHRASES[0]], RATE, transcriber=transcriber)
        worker = transcriber.pids[1]
        os.kill(worker, signal.SIGSTOP)
        caller.stream.feed(speech[PHRASES[0]])
        caller.stream.finish(1)
        assert (await caller.result(1, timeout_s=3)).error == "stt.worker_lost"
        caller.stream.feed(speech[PHRASES[3]])
        caller.stream.finish(2)
        assert (await caller.result(2)).text == "what is the application deadline"
        assert not psutil.pid_exists(worker)

    run(cache, body)


def test_a_killed_nursery_takes_its_workers_along_and_all_come_back(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        caller = Caller(transcriber)
        before = set(transcriber.pids)
        os.kill(transcriber.pids[0], signal.SIGKILL)
        await until(lambda: len(transcriber.pids) >= 3 and not set(transcriber.pids) & before)
        caller.stream.feed(speech[PHRASES[3]])
        caller.stream.finish(1)
        assert (await caller.result(1)).text == "what is the application deadline"
        assert not any(map(_lives, before))

    run(cache, body, count=2)


async def lose_all(transcriber: PocketsphinxTranscriber) -> None:
    """Kills the nursery and waits until it is known that there is no worker."""
    before = set(transcriber.pids)
    os.kill(transcriber.pids[0], signal.SIGKILL)
    await until(lambda: not set(transcriber.pids) & before)


def test_speech_before_a_worker_is_back_is_kept(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        caller = Caller(transcriber)
        await lose_all(transcriber)
        caller.stream.feed(speech[PHRASES[3]][: RATE // 2 * 2])
        await until(lambda: len(transcriber.pids) >= 2)
        caller.stream.feed(speech[PHRASES[3]][RATE // 2 * 2 :])
        caller.stream.finish(1)
        assert (await caller.result(1)).text == "what is the application deadline"

        await lose_all(transcriber)
        caller.stream.feed(speech[PHRASES[0]])
        caller.stream.finish(2)
        assert (await caller.result(2)).text == "what are the admission requirements"

    run(cache, body)


def test_when_no_worker_comes_back_it_is_told(
    cache: str, speech: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        monkeypatch.setattr(pocketsphinx_pool, "MAX_WAIT_S", 0.1)
        monkeypatch.setattr(workers, "RESTART_DELAYS_S", (1.0,))
        finished, unfinished, closed = Caller(transcriber), Caller(transcriber), Caller(transcriber)
        await lose_all(transcriber)
        for caller in (finished, unfinished, closed):
            caller.stream.feed(speech[PHRASES[3]])
        finished.stream.finish(1)
        closed.stream.close()
        assert (await finished.result(1)).error == "stt.unavailable"
        assert (await unfinished.result(1)).error == "stt.unavailable"
        unfinished.stream.finish(1)
        await until(lambda: len(transcriber.pids) >= 2)
        for caller in (finished, unfinished):
            caller.stream.feed(speech[PHRASES[3]])
            caller.stream.finish(2)
            assert (await caller.result(2)).text == "what is the application deadline"
            assert len([heard for heard in caller.heard if heard.final or heard.error]) == 2
        assert closed.heard == []

    run(cache, body)


class FakeDecoder:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.heard = 0

    def start_stream(self) -> None:
        self.calls.append("start_stream")

    def start_utt(self) -> None:
        self.calls.append("start_utt")

    def set_cmn(self, cmn: str) -> None:
        self.calls.append(f"cmn {cmn}")

    def get_cmn(self) -> str:
        return "9"

    def process_raw(self, data: bytes) -> None:
        assert data, "the real one raises for nothing at all"
        self.heard += len(data) // 2

    def seg(self) -> None:
        return None

    def end_utt(self) -> None:
        self.calls.append("end_utt")


def test_a_very_long_utterance_is_cut() -> None:
    decoder = FakeDecoder()
    decoding = Decoding(Begin(1, 16000, "1,2"), decoder)
    for _ in range(MAX_UTTERANCE_S + 5):
        decoding.take(bytes(2 * 16000))
        while decoding.waiting:
            decoding.step()
    assert decoder.heard == MAX_UTTERANCE_S * 16000
    assert decoding.end() == Final(1, "", 0.0, "9")
    assert decoder.calls == ["start_stream", "cmn 1,2", "start_utt", "end_utt"]


def test_every_sample_reaches_the_decoder_at_its_rate() -> None:
    for rate in (8000, 16000, 24000):
        decoder = FakeDecoder()
        decoding = Decoding(Begin(1, rate, ""), decoder)
        for pieces in (b"", b"\x01", bytes(7 * 2), bytes(rate)):
            decoding.take(pieces)
        decoding.take(bytes(rate))
        while decoding.waiting:
            decoding.step()
        decoding.end()
        assert abs(decoder.heard - 16000) < 20


def test_start_and_close_may_be_called_twice(cache: str, speech: dict[str, bytes]) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        pids = transcriber.pids
        await transcriber.start()
        assert transcriber.pids == pids
        assert len(pids) == 2
        await transcriber.close()
        await transcriber.close()
        assert transcriber.pids == []
        with pytest.raises(ProviderError) as caught:
            transcriber.open(sample_rate=RATE, language="en", on_heard=lambda heard: None)
        assert caught.value.code == "stt.closed"
        await transcriber.start()
        assert await transcribe(speech[PHRASES[3]], RATE, transcriber=transcriber) == "what is the application deadline"
        with pytest.raises(ProviderError) as caught:
            transcriber.open(sample_rate=4000, language="en", on_heard=lambda heard: None)
        assert caught.value.code == "stt.sample_rate"

    run(cache, body)


def test_other_sample_rates(cache: str) -> None:
    async def body(transcriber: PocketsphinxTranscriber) -> None:
        synthesizer = EspeakSynthesizer()
        await synthesizer.start()
        for rate in (16000, 24000, 48000):
            sounds = [s.pcm async for s in synthesizer.synthesize(PHRASES[3], language="en-IN", sample_rate=rate)]
            text = await transcribe(b"".join(sounds), rate, transcriber=transcriber)
            assert text == "what is the application deadline"
        await synthesizer.close()

    run(cache, body)


def test_models_are_made_once(cache: str, tmp_path: Path) -> None:
    async def main() -> None:
        times = []
        for _ in range(2):
            transcriber = PocketsphinxTranscriber(phrases=["a phrase of this test"], workers=1, cache=str(tmp_path))
            await transcriber.start()
            times.append(transcriber.timings_ms["files"])
            await transcriber.close()
        assert times[1] < times[0] / 3

    asyncio.run(main())
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".dict", ".lm"]


def test_a_nursery_that_cannot_load_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "pocketsphinx"
    fake.mkdir()
    (fake / "__init__.py").write_text(f"def get_model_path(name):\n    return {str(tmp_path / 'missing')!r}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def main() -> None:
        transcriber = PocketsphinxTranscriber(phrases=PHRASES, workers=1, cache=str(tmp_path))
        with pytest.raises(ProviderError, match="missing") as caught:
            await transcriber.start()
        assert caught.value.code == "stt.unavailable"
        assert transcriber.pids == []

    asyncio.run(main())


def test_phrases_come_from_files(tmp_path: Path) -> None:
    text = tmp_path / "phrases.txt"
    text.write_text("# what callers say\nOne lassi please\n\nThe bill please\n")
    assert read_phrases(text) == ["One lassi please", "The bill please"]
    knowledge = tmp_path / "kb.toml"
    knowledge.write_text('[[entry]]\nquestion = "How far?"\nparaphrases = ["At what distance?"]\ntopic = "travel"\n')
    found = read_phrases(knowledge)
    assert found[:2] == ["How far?", "At what distance?"]
    assert "what about travel" in found
    for name, content in (("missing.toml", None), ("bad.toml", "x ="), ("odd.toml", "entry = 3")):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError):
            read_phrases(tmp_path / name)
    with pytest.raises(ConfigError):
        build({"phrases_file": str(tmp_path / "missing.txt")})
    with pytest.raises(ConfigError):
        build({"worker": 1})
    assert build({}).name == "pocketsphinx"


def test_without_the_library_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingExtra, match=r'pip install "antiphon\[local\]"'):
        asyncio.run(PocketsphinxTranscriber().start())


ORPHAN = """
import asyncio, os, signal, sys
from antiphon.providers.stt.pocketsphinx import PocketsphinxTranscriber

async def main():
    transcriber = PocketsphinxTranscriber(phrases=["hello there"], workers=2, cache=sys.argv[1])
    await transcriber.start()
    while len(transcriber.pids) < 3:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    os.kill(transcriber.pids[1], signal.SIGSTOP)
    print(*transcriber.pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a stopped worker outlives a killed server")
def test_all_die_with_a_server_that_was_killed(cache: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN, cache], capture_output=True, text=True, timeout=20, check=False
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and any(map(_lives, pids)):
        time.sleep(0.02)
    assert not any(map(_lives, pids))


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
