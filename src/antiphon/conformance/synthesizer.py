"""What every ``Synthesizer`` must do: ``run(synthesizer.KIT, make)``.

``Sample.short`` and ``Sample.long`` are spoken in ``Sample.language``. How it sounds is not checked, only that it is
sound, and as much of it as the text is worth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import numpy as np

from antiphon.conformance.checks import (
    ODD_TEXTS,
    Kit,
    Subject,
    cancelled_soon,
    closes_twice,
    ended_by_close,
    iterating,
    require,
    settled,
    started,
)
from antiphon.errors import ProviderError
from antiphon.runtime.ports import Sound, Synthesizer

RATE = 8000
FASTEST_MS, SLOWEST_MS = 15, 300
"""Per character of a sentence. People speak 12 to 18 characters a second in Latin script, fewer in others."""

HEADERS = (b"RIFF", b"OggS", b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1", b".snd")
ROUGH = 1.1
"""Mean step between samples over mean level. Speech is below 1 at 8000 Hz, noise of independent samples at 1.33: that
is what PCM with its bytes swapped, and compressed audio, look like."""


async def _spoken(subject: Subject[Synthesizer], voice: Synthesizer, text: str, rate: int = RATE) -> list[Sound]:
    sounds = []
    async with aclosing(voice.synthesize(text, language=subject.sample.language, sample_rate=rate)) as parts:
        async for sound in parts:
            sounds.append(sound)
    return sounds


async def _first_piece(voice: Synthesizer, text: str, language: str, rate: int = RATE, name: str = "") -> Sound | None:
    async with iterating(voice.synthesize(text, language=language, sample_rate=rate, voice=name)) as parts:
        async for sound in parts:
            return sound
    return None


def _samples(sounds: Sequence[Sound]) -> int:
    return sum(len(sound.pcm) for sound in sounds) // 2


# -- the sound ----------------------------------------------------------------------------------


async def gives_whole_samples(subject: Subject[Synthesizer]) -> None:
    """Each piece is ``bytes`` of whole 16-bit samples. One odd byte shifts all that follow, and the rest of the segment
    is loud noise in the caller's ear.
    """
    async with started(subject) as voice:
        for text in (subject.sample.short, subject.sample.long):
            for sound in await _spoken(subject, voice, text):
                require(type(sound.pcm) is bytes, f"a piece is {type(sound.pcm).__name__}, not bytes")
                require(len(sound.pcm) % 2 == 0, f"a piece has {len(sound.pcm)} bytes, which is no number of samples")


async def gives_bare_pcm(subject: Subject[Synthesizer]) -> None:
    """The sound is little-endian PCM and nothing else, and it is not silent. A file header is a click at the start of
    each segment; swapped bytes or compressed audio are noise, and silence is a call that seems dead.
    """
    async with started(subject) as voice:
        pcm = b"".join(sound.pcm for sound in await _spoken(subject, voice, subject.sample.long))
        require(not pcm.startswith(HEADERS), f"the sound begins with a file header: {pcm[:4]!r}")
        wave = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float64)
        require(wave.size > 1 and float(np.abs(wave).max()) >= 300, "the sound is silent")
        rough = float(np.abs(np.diff(wave)).mean() / np.abs(wave).mean())
        require(rough < ROUGH, f"the sound is noise: are its bytes swapped, or is it compressed? ({rough:.2f})")


async def speaks_as_long_as_the_text(subject: Subject[Synthesizer]) -> None:
    """A sentence lasts 15 to 300 ms for each of its characters, and longer than a word does. What is cut off, said
    twice or stretched is heard as such, and the place of an interruption is reckoned by it.
    """
    short, long = subject.sample.short, subject.sample.long
    async with started(subject) as voice:
        brief, whole = [_samples(await _spoken(subject, voice, text)) / RATE * 1000 for text in (short, long)]
        per_char = whole / len(long)
        told = f"{len(long)} characters last {whole:.0f} ms, {per_char:.0f} ms each"
        require(FASTEST_MS <= per_char <= SLOWEST_MS, told)
        require(0 < brief < whole, f"{len(short)} characters last {brief:.0f} ms, {len(long)} {whole:.0f} ms")


async def keeps_to_the_rate(subject: Subject[Synthesizer]) -> None:
    """The same text lasts as long at 16000 Hz as at 8000 Hz, give or take a quarter. A voice that ignores the rate is
    heard at half or twice its pitch. At rates other than 8000 Hz it may refuse with ``ProviderError`` instead.
    """
    async with started(subject) as voice:
        slow = _samples(await _spoken(subject, voice, subject.sample.long, RATE)) / RATE
        for rate in (16_000, 24_000):
            sounds = await settled(_spoken(subject, voice, subject.sample.long, rate), f"{rate} Hz")
            if not isinstance(sounds, ProviderError):
                length = _samples(sounds) / rate
                told = f"a text of {slow:.2f} s at {RATE} Hz lasts {length:.2f} s at {rate} Hz"
                require(0.75 * slow <= length <= 1.25 * slow, told)


async def marks_words_in_order(subject: Subject[Synthesizer]) -> None:
    """Word marks, where there are any, go forwards in text and sound, point at the first character of a word and at a
    sample that was given with or before them. The history of an interrupted reply is cut by them: wrong ones make the
    agent believe it said what nobody heard.
    """
    text = subject.sample.long
    async with started(subject) as voice:
        char, sample, given = -1, 0, 0
        for sound in await _spoken(subject, voice, text):
            given += len(sound.pcm) // 2
            for word in sound.words:
                inside = 0 <= word.char < len(text) and not text[word.char].isspace()
                require(inside, f"{word} points at no word of a text of {len(text)} characters")
                forwards = word.char > char and word.sample >= sample
                require(forwards, f"{word} comes after a mark at character {char}, sample {sample}")
                require(word.sample < given, f"{word} comes with sound that ends at sample {given}")
                char, sample = word.char, word.sample


# -- requests -----------------------------------------------------------------------------------


async def ends_odd_texts(subject: Subject[Synthesizer]) -> None:
    """Any text, empty, of signs alone, in another script, with control characters or 4000 characters long, is spoken,
    gives nothing or raises ``ProviderError``, and soon. What a model writes is not up to us, and a voice that hangs
    on it leaves the caller in silence.
    """
    async with started(subject) as voice:
        for text in ODD_TEXTS:
            await settled(_first_piece(voice, text, subject.sample.language), f"speaking {text[:20]!r}")


async def refuses_with_provider_errors(subject: Subject[Synthesizer]) -> None:
    """A language, voice or rate that it does not have is spoken in another or refused with ``ProviderError``. The next
    voice of the chain takes over then; any other exception ends the segment and the caller hears it break off.
    """
    text, language = subject.sample.short, subject.sample.language
    async with started(subject) as voice:
        for tag in ("", "zz-ZZ", "not a tag \x00"):
            await settled(_first_piece(voice, text, tag), f"language {tag!r}")
        await settled(_first_piece(voice, text, language, name="no such voice \x00"), "a voice it does not have")
        await settled(_first_piece(voice, text, language, 12_345), "a rate of 12345 Hz")


async def closing_stops_it(subject: Subject[Synthesizer]) -> None:
    """Closing the iterator returns soon, after the first piece as well as before it, and the next text is spoken. That
    is what an interruption does: a voice that first finishes its sentence makes the next answer late.
    """
    async with started(subject) as voice:
        for pieces in (1, 0, 1):
            parts = voice.synthesize(subject.sample.long, language=subject.sample.language, sample_rate=RATE)
            async with iterating(parts):
                for _ in range(pieces):
                    await anext(parts)
        sounds = await _spoken(subject, voice, subject.sample.short)
        require(_samples(sounds) > 0, "after closed requests it does not speak any more")


async def cancelling_stops_it(subject: Subject[Synthesizer]) -> None:
    """A task that waits for sound and is cancelled ends soon, by being cancelled, and the next text is spoken. An
    interruption may come before there is any sound.
    """
    async with started(subject) as voice:
        for steps in (0, 1, 3):
            await cancelled_soon(_spoken(subject, voice, subject.sample.long), steps, "a request for sound")
        sounds = await _spoken(subject, voice, subject.sample.short)
        require(_samples(sounds) > 0, "after cancelled requests it does not speak any more")


async def keeps_requests_apart(subject: Subject[Synthesizer]) -> None:
    """Texts that are spoken at the same time, for several callers, come out as they do alone: none longer than twice,
    none shorter than half. Mixed requests are one caller's answer in another's ear.
    """
    short, long = subject.sample.short, subject.sample.long
    async with started(subject) as voice:
        alone = [_samples(await _spoken(subject, voice, text)) for text in (short, long)]
        together = await asyncio.gather(*(_spoken(subject, voice, text) for text in (short, long) * 3))
        for number, sounds in enumerate(together):
            expected, found = alone[number % 2], _samples(sounds)
            told = f"alone a text has {expected} samples, among others {found}"
            require(expected / 2 <= found <= expected * 2, told)


async def close_ends_requests(subject: Subject[Synthesizer]) -> None:
    """``close`` ends what is under way, with what there is or a ``ProviderError``. A request that waits on afterwards
    keeps its call, and the process, from ending.
    """
    for steps in (1, 3):
        async with started(subject) as voice:
            request = _spoken(subject, voice, subject.sample.long)
            await ended_by_close(voice, request, steps, "a request for sound")


async def closing_twice_is_harmless(subject: Subject[Synthesizer]) -> None:
    """``close`` may be called twice. Shutting down after an error does, and what raises there hides the first fault."""
    async with started(subject) as voice:
        await _spoken(subject, voice, subject.sample.short)
        await closes_twice(voice)


KIT: Kit[Synthesizer] = Kit(
    "tts",
    (
        gives_whole_samples,
        gives_bare_pcm,
        speaks_as_long_as_the_text,
        keeps_to_the_rate,
        marks_words_in_order,
        ends_odd_texts,
        refuses_with_provider_errors,
        closing_stops_it,
        cancelling_stops_it,
        keeps_requests_apart,
        close_ends_requests,
        closing_twice_is_harmless,
    ),
)
