"""The real library in real worker processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import psutil
import pytest

from antiphon.errors import ConfigError, MissingExtra, ProviderError, ProviderRefused
from antiphon.providers import workers
from antiphon.providers.tts.espeak import EspeakSynthesizer, build
from antiphon.providers.tts.speech_pool import MAX_CHARS
from antiphon.runtime.ports import Sound, Synthesizer, WordMark

RATE = 8000

SENTENCES = {
    "en-IN": "The tuition fee is ₹1,25,000 per year. Please call 98765 43210.",
    "hi-IN": "नमस्ते, प्रवेश शुल्क ₹25,000 है। कृपया आवेदन करें।",
    "te-IN": "నమస్కారం, ప్రవేశ రుసుము ₹25,000. దయచేసి దరఖాస్తు చేయండి.",
    "gu-IN": "નમસ્તે, પ્રવેશ ફી ₹25,000 છે. કૃપા કરીને અરજી કરો.",
    "mr-IN": "नमस्कार, शुल्क ₹25,000 आहे.",
}


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    yield
    children = psutil.Process().children(recursive=True)
    psutil.wait_procs(children, timeout=2)
    assert [child for child in children if child.is_running()] == []


def run(body: Callable[[EspeakSynthesizer], Awaitable[None]], **settings: object) -> None:
    async def main() -> None:
        synthesizer = build(settings)
        await synthesizer.start()
        try:
            await body(synthesizer)
        finally:
            await synthesizer.close()

    asyncio.run(main())


async def spoken(
    synthesizer: Synthesizer, text: str, language: str = "en-IN", rate: int = RATE, voice: str = ""
) -> list[Sound]:
    return [sound async for sound in synthesizer.synthesize(text, language=language, sample_rate=rate, voice=voice)]


def samples(sounds: list[Sound]) -> np.ndarray:
    return np.frombuffer(b"".join(sound.pcm for sound in sounds), "<i2").astype(np.int32)


def test_it_speaks_the_languages_of_the_demo() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        for language, text in SENTENCES.items():
            sounds = await spoken(synthesizer, text, language)
            wave = samples(sounds)
            seconds = len(wave) / RATE
            assert 1.5 < seconds < 12, language
            # Speech, not hum or silence: loud for most of the time, and not one level throughout.
            levels = [float(np.abs(wave[at : at + 160]).mean()) for at in range(0, len(wave) - 160, 160)]
            assert sum(level > 300 for level in levels) > len(levels) * 0.5, language
            assert min(levels) < max(levels) / 20, language
            assert np.flatnonzero(np.abs(wave) > 300)[0] < RATE * 0.03, "the first sound comes at once"
            tail = len(wave) - np.flatnonzero(np.abs(wave) > 300)[-1]
            assert RATE * 0.05 < tail < RATE * 0.35, "a short pause follows a sentence"

    run(body)


def test_word_marks_are_in_the_piece_they_begin_in() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        for language, text in SENTENCES.items():
            sounds = await spoken(synthesizer, text, language)
            before = 0
            marks: list[WordMark] = []
            for sound in sounds:
                after = before + len(sound.pcm) // 2
                assert all(before <= mark.sample < after for mark in sound.words)
                marks += sound.words
                before = after
            starts = [at for at in range(len(text)) if not text[at].isspace() and (at == 0 or text[at - 1].isspace())]
            chars = [mark.char for mark in marks]
            assert chars == sorted(set(chars))
            assert set(chars) <= set(starts)
            # espeak tells of each word, though it joins some short ones to their neighbour.
            assert len(chars) >= len(starts) * 0.7
            assert [mark.sample for mark in marks] == sorted(mark.sample for mark in marks)
            assert marks[0] == WordMark(0, 0)

    run(body)


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_the_rate_is_the_one_asked_for(rate: int) -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        sounds = await spoken(synthesizer, "One two three four five.", rate=rate)
        assert len(samples(sounds)) / rate == pytest.approx(1.75, abs=0.4)
        lengths = [len(sound.pcm) for sound in sounds]
        assert max(lengths) <= rate // 10 * 2, "pieces of 100 ms at most"
        assert all(length % 2 == 0 for length in lengths)

    run(body)


def test_the_first_piece_does_not_wait_for_the_last() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        text = "This is a rather long story about nothing in particular. " * 25
        await spoken(synthesizer, "warm")
        began = time.perf_counter()
        first = 0.0
        async for _ in synthesizer.synthesize(text, language="en", sample_rate=RATE):
            first = first or time.perf_counter() - began
        assert first < (time.perf_counter() - began) / 3

    run(body)


def test_closing_the_iterator_cancels() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        text = ("word " * 400)[:MAX_CHARS]
        whole = psutil.Process(synthesizer.pids[0]).cpu_times().user
        iterators = [synthesizer.synthesize(text, language="en", sample_rate=RATE) for _ in range(10)]
        for iterator in iterators[:1]:
            await anext(iterator)
        waiting = [asyncio.ensure_future(anext(iterator)) for iterator in iterators[1:]]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await iterators[0].aclose()
        assert samples(await spoken(synthesizer, "next")).any()
        spent = psutil.Process(synthesizer.pids[0]).cpu_times().user - whole
        began = psutil.Process(synthesizer.pids[0]).cpu_times().user
        await spoken(synthesizer, text)
        one = psutil.Process(synthesizer.pids[0]).cpu_times().user - began
        assert spent < max(3 * one, 0.1), "ten cancelled requests cost less than three"

    run(body)


def test_requests_at_once_do_not_mix() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        texts = [f"{word} {word}" for word in ("one", "seventeen", "constitution", "a", "ninety nine")] * 6
        alone = {text: samples(await spoken(synthesizer, text)) for text in set(texts)}
        together = await asyncio.gather(*(spoken(synthesizer, text) for text in texts))
        for text, sounds in zip(texts, together, strict=True):
            wave = samples(sounds)
            assert abs(len(wave) - len(alone[text])) < RATE * 0.01
        assert len({len(samples(sounds)) for sounds in together}) >= 4

    run(body, workers=2)


def test_voices_and_their_refusal() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        usual = samples(await spoken(synthesizer, "Good morning"))
        for voice in ("en-us+f5", "+f5", "hi"):
            other = samples(await spoken(synthesizer, "Good morning", voice=voice))
            assert len(other) != len(usual) or (other != usual).any()
        for voice, language, code in (
            ("nobody", "en", "tts.voice"),
            ("+nobody", "en", "tts.voice"),
            ("", "xx-YY", "tts.language"),
        ):
            with pytest.raises(ProviderRefused) as caught:
                await spoken(synthesizer, "Good morning", language, voice=voice)
            assert caught.value.code == code
            assert caught.value.stage == "tts"
        assert len(await spoken(synthesizer, "Good morning")) > 3

    run(body)


def test_what_cannot_be_spoken() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        for text in ("", "  \n", "!!! ...", "🎉", "**"):
            assert await spoken(synthesizer, text) == []
        with pytest.raises(ProviderRefused) as caught:
            await spoken(synthesizer, "x" * (MAX_CHARS + 1))
        assert caught.value.code == "tts.too_long"
        with pytest.raises(ProviderRefused) as caught:
            await spoken(synthesizer, "x", rate=7999)
        assert caught.value.code == "tts.sample_rate"
        assert len(await spoken(synthesizer, "\x00nul and \ud800 surrogate <tag> [[x]]")) > 0

    run(body)


def test_a_worker_killed_in_the_middle_is_replaced() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        pid = synthesizer.pids[0]
        os.kill(pid, signal.SIGSTOP)  # so that the request is surely under way when it dies
        request = asyncio.ensure_future(spoken(synthesizer, "This will never be heard."))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProviderError) as caught:
            await request
        assert caught.value.code == "tts.worker_lost"
        assert caught.value.retryable
        assert samples(await spoken(synthesizer, "But this will.")).any()
        assert pid not in synthesizer.pids

    run(body)


def test_a_worker_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TICK_S", 0.1)

    async def body(synthesizer: EspeakSynthesizer) -> None:
        await spoken(synthesizer, "warm")
        pid = synthesizer.pids[0]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ProviderError) as caught:
            await asyncio.wait_for(spoken(synthesizer, "Hello?"), 5)
        assert caught.value.code == "tts.worker_lost"
        assert samples(await spoken(synthesizer, "Hello.")).any()
        assert not psutil.pid_exists(pid)

    run(body)


def test_start_and_close_may_be_called_twice() -> None:
    async def body(synthesizer: EspeakSynthesizer) -> None:
        pids = synthesizer.pids
        await synthesizer.start()
        assert synthesizer.pids == pids
        pending = asyncio.ensure_future(spoken(synthesizer, "word " * 300))
        await asyncio.sleep(0)
        await synthesizer.close()
        await synthesizer.close()
        with pytest.raises(ProviderError) as caught:
            await pending
        assert caught.value.code == "tts.closed"
        with pytest.raises(ProviderError) as caught:
            await spoken(synthesizer, "too late")
        assert caught.value.code == "tts.closed"
        await synthesizer.start()
        assert samples(await spoken(synthesizer, "again")).any()

    run(body)


def test_settings_are_checked() -> None:
    assert build({"rate_wpm": "200", "voices": {"hi": "hi+f2"}}).name == "espeak"
    with pytest.raises(ConfigError):
        build({"speed": 3})
    with pytest.raises(ConfigError):
        build({"workers": 0})


def test_what_makes_it_sound_otherwise_makes_another_version() -> None:
    others = ({"rate_wpm": 150}, {"pitch": 40}, {"voices": {"hi": "hi+f2"}})
    versions = {build({**each}).sound_version for each in ({}, *others)}
    assert len(versions) == 1 + len(others)
    assert build({"workers": 2}).sound_version in versions


def test_without_the_library_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtra, match=r'pip install "antiphon\[local\]"'):
        asyncio.run(EspeakSynthesizer().start())


ORPHAN = """
import asyncio, os, signal, sys
from antiphon.providers.tts.espeak import EspeakSynthesizer

async def main():
    synthesizer = EspeakSynthesizer(workers=1)
    await synthesizer.start()
    os.kill(synthesizer.pids[0], signal.SIGSTOP)
    print(*synthesizer.pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a stopped worker outlives a killed server")
def test_workers_die_with_a_server_that_was_killed() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=20, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 1
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and any(map(_lives, pids)):
        time.sleep(0.02)
    assert not any(map(_lives, pids))


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
