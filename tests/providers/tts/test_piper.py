"""The real ``piper-tts`` in real worker processes, with a voice that says a tone for each phoneme."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from standin_voice import HOP, RATE, STEP, write_voice

from antiphon.conformance import KITS, Sample, examine, report
from antiphon.errors import ConfigError, MissingExtra, ProviderError, ProviderRefused, ProviderTimeout
from antiphon.providers.tts import piper, piper_worker
from antiphon.providers.tts.piper import PiperSynthesizer, build
from antiphon.providers.tts.piper_worker import word_positions
from antiphon.runtime.ports import Sound

SENTENCE = "You need two letters of reference. Please bring them."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("voices")
    write_voice(place / "en_XX-tone-low.onnx")
    write_voice(place / "en_XX-told-low.onnx", aligned=True)
    write_voice(place / "hi_XX-tone-low.onnx", language="hi", espeak="hi", speakers=3)
    (place / "broken.onnx").write_bytes(b"not a model")
    (place / "broken.onnx.json").write_bytes((place / "en_XX-tone-low.onnx.json").read_bytes())
    return place


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    yield
    children = psutil.Process().children(recursive=True)
    psutil.wait_procs(children, timeout=2)
    assert [child for child in children if child.is_running()] == []


def settings(folder: Path, **more: object) -> dict[str, object]:
    return {"model": str(folder / "en_XX-tone-low.onnx"), "threads": 1, **more}


def run(body: Callable[[PiperSynthesizer], Awaitable[None]], given: dict[str, object]) -> None:
    async def main() -> None:
        synthesizer = build(given)
        await synthesizer.start()
        try:
            await body(synthesizer)
        finally:
            await synthesizer.close()

    asyncio.run(main())


async def spoken(
    voice: PiperSynthesizer, text: str, language: str = "en-IN", rate: int = 8000, name: str = ""
) -> list[Sound]:
    return [sound async for sound in voice.synthesize(text, language=language, sample_rate=rate, voice=name)]


def wave(sounds: list[Sound]) -> np.ndarray:
    return np.frombuffer(b"".join(sound.pcm for sound in sounds), "<i2").astype(np.int32)


def pitch(sounds: list[Sound], rate: int = 8000) -> float:
    """The mean frequency in Hz, from how often the sound crosses zero."""
    found = wave(sounds)
    return float(np.count_nonzero(np.diff(np.signbit(found))) / 2 / (len(found) / rate))


def test_it_conforms(folder: Path) -> None:
    async def main() -> None:
        results = await examine(KITS["tts"], lambda: build(settings(folder)), Sample())
        print(report(results))
        assert all(result.passed for result in results)

    asyncio.run(main())


def test_pieces_rates_and_the_length_of_a_text(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        # "hello" is h ə l ˈ o ʊ: with padding, a beginning and an end, fifteen ids.
        whole = 15 * STEP / RATE
        for rate in (8000, 16_000, 48_000):
            sounds = await spoken(voice, "hello", rate=rate)
            assert len(wave(sounds)) / rate == pytest.approx(whole, abs=0.01)
            assert max(len(sound.pcm) for sound in sounds) <= rate // 10 * 2
            assert np.abs(wave(sounds)).max() > 20_000
            assert all(not sound.words for sound in sounds)

    run(body, settings(folder))


def test_the_first_sentence_is_heard_before_the_last_is_computed(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        text = "This is a rather long story about nothing in particular. " * 30
        await spoken(voice, "warm")
        began = time.perf_counter()
        first = 0.0
        async for _ in voice.synthesize(text, language="en", sample_rate=8000):
            first = first or time.perf_counter() - began
        assert first < (time.perf_counter() - began) / 3

    run(body, settings(folder))


def test_a_voice_that_tells_of_its_phonemes_marks_the_words(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        sounds = await spoken(voice, SENTENCE, rate=24_000)
        marks = [mark for sound in sounds for mark in sound.words]
        starts = [at for at in range(len(SENTENCE)) if at == 0 or SENTENCE[at - 1] == " "]
        assert [mark.char for mark in marks] == starts
        samples = [mark.sample for mark in marks]
        assert samples == sorted(samples)
        assert marks[0].sample < 0.2 * 24_000
        before = 0
        for sound in sounds:
            after = before + len(sound.pcm) // 2
            assert all(before <= mark.sample < after for mark in sound.words)
            before = after
        # Some words are heard as one: then none is marked, rather than the wrong ones.
        assert not [mark for sound in await spoken(voice, "I have been to the bank.") for mark in sound.words]

    run(body, settings(folder, model=str(folder / "en_XX-told-low.onnx")))


def test_words_begin_where_the_model_says(folder: Path) -> None:
    """The same without the worker: the sound of a word begins with its own phoneme's."""
    voice = piper_worker.load(str(folder / "en_XX-told-low.onnx"), 1)
    (chunk,) = voice.synthesize("go there", include_alignments=True)
    first, second = piper_worker.word_samples(chunk)
    # ^ _ and then g _ ˈ _ o _ ʊ _ space _: the model lets every id last STEP samples.
    assert (first, second) == (2 * STEP, 12 * STEP)
    assert chunk.phoneme_id_samples is not None
    assert int(chunk.phoneme_id_samples[0]) == STEP == 4 * HOP
    assert piper_worker.words_of(voice, "go there") == 2
    assert list(word_positions("go there", 2)) == [0, 3]
    assert list(word_positions("go there", 3)) == []


def test_what_makes_it_sound_otherwise_makes_another_version(folder: Path, tmp_path: Path) -> None:
    for name in ("en_XX-tone-low.onnx", "en_XX-tone-low.onnx.json"):
        shutil.copy(folder / name, tmp_path / name)
    own = settings(tmp_path)
    others = ({"speed": 1.2}, {"speaker": 1}, {"volume": 0.5}, {"voices": {"hi": str(folder / "en_XX-told-low.onnx")}})
    versions = {build({**own, **each}).sound_version for each in ({}, *others)}
    assert len(versions) == 1 + len(others)
    assert build({**own, "threads": 2, "workers": 2}).sound_version in versions
    os.utime(tmp_path / "en_XX-tone-low.onnx.json", (1e9, 1e9))
    assert build(own).sound_version not in versions, "another voice under the same name"


def test_voices_speakers_and_their_refusal(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        text = "नमस्ते, शुल्क कितना है"
        own = pitch(await spoken(voice, text, "hi-IN"))
        third = pitch(await spoken(voice, text, "hi-IN", name="#2"))
        assert third - own == pytest.approx(80, abs=25), "each speaker of the stand-in is 40 Hz above the last"
        named = await spoken(voice, "hello", "te-IN", name="EN_xx-tone-low")
        assert len(wave(named)) > 0
        for language, name, code in (
            ("te-IN", "", "tts.language"),
            ("hi-IN", "nobody", "tts.voice"),
            ("hi-IN", "#3", "tts.voice"),
            ("hi-IN", "#x", "tts.voice"),
        ):
            with pytest.raises(ProviderRefused) as caught:
                await spoken(voice, text, language, name=name)
            assert (caught.value.code, caught.value.provider, caught.value.stage) == (code, "piper", "tts")

    run(body, settings(folder, voices={"hi": str(folder / "hi_XX-tone-low.onnx")}))


def test_speed_volume_and_what_cannot_be_spoken(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        sounds = await spoken(voice, "hello")
        assert len(wave(sounds)) / 8000 == pytest.approx(15 * STEP / RATE / 2, abs=0.01)
        assert np.abs(wave(sounds)).max() == pytest.approx(0.25 * 32767, rel=0.2)
        for text in ("", "  \n", "!!! ...", "🎉", "**"):
            assert await spoken(voice, text) == []
        for odd in ("\x00nul and \ud800 surrogate <tag> [[x]] [[]]", "a" * 2000):
            assert len(wave(await spoken(voice, odd))) > 0
        for text, rate, code in (("x" * 2001, 8000, "tts.too_long"), ("x", 7999, "tts.sample_rate")):
            with pytest.raises(ProviderRefused) as caught:
                await spoken(voice, text, rate=rate)
            assert caught.value.code == code

    run(body, settings(folder, speed=2.0, volume=0.25))


def test_closing_the_iterator_cancels_also_what_waits(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        text = ("This takes a while to compute. " * 60)[:2000]
        process = psutil.Process(voice.pids[0])
        began = process.cpu_times().user
        await spoken(voice, text)
        one = process.cpu_times().user - began
        iterators = [voice.synthesize(text, language="en", sample_rate=8000) for _ in range(10)]
        await anext(iterators[0])
        waiting = [asyncio.ensure_future(anext(iterator)) for iterator in iterators[1:]]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await iterators[0].aclose()
        began = process.cpu_times().user
        assert wave(await spoken(voice, "next")).any()
        assert process.cpu_times().user - began < max(2 * one, 0.1)

    run(body, settings(folder))


def test_a_worker_killed_in_the_middle_is_replaced(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        pid = voice.pids[0]
        os.kill(pid, signal.SIGSTOP)
        request = asyncio.ensure_future(spoken(voice, "This will never be heard."))
        await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProviderError) as caught:
            await request
        assert (caught.value.code, caught.value.retryable) == ("tts.worker_lost", True)
        assert wave(await spoken(voice, "But this will.")).any()
        assert pid not in voice.pids

    run(body, settings(folder))


def test_a_worker_whose_engine_is_stuck_is_given_up_and_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pipe is read by a thread of its own, so it still answers pings: only its silence tells."""
    monkeypatch.setattr(piper, "STALL_S", 0.2)

    async def body(voice: PiperSynthesizer) -> None:
        await spoken(voice, "warm")
        pid = voice.pids[0]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ProviderTimeout) as caught:
            await spoken(voice, "Hello?")
        assert caught.value.code == "tts.timeout_stalled"
        assert wave(await spoken(voice, "Hello.")).any()
        assert not psutil.pid_exists(pid)

    run(body, settings(folder))


def test_close_ends_what_is_under_way_and_it_starts_again(folder: Path) -> None:
    async def body(voice: PiperSynthesizer) -> None:
        pids = voice.pids
        await voice.start()
        assert voice.pids == pids
        pending = asyncio.ensure_future(spoken(voice, "word " * 300))
        await asyncio.sleep(0)
        await voice.close()
        with pytest.raises(ProviderError) as caught:
            await pending
        assert caught.value.code == "tts.closed"
        with pytest.raises(ProviderError, match=r"tts\.closed"):
            await spoken(voice, "too late")
        await voice.start()
        assert wave(await spoken(voice, "again")).any()

    run(body, settings(folder))


def test_a_voice_that_is_not_there_says_how_to_get_one(folder: Path, tmp_path: Path) -> None:
    for given, code in (
        ({}, "config.missing_value"),
        ({"model": str(tmp_path / "none.onnx")}, "config.missing_voice"),
        ({"voices": {"hi": str(tmp_path / "none.onnx")}}, "config.missing_voice"),
    ):
        with pytest.raises(ConfigError, match=r"python -m piper\.download_voices en_US-lessac-medium") as caught:
            build(given)
        assert caught.value.code == code
    for text in ("{}", "no json", '{"espeak": {"voice": 1}}'):
        (tmp_path / "x.onnx").write_bytes(b"")
        (tmp_path / "x.onnx.json").write_text(text)
        with pytest.raises(ConfigError, match="describes no Piper voice") as caught:
            build({"model": str(tmp_path / "x.onnx")})
        assert caught.value.code == "config.voice"
    with pytest.raises(ConfigError, match="did you mean 'speed'"):
        build(settings(folder, sped=3))


def test_a_file_that_is_no_model_is_told_at_the_start(folder: Path, tmp_path: Path) -> None:
    odd = write_voice(tmp_path / "odd.onnx", rate=11_025)
    other = write_voice(tmp_path / "other.onnx", speakers=2)
    described = Path(f"{other}.json")
    described.write_text(described.read_text().replace('"num_speakers": 2', '"num_speakers": 1'))
    for model, match in (
        (folder / "broken.onnx", "broken.onnx is no Piper voice"),
        (odd, "a voice at 11025 Hz"),
        (other, r"other.onnx is no Piper voice: .*sid"),
    ):
        with pytest.raises(ConfigError, match=match) as caught:
            asyncio.run(build({"model": str(model)}).start())
        assert caught.value.code == "config.voice"


def test_without_the_package_the_command_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(MissingExtra, match=r'pip install "antiphon\[piper\]"'):
        asyncio.run(build(settings(folder)).start())
