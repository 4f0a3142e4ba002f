"""What every ``Transcriber`` must do: ``run(transcriber.KIT, make)``.

What it understands is not checked, only that a call can be held with it. ``Sample.speech`` and
``Sample.language`` are what it is given to hear.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from antiphon.conformance.checks import (
    GRACE_S,
    LIMIT_S,
    ConformanceError,
    Kit,
    Subject,
    check_error,
    is_utf8,
    median_call_s,
    require,
    soon,
    started,
)
from antiphon.conformance.voice import RATE
from antiphon.errors import ProviderError
from antiphon.runtime.ports import Heard, Transcriber, TranscriberStream

FRAME_BYTES = RATE * 20 // 1000 * 2
FEED_LIMIT_S = 0.005
"""A call brings fifty frames a second, and the loop has hundreds of calls: more than this leaves no room for them."""


class Notes:
    """An ``on_heard`` that remembers, and notes at once what must not happen."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.threads: set[int] = set()
        self.inside = False
        self.from_inside = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def __call__(self, heard: Heard) -> None:
        self.heard.append(heard)
        self.threads.add(threading.get_ident())
        self.from_inside = self.from_inside or (self.inside and _ends(heard))
        self._loop.call_soon_threadsafe(self._news.set)

    def ends(self, utterance: int) -> list[Heard]:
        return [heard for heard in self.heard if _ends(heard) and heard.utterance == utterance]

    async def end_of(self, utterance: int) -> Heard:
        """Waits for the final or error of an utterance."""
        try:
            async with asyncio.timeout(LIMIT_S * 0.8):
                while not self.ends(utterance):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            told = [(heard.utterance, heard.final, heard.error) for heard in self.heard]
            raise ConformanceError(f"neither a final nor an error for utterance {utterance} came: {told}") from None
        return self.ends(utterance)[0]


def _ends(heard: Heard) -> bool:
    return heard.final or bool(heard.error)


@asynccontextmanager
async def _stream(
    subject: Subject[Transcriber], notes: Notes, transcriber: Transcriber, rate: int = RATE
) -> AsyncIterator[TranscriberStream]:
    stream = transcriber.open(sample_rate=rate, language=subject.sample.language, on_heard=notes)
    try:
        yield stream
    finally:
        stream.close()


@asynccontextmanager
async def _ear(subject: Subject[Transcriber]) -> AsyncIterator[tuple[TranscriberStream, Notes]]:
    """A started transcriber with one open stream."""
    notes = Notes()
    async with started(subject) as transcriber, _stream(subject, notes, transcriber) as stream:
        yield stream, notes


async def _say(stream: TranscriberStream, pcm: bytes) -> None:
    """As a line does: in frames, with the loop running between them."""
    for at in range(0, len(pcm), FRAME_BYTES):
        stream.feed(pcm[at : at + FRAME_BYTES])
        if at % (10 * FRAME_BYTES) == 0:
            await asyncio.sleep(0)


# -- the checks ---------------------------------------------------------------------------------


async def hears_what_is_said(subject: Subject[Transcriber]) -> None:
    """Speech in the sample's language ends in a final, even a blank one, and not in an error. A transcriber that only
    ever fails keeps all other rules, and its callers hear nothing but apologies.
    """
    async with _ear(subject) as (stream, notes):
        await _say(stream, subject.sample.speech)
        stream.finish(1)
        end = await notes.end_of(1)
        require(not end.error, f"speech in {subject.sample.language} ends in the error {end.error!r}")


async def ends_each_utterance_once(subject: Subject[Transcriber]) -> None:
    """Each ``finish`` is owed exactly one final or one error, under its own number. None, and the caller talks to
    silence until the floor's deadline; a second, and one sentence is answered twice.
    """
    async with _ear(subject) as (stream, notes):
        for utterance in (1, 2, 3):
            await _say(stream, subject.sample.speech[: RATE * 2])
            stream.finish(utterance)
            await notes.end_of(utterance)
        await asyncio.sleep(GRACE_S)
        ends = sorted(heard.utterance for heard in notes.heard if _ends(heard))
        require(ends == [1, 2, 3], f"utterances 1, 2 and 3 were finished once each, and ended: {ends}")


async def ends_utterances_finished_in_a_row(subject: Subject[Transcriber]) -> None:
    """Audio before ``finish(n)`` belongs to utterance n, later audio to the next, also while n is still being worked
    on. People go on talking: a transcriber that can do one thing at a time loses the second half of what they said.
    """
    async with _ear(subject) as (stream, notes):
        for utterance in (1, 2, 3):
            await _say(stream, subject.sample.speech[: RATE * 2])
            stream.finish(utterance)
        for utterance in (1, 2, 3):
            await notes.end_of(utterance)
        await asyncio.sleep(GRACE_S)
        ends = sorted(heard.utterance for heard in notes.heard if _ends(heard))
        require(ends == [1, 2, 3], f"utterances 1, 2 and 3 were finished in a row, and ended: {ends}")


async def ends_an_utterance_without_audio(subject: Subject[Transcriber]) -> None:
    """An utterance without audio, or of silence alone, ends like any other: as a rule in a blank final. A cough opens
    the gate for nothing, and an end that never comes leaves the caller waiting for the deadline.
    """
    async with _ear(subject) as (stream, notes):
        stream.finish(1)
        await notes.end_of(1)
        stream.feed(bytes(RATE))
        stream.finish(2)
        await notes.end_of(2)


async def takes_audio_of_any_length(subject: Subject[Transcriber]) -> None:
    """``feed`` takes any number of bytes, none, one, an odd one or seconds at once, and never raises. It is called from
    the line's frame callback, where an exception costs the call.
    """
    speech = subject.sample.speech
    async with _ear(subject) as (stream, notes):
        for pcm in (b"", speech[:1], speech[1:2], speech[2:323], b"", speech[323:], speech * 3, b"\x01"):
            try:
                stream.feed(pcm)
            except Exception as error:
                raise ConformanceError(f"feed of {len(pcm)} bytes raises {error!r}") from error
        stream.finish(1)
        await notes.end_of(1)


async def feeds_without_delay(subject: Subject[Transcriber]) -> None:
    """``feed`` of one frame of 20 ms returns within 5 ms (the median of fifty): what computes does so elsewhere. The
    loop is shared by all calls, and each of them hears the gaps that one slow ``feed`` makes.
    """
    async with _ear(subject) as (stream, _):
        frame = subject.sample.speech[:FRAME_BYTES]
        median = await median_call_s(lambda: stream.feed(frame), 50)
        require(median < FEED_LIMIT_S, f"feed of a 20 ms frame blocks the loop for {median * 1000:.1f} ms")


async def numbers_what_it_reports(subject: Subject[Transcriber]) -> None:
    """A report carries the number of the utterance its audio belongs to, and nothing is reported for one that has
    ended. A partial under an old number is dropped, so the caller's interruption goes unnoticed; one under a later
    number is taken for new words.
    """
    async with _ear(subject) as (stream, notes):
        for utterance in (1, 2):
            await _say(stream, subject.sample.speech)
            stream.finish(utterance)
            await notes.end_of(utterance)
        await asyncio.sleep(GRACE_S)
        ended = 0
        for heard in notes.heard:
            told = f"{ended} of 2 utterances have ended, and then comes {heard}"
            require(heard.utterance == ended + 1 <= 2, told)
            ended += _ends(heard)


async def reports_sound_values(subject: Subject[Transcriber]) -> None:
    """Texts and language tags are text that UTF-8 can carry, a confidence lies in 0..1, and an error is a stable code.
    Reports go into the journal and to the screen: one that cannot be written there costs the turn.
    """
    async with _ear(subject) as (stream, notes):
        await _say(stream, subject.sample.speech)
        stream.finish(1)
        await notes.end_of(1)
        for heard in notes.heard:
            require(0.0 <= heard.confidence <= 1.0, f"a confidence of {heard.confidence!r} is not in 0..1")
            for text in (heard.text, heard.language):
                require(is_utf8(text), f"{text!r} is no text that can be kept")
            if heard.error:
                check_error(ProviderError("", code=heard.error), "a report")


async def reports_on_the_loop(subject: Subject[Transcriber]) -> None:
    """``on_heard`` is called on the loop's thread. From another it would change a call's state under the loop's feet:
    rare, and never found again.
    """
    async with _ear(subject) as (stream, notes):
        await _say(stream, subject.sample.speech)
        stream.finish(1)
        await notes.end_of(1)
        require(notes.threads == {threading.get_ident()}, "on_heard was called on another thread than the loop's")


async def ends_after_finish_returned(subject: Subject[Transcriber]) -> None:
    """The end of an utterance is not told from inside ``finish``, not even of one without audio. The call is in the
    middle of a step then, and the end of what it is only just asking for would be dropped as stale.
    """
    async with _ear(subject) as (stream, notes):
        for utterance, pcm in ((1, b""), (2, subject.sample.speech)):
            await _say(stream, pcm)
            notes.inside = True
            stream.finish(utterance)
            notes.inside = False
            await notes.end_of(utterance)
        require(not notes.from_inside, "on_heard was called with an end from inside finish")


async def keeps_callers_apart(subject: Subject[Transcriber]) -> None:
    """What one stream hears is told to that stream alone. Anything else is one caller's words in another's call."""
    first, second = Notes(), Notes()
    async with (
        started(subject) as transcriber,
        _stream(subject, first, transcriber) as speaking,
        _stream(subject, second, transcriber) as silent,
    ):
        await _say(speaking, subject.sample.speech)
        speaking.finish(1)
        await first.end_of(1)
        await asyncio.sleep(GRACE_S)
        require(not second.heard, f"a caller who said nothing is told {second.heard[:1]}")
        silent.finish(1)
        await second.end_of(1)
        require(len(first.ends(1)) == 1, "the end of one caller's utterance is told to another")


async def follows_a_hint(subject: Subject[Transcriber]) -> None:
    """``hint`` never raises, and each utterance after it still ends, in an error if need be: a language it cannot hear
    is a reason to say so, not to fall silent. Callers do change the language in the middle of a call.
    """
    async with _ear(subject) as (stream, notes):
        for utterance, language in enumerate(("hi-IN", "", "xx-XX", subject.sample.language), 1):
            stream.hint(language)
            await _say(stream, subject.sample.speech)
            stream.finish(utterance)
            end = await notes.end_of(utterance)
        require(not end.error, f"after a hint of its own language there is the error {end.error!r}")


async def opens_at_any_rate_or_refuses(subject: Subject[Transcriber]) -> None:
    """``open`` takes 8000 Hz, the telephone's rate, and at others hears or raises ``ProviderError``. A call that comes
    in from a browser must not break with an error that nobody expects.
    """
    async with started(subject) as transcriber:
        for rate in (8000, 16000, 24000, 48000):
            notes = Notes()
            try:
                async with _stream(subject, notes, transcriber, rate) as stream:
                    await _say(stream, subject.sample.speech)
                    stream.finish(1)
                    await notes.end_of(1)
            except ProviderError as error:
                check_error(error, f"open at {rate} Hz")
                require(rate != RATE, f"open refuses 8000 Hz: {error}")
            except ConformanceError:
                raise
            except Exception as error:
                raise ConformanceError(f"at {rate} Hz it raises {error!r}, which is no ProviderError") from error


async def is_silent_after_close(subject: Subject[Transcriber]) -> None:
    """After a stream's ``close`` returned nothing is reported of it, whatever was under way. The call is over, or goes
    on with another ear: a late final would start a reply nobody asked for.
    """
    closed, after = Notes(), Notes()
    async with started(subject) as transcriber:
        async with _stream(subject, closed, transcriber) as stream:
            await _say(stream, subject.sample.speech)
            stream.finish(1)
            await _say(stream, subject.sample.speech)
        known = len(closed.heard)
        # As long as the same takes on another stream: then the closed one would have been told too.
        async with _stream(subject, after, transcriber) as stream:
            await _say(stream, subject.sample.speech)
            stream.finish(1)
            await after.end_of(1)
        await asyncio.sleep(GRACE_S)
        require(len(closed.heard) == known, f"after close it reports {closed.heard[known:][:1]}")


async def is_harmless_after_close(subject: Subject[Transcriber]) -> None:
    """A closed stream takes audio, ``finish``, ``hint`` and another ``close`` without a word; so does ``close`` of the
    transcriber. A line and its call end in any order, and an exception there would take other calls' audio with it.
    """
    notes = Notes()
    async with started(subject) as transcriber:
        stream = transcriber.open(sample_rate=RATE, language=subject.sample.language, on_heard=notes)
        stream.close()
        try:
            stream.feed(subject.sample.speech)
            stream.finish(1)
            stream.hint("hi-IN")
            stream.close()
            await soon(transcriber.close(), "close")
            await soon(transcriber.close(), "a second close")
            stream.close()
        except ConformanceError:
            raise
        except Exception as error:
            raise ConformanceError(f"a closed stream or transcriber raises {error!r}") from error
        await asyncio.sleep(GRACE_S)
        require(not notes.heard, f"a closed stream reports {notes.heard[:1]}")


KIT: Kit[Transcriber] = Kit(
    "stt",
    (
        hears_what_is_said,
        ends_each_utterance_once,
        ends_utterances_finished_in_a_row,
        ends_an_utterance_without_audio,
        takes_audio_of_any_length,
        feeds_without_delay,
        numbers_what_it_reports,
        reports_sound_values,
        reports_on_the_loop,
        ends_after_finish_returned,
        keeps_callers_apart,
        follows_a_hint,
        opens_at_any_rate_or_refuses,
        is_silent_after_close,
        is_harmless_after_close,
    ),
)
