"""What a caller's ear makes of a call: words out of the agent's audio, and one recording compared with another.

Recordings are the phone's own: 16-bit samples at 8000 Hz, caller left, agent right, on one time line.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from antiphon.knowledge import load_knowledge
from antiphon.languages import load_languages
from antiphon.media.codec import mulaw_decode
from antiphon.phone.ear import AUDIBLE
from antiphon.phone.voices import Voices
from antiphon.providers.stt.pocketsphinx import PocketsphinxTranscriber, transcribe

RATE = 8000
PAUSE = RATE // 100
"""Exact silence of 10 ms and more is a pause: within speech samples of zero come alone."""

Samples = npt.NDArray[np.int16]
Spectra = npt.NDArray[np.float64]

KNOWLEDGE = load_knowledge()
ANSWERS = {entry.id: entry.answer for entry in KNOWLEDGE.entries}
PHRASES = {**load_languages()["en-IN"].phrases, **KNOWLEDGE.phrases.get("en-IN", {})}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def share(expected: str, heard: str) -> float:
    """The share of the expected words that were heard, in their order (longest common subsequence)."""
    wanted, got = words(expected), words(heard)
    row = [0] * (len(got) + 1)
    for word in wanted:
        before = row
        row = [0]
        for at, other in enumerate(got):
            row.append(before[at] + 1 if word == other else max(row[at], before[at + 1]))
    return row[-1] / len(wanted)


class Scribe:
    """Writes down what the agent says. It expects all answers and phrases of the agent alike, none of them most."""

    def __init__(self, transcriber: PocketsphinxTranscriber) -> None:
        self._transcriber = transcriber

    async def write(self, pcm: bytes) -> str:
        """Sentence by sentence, as a recogniser works: a pause of 250 ms ends an utterance."""
        sentences = [await transcribe(piece, RATE, transcriber=self._transcriber) for piece in _sentences(pcm)]
        return " ".join(filter(None, sentences))


@contextlib.asynccontextmanager
async def scribe() -> AsyncIterator[Scribe]:
    sentences = [text for answer in ANSWERS.values() for text in re.split(r"(?<=[.?!])\s+", answer)]
    sentences += [text for variants in PHRASES.values() for text in variants]
    transcriber = PocketsphinxTranscriber(phrases=sentences, workers=1, background_words=0)
    await transcriber.start()
    try:
        yield Scribe(transcriber)
    finally:
        await transcriber.close()


def _sentences(pcm: bytes) -> list[bytes]:
    samples = np.frombuffer(pcm, "<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) >= AUDIBLE)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) >= RATE // 4)
    begins = [loud[0], *loud[breaks + 1]]
    ends = [*loud[breaks], loud[-1]]
    room = np.zeros(RATE // 5, "<i2")
    return [
        np.concatenate([room, samples[max(0, begin - 400) : end + 400], room, room]).tobytes()
        for begin, end in zip(begins, ends, strict=True)
    ]


def closest_answer(heard: str) -> tuple[str, float]:
    """The entry of the knowledge base whose answer was heard, and the share of its words that were."""
    shares = {id: share(answer, heard) for id, answer in ANSWERS.items()}
    best = max(shares, key=lambda id: shares[id])
    return best, shares[best]


# -- recordings -----------------------------------------------------------------------------------


def channels(recording: Path) -> tuple[Samples, Samples]:
    """Caller and agent."""
    with wave.open(str(recording), "rb") as file:
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return both[:, 0], both[:, 1]


def audible(samples: Samples) -> tuple[int, int]:
    """First audible sample, and the one after the last."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) >= AUDIBLE)
    assert len(loud), "nothing is audible"
    return int(loud[0]), int(loud[-1]) + 1


def without_pauses(samples: Samples) -> Samples:
    """The speech alone: runs of exact silence of 10 ms and more are taken out."""
    silent = np.concatenate([[False], samples == 0, [False]])
    edges = np.flatnonzero(np.diff(silent.astype(np.int8)))
    keep = np.ones(len(samples), bool)
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin >= PAUSE:
            keep[begin:end] = False
    return samples[keep]


def locate(piece: Samples, whole: Samples) -> tuple[int, float]:
    """Where ``piece`` is most alike in ``whole``, and how much: a correlation from 0 to 1."""
    wanted, among = piece.astype(np.float64), whole.astype(np.float64)
    size = len(among) + len(wanted)
    product = np.fft.irfft(np.fft.rfft(among, size) * np.conj(np.fft.rfft(wanted, size)), size)
    product = product[: len(among) - len(wanted) + 1]
    sums = np.concatenate([[0.0], np.cumsum(among**2)])
    energy = np.sqrt(np.maximum(sums[len(wanted) :] - sums[: -len(wanted)], 1.0) * max(float(wanted @ wanted), 1.0))
    alike = product / energy
    at = int(np.argmax(alike))
    return at, float(alike[at])


# -- whether a text is heard ----------------------------------------------------------------------

SAME = 0.85
"""From this likeness on a text is heard. Of the same text spoken again by the same voice it is 0.92 to 1, of another
text at most 0.7. Read by the rules of another language it is 0.2 to 0.8, or over 0.9 where espeak lends one Indian
language the sounds of another."""
WINDOW, HOP = RATE * 32 // 1000, RATE // 100
BANDS = np.geomspace(200, 3600, 19) / (RATE / WINDOW)
QUIET = 1e3


async def likeness(heard: Samples | bytes, voices: Voices, text: str, language: str = "en-IN") -> float:
    """How much what was heard is like espeak's speaking of the text, at the most like place: up to 1.

    Spectra are compared, for espeak never makes the same samples twice. Piece by piece, the middle one counts: a
    machine that stood still for a moment leaves a gap in some. Longer pieces tell more apart, and forgive less.
    """
    spoken = np.frombuffer(mulaw_decode(await voices.mulaw(text, language)), "<i2")
    begin, end = audible(spoken)
    whole = np.frombuffer(heard, "<i2") if isinstance(heard, bytes) else heard
    return await asyncio.to_thread(_likeness, spoken[begin:end], whole)


def _likeness(spoken: Samples, heard: Samples) -> float:
    spoken, heard = without_pauses(spoken), without_pauses(heard)
    size = min(RATE, len(spoken))
    if len(heard) < size:
        return 0.0
    whole = _spectra(heard)
    pieces = [_spectra(spoken[at : at + size]) for at in range(0, len(spoken) - size + 1, size // 2)]
    return float(np.median([_best(piece, whole) for piece in pieces]))


def _spectra(samples: Samples) -> Spectra:
    """The logarithm of the power in each band, each 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)) ** 2
    edges = [(int(low), max(int(low) + 1, int(high))) for low, high in itertools.pairwise(BANDS)]
    return np.log10(np.stack([power[:, low:high].mean(axis=1) for low, high in edges], axis=1) + QUIET)


def _best(piece: Spectra, whole: Spectra) -> float:
    """The highest correlation over all places; what is the same in all frames of a place says nothing."""
    length, size = len(piece), len(piece) + len(whole)
    wanted = piece - piece.mean(axis=0)
    wanted /= np.linalg.norm(wanted)
    whole = whole - whole.mean(axis=0)
    product = np.fft.irfft(np.fft.rfft(whole, size, axis=0) * np.conj(np.fft.rfft(wanted, size, axis=0)), size, axis=0)
    product = product[: len(whole) - length + 1].sum(axis=1)
    sums, squares = (np.concatenate([np.zeros((1, whole.shape[1])), np.cumsum(x, axis=0)]) for x in (whole, whole**2))
    energy = (squares[length:] - squares[:-length] - (sums[length:] - sums[:-length]) ** 2 / length).sum(axis=1)
    return float(np.max(product / np.sqrt(np.maximum(energy, 1e-3))))
