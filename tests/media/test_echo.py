"""The agent's own voice in the caller's microphone: it is not the caller, and the caller over it is.

Synthesized speech through the whole path that hears: the detector's model, the guard, the gate. No real time: sound is
given window by window.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.media.activity import ActivityBatch
from antiphon.media.codec import decode_float, mulaw_encode, to_pcm
from antiphon.media.echo import LONGEST_DELAY, WINDOW, EchoGuard
from antiphon.media.gate import WINDOW_MS, Gate
from antiphon.phone.room import Speakerphone, answer
from antiphon.providers import registry
from antiphon.providers.tts.espeak import build
from antiphon.runtime.listen import OVER_MS
from antiphon.runtime.recording import hear
from antiphon.runtime.vad import load_weights

RATE = 8000
WEIGHTS = load_weights()
AGENT = (
    "Welcome to the admissions line. How can I help you today?",
    "Tuition fees are two hundred thousand rupees a year, and you can pay in four parts.",
    "You need a school leaving certificate and the marks of your last two years.",
    "Yes, there is a hostel on the campus. A room for two costs sixty thousand rupees a year.",
    "I am sorry, I did not understand that. Please say it again in other words.",
)
CALLER = (
    ("Wait, what about the hostel?", ""),
    ("No, I mean the master programme.", "en-us+f3"),
    ("How much is the tuition fee?", "en-gb+m3"),
    ("Excuse me, can I ask something else?", "en-us+f3"),
    ("Hold on a moment.", ""),
)
"""The first and the last in the agent's own voice, which is the hardest to tell from it."""
REPLIES, INTERRUPTIONS = 20, 10


@lru_cache(maxsize=1)
def spoken() -> dict[tuple[str, str], np.ndarray]:
    async def speak() -> dict[tuple[str, str], np.ndarray]:
        voice = build({})
        await voice.start()
        try:
            found = {}
            for text, name in (*((text, "") for text in AGENT), *CALLER):
                sounds = voice.synthesize(text, language="en-IN", sample_rate=RATE, voice=name)
                found[text, name] = decode_float("pcm16", b"".join([sound.pcm async for sound in sounds]))
            return found
        finally:
            await voice.close()

    return asyncio.run(speak())


def telephone(wave: np.ndarray) -> np.ndarray:
    pcm = np.clip(np.rint(wave * 32768), -32768, 32767).astype("<i2")
    return decode_float("mulaw", mulaw_encode(pcm.tobytes()))


def reply(number: int, phone: Speakerphone | None, jitter_ms: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """What is played in a reply, half a second of silence before it and a second after, and what comes back."""
    half = np.zeros(RATE // 2, np.float32)
    played = telephone(np.concatenate([half, spoken()[AGENT[number % len(AGENT)], ""], half, half]))
    heard = np.random.default_rng(number).normal(0, 30 / 32768, len(played))
    if phone is not None:
        echo = np.convolve(played, answer(phone, RATE))
        late = int((phone.delay_ms + jitter_ms) * RATE / 1000)
        heard[late:] += echo[: len(heard) - late]
    return played, heard


class Line:
    """One caller's way from the microphone to the gate."""

    def __init__(self, *, guarded: bool = True) -> None:
        self.batch, self.gate, self.guarded = ActivityBatch(WEIGHTS), Gate(), guarded

    def starts(self, played: np.ndarray, heard: np.ndarray) -> list[int]:
        """When the gate opened, ms from the beginning of this sound."""
        mic, far = (
            mulaw_encode(np.rint(w * 32768).clip(-32768, 32767).astype("<i2").tobytes()) for w in (heard, played)
        )
        found = []
        for at in range(0, len(mic) - WINDOW + 1, WINDOW):
            now = [far[at : at + WINDOW]] if self.guarded else []
            (probability,) = self.batch.step([0], [("mulaw", mic[at : at + WINDOW])], now)
            edge = self.gate.step(probability)
            if edge is not None and edge.kind == "started":
                found.append(at * 1000 // RATE + WINDOW_MS)
        return found


@pytest.mark.parametrize(("delay", "ringing"), [(20, 0), (80, 400), (160, 200), (300, 400)])
def test_twenty_replies_over_a_speakerphone_and_none_interrupts_itself(delay: int, ringing: int) -> None:
    line, chance = Line(), np.random.default_rng(delay)
    phone = Speakerphone(delay_ms=delay, ringing_ms=ringing, seed=delay + ringing)
    opened = [line.starts(*reply(number, phone, chance.uniform(-8, 8))) for number in range(REPLIES)]
    assert opened == [[]] * REPLIES


def test_without_the_guard_every_reply_would_interrupt_itself() -> None:
    line = Line(guarded=False)
    assert all(line.starts(*reply(number, Speakerphone())) for number in range(len(AGENT)))


@pytest.mark.parametrize(("delay", "ringing"), [(20, 0), (160, 200), (300, 400)])
def test_ten_interruptions_over_the_echo_are_all_heard_soon(delay: int, ringing: int) -> None:
    phone = Speakerphone(delay_ms=delay, ringing_ms=ringing, seed=delay)
    line, later = Line(), []
    assert line.starts(*reply(0, phone)) == []
    for number in range(INTERRUPTIONS):
        voice = spoken()[CALLER[number % len(CALLER)]]
        begins_ms = 1200 + 170 * number
        begins = begins_ms * RATE // 1000
        times = []
        for each, through in ((line, phone), (Line(guarded=False), None)):
            played, heard = reply(1 + number, through)
            heard[begins : begins + len(voice)] += voice[: len(heard) - begins]
            opened = each.starts(played, heard)
            assert opened, f"interruption {number} was not heard"
            assert opened[0] >= begins_ms, "the echo is not the interruption"
            times.append(opened[0])
        later.append(times[0] - times[1])
    assert np.median(later) <= 64, later
    assert max(later) <= 600, later


def test_a_line_without_echo_loses_no_time_once_it_has_shown_so() -> None:
    line, bare = Line(), Line(guarded=False)
    assert line.starts(*reply(0, None)) == bare.starts(*reply(0, None)) == []
    for number in range(5):
        voice = spoken()[CALLER[1 + number % 3]]
        played, heard = reply(1 + number, None)
        heard[12_000 : 12_000 + len(voice)] += voice[: len(heard) - 12_000]
        assert line.starts(played, heard) == bare.starts(played, heard)


def test_the_path_is_found_and_followed() -> None:
    guard = EchoGuard()
    played, heard = reply(1, Speakerphone(delay_ms=160))
    for at in range(4_096, 16_000, WINDOW):
        is_speech = bool(np.abs(heard[at : at + WINDOW]).max() > 0.01)
        guard.hear(to_pcm(heard[at : at + WINDOW]), to_pcm(played[at : at + WINDOW]), is_speech)
        assert not is_speech or guard.explains()
    assert guard.delay == pytest.approx(160 * 8 + 32, abs=16), "the loudspeaker's own delay included"
    before = guard._gain.copy()
    for at in range(15_872 + WINDOW, len(played) - WINDOW, WINDOW):
        guard.hear(to_pcm(1.3 * heard[at : at + WINDOW]), to_pcm(played[at : at + WINDOW]), True)
        guard.explains()
    assert np.median(guard._gain / before) > 1.1, "the volume was turned up"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    level=st.sampled_from([0.0, 1e-6, 0.01, 1.0]),
    far=st.sampled_from([0.0, 1e-6, 0.01, 1.0]),
    windows=st.integers(1, 60),
)
def test_whatever_it_hears_it_stays_sound(seed: int, level: float, far: float, windows: int) -> None:
    """Any levels, silence and full scale among them: no number that is none, and no echo of nothing."""
    guard, chance = EchoGuard(), np.random.default_rng(seed)
    explained = 0
    for _ in range(windows):
        mic, sent = chance.normal(0, 1, (2, WINDOW)).astype(np.float32)
        is_speech = bool(chance.integers(4))
        guard.hear(to_pcm(level * mic), to_pcm(far * sent), is_speech)
        explained += is_speech and guard.explains()
    assert -1 <= guard.delay <= LONGEST_DELAY
    assert np.isfinite(guard._gain).all()
    assert np.isfinite(guard._noise).all()
    if far == 0.0:
        assert not explained, "nothing was played"


def test_what_is_said_over_the_echo_is_understood_as_well_as_without_it() -> None:
    """The agent is silent as soon as the gate opens; the transcriber gets what the ear would feed it."""

    def heard_by_transcriber(number: int, through: Speakerphone | None) -> bytes:
        voice = spoken()[CALLER[number]]
        line, begins = Line(), 12_000
        line.starts(*reply(0, through))
        played, _ = reply(1 + number, through)

        def mixed(upto: int) -> np.ndarray:
            found = np.random.default_rng(1).normal(0, 30 / 32768, len(played) + RATE)
            if through is not None:
                sent = np.where(np.arange(len(played)) < upto, played, 0)
                echo, late = np.convolve(sent, answer(through, RATE)), through.delay_ms * RATE // 1000
                found[late : late + len(echo)] += echo[: len(found) - late]
            found[begins : begins + len(voice)] += voice
            return found

        opens = line.starts(played, mixed(len(played))[: len(played)])[0] * RATE // 1000
        wave = mixed(opens)[opens - OVER_MS * RATE // 1000 : begins + len(voice) + RATE // 3]
        return (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()

    async def transcribed(sounds: list[bytes]) -> list[str]:
        transcriber = registry.load("stt", "pocketsphinx")
        await transcriber.start()
        try:
            return [(await hear(transcriber, sound, RATE, "en-IN")).text for sound in sounds]
        finally:
            await transcriber.close()

    def transcripts(through: Speakerphone | None) -> list[str]:
        return asyncio.run(transcribed([heard_by_transcriber(number, through) for number in range(len(CALLER))]))

    def known(texts: list[str]) -> int:
        words = [set(text.lower().strip("?.").replace(",", "").split()) for text, _ in CALLER]
        return sum(len(said & set(text.split())) for said, text in zip(words, texts, strict=True))

    clean, echoing = transcripts(None), transcripts(Speakerphone(delay_ms=160, ringing_ms=300))
    print(known(clean), clean, known(echoing), echoing)
    assert known(echoing) >= 0.7 * known(clean)
