"""Transcribers and synthesizers that each break one rule: what a kit's check must find."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from antiphon.providers.faults import hang
from antiphon.providers.stt.fake import FakeTranscriber, FakeTranscriberSettings, FakeTranscriberStream
from antiphon.providers.tts.fake import FakeSynthesizer, FakeSynthesizerSettings
from antiphon.runtime.ports import Heard, Sound, WordMark

Broken = tuple[str, Callable[[], Any], str]
"""The check that must fail, the provider, and what its finding says."""


class Stream(FakeTranscriberStream):
    """The sound one, with what the broken ones need to know."""

    def __init__(self, transcriber: Any, rate: int, language: str, on_heard: Callable[[Heard], None]) -> None:
        super().__init__(transcriber, rate, language, on_heard)
        self.all = transcriber.listeners
        self.all.append(on_heard)
        self.fed = 0

    def feed(self, pcm: bytes) -> None:
        self.fed += len(pcm)
        super().feed(pcm)


def transcriber(stream: type[Stream] = Stream, **settings: Any) -> Callable[[], FakeTranscriber]:
    class Made(FakeTranscriber):
        def __init__(self) -> None:
            super().__init__(FakeTranscriberSettings(**{"stt_ms": 20, "partial_ms": 100, **settings}))
            self.listeners: list[Any] = []

        def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> Stream:
            return stream(self, sample_rate, language, on_heard)

    return Made


class EndsTwice(Stream):
    def _report(self, heard: Heard) -> None:
        super()._report(heard)
        self._on_heard(heard)


class OneAtATime(Stream):
    def finish(self, utterance: int) -> None:
        for timer in self._timers.values():
            timer.cancel()
        super().finish(utterance)


class WantsAudio(Stream):
    def finish(self, utterance: int) -> None:
        if self.fed:
            super().finish(utterance)


class WantsWholeSamples(Stream):
    def feed(self, pcm: bytes) -> None:
        if len(pcm) % 2:
            raise ValueError("odd")
        super().feed(pcm)


class DecodesInFeed(Stream):
    def feed(self, pcm: bytes) -> None:
        time.sleep(0.006)


class PartialAfterFinal(Stream):
    def _report(self, heard: Heard) -> None:
        super()._report(heard)
        self._on_heard(msgspec.structs.replace(heard, final=False))


class NumbersFromZero(Stream):
    def _heard(self, utterance: int, text: str, *, final: bool) -> Heard:
        return super()._heard(utterance if final else utterance - 1, text, final=final)


class Percent(Stream):
    def _heard(self, utterance: int, text: str, *, final: bool) -> Heard:
        return msgspec.structs.replace(super()._heard(utterance, text, final=final), confidence=95.0)


class Surrogates(Stream):
    def _heard(self, utterance: int, text: str, *, final: bool) -> Heard:
        return super()._heard(utterance, text + "\udc80", final=final)


class FreeError(Stream):
    def _report(self, heard: Heard) -> None:
        self._on_heard(Heard(heard.utterance, "", error="It went wrong!"))


class FromAThread(Stream):
    def _report(self, heard: Heard) -> None:
        thread = threading.Thread(target=self._on_heard, args=(heard,))
        thread.start()
        thread.join()


class FromInside(Stream):
    def finish(self, utterance: int) -> None:
        self._on_heard(self._heard(utterance, "", final=True))


class ToEverybody(Stream):
    def _report(self, heard: Heard) -> None:
        for on_heard in self.all:
            on_heard(heard)


class MuteInHindi(Stream):
    def finish(self, utterance: int) -> None:
        if self._language != "hi-IN":
            super().finish(utterance)


class ForeignEver(Stream):
    """Having heard a hint of another language it never goes back."""

    def hint(self, language: str) -> None:
        self._settings = msgspec.structs.replace(self._settings, fail_every=1)
        self._faults = type(self._faults)(1, 0)


class TelephoneOnly(Stream):
    def __init__(self, transcriber: Any, rate: int, language: str, on_heard: Callable[[Heard], None]) -> None:
        super().__init__(transcriber, {8000: rate}[rate], language, on_heard)


class TalksOn(Stream):
    def close(self) -> None: ...


class Fragile(Stream):
    def feed(self, pcm: bytes) -> None:
        if self._closed:
            raise RuntimeError("the stream is closed")
        super().feed(pcm)


STT: list[Broken] = [
    ("hears_what_is_said", transcriber(fail_every=1), "stt.failed"),
    ("ends_each_utterance_once", transcriber(EndsTwice), r"\[1, 1, 2, 2, 3, 3\]"),
    ("ends_each_utterance_once", transcriber(hang_every=2), "utterance 2"),
    ("ends_utterances_finished_in_a_row", transcriber(OneAtATime), "utterance 1 came"),
    ("ends_an_utterance_without_audio", transcriber(WantsAudio), "utterance 1 came"),
    ("takes_audio_of_any_length", transcriber(WantsWholeSamples), "feed of 1 bytes raises"),
    ("feeds_without_delay", transcriber(DecodesInFeed), "blocks the loop"),
    ("numbers_what_it_reports", transcriber(PartialAfterFinal), "1 of 2 utterances have ended"),
    ("numbers_what_it_reports", transcriber(NumbersFromZero), "0 of 2 utterances have ended"),
    ("reports_sound_values", transcriber(Percent), "95.0"),
    ("reports_sound_values", transcriber(Surrogates), "no text that can be kept"),
    ("reports_sound_values", transcriber(FreeError), "It went wrong!"),
    ("reports_on_the_loop", transcriber(FromAThread), "another thread"),
    ("ends_after_finish_returned", transcriber(FromInside), "from inside finish"),
    ("keeps_callers_apart", transcriber(ToEverybody), "who said nothing"),
    ("follows_a_hint", transcriber(MuteInHindi), "utterance 1 came"),
    ("follows_a_hint", transcriber(ForeignEver), "a hint of its own language"),
    ("opens_at_any_rate_or_refuses", transcriber(TelephoneOnly), "at 16000 Hz it raises KeyError"),
    ("is_silent_after_close", transcriber(TalksOn), "after close it reports"),
    ("is_harmless_after_close", transcriber(Fragile), "the stream is closed"),
]


# -- speaking -----------------------------------------------------------------------------------


class Voice(FakeSynthesizer):
    """The sound one. A broken one changes ``changed`` or ``synthesize``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(FakeSynthesizerSettings(**{"tts_ms": 10, "tts_realtime_factor": 0.01, **settings}))

    async def synthesize(self, text: str, *, language: str, sample_rate: int, voice: str = "") -> Any:
        told = super().synthesize(text, language=language, sample_rate=sample_rate, voice=voice)
        async for sound in told:
            for other in self.changed(sound):
                yield other

    def changed(self, sound: Sound) -> Iterator[Sound]:
        yield sound


class HalfSamples(Voice):
    def changed(self, sound: Sound) -> Iterator[Sound]:
        yield Sound(sound.pcm[:-1], sound.words)


class Swapped(Voice):
    def changed(self, sound: Sound) -> Iterator[Sound]:
        yield Sound(np.frombuffer(sound.pcm, "<i2").byteswap().tobytes(), sound.words)


class Silent(Voice):
    def changed(self, sound: Sound) -> Iterator[Sound]:
        yield Sound(bytes(len(sound.pcm)), sound.words)


class WavFile(Voice):
    async def synthesize(self, text: str, **asked: Any) -> Any:
        yield Sound(b"RIFF" + bytes(40))
        async for sound in super().synthesize(text, **asked):
            yield sound


class CutShort(Voice):
    """Gives the first piece alone."""

    async def synthesize(self, text: str, **asked: Any) -> Any:
        async for sound in super().synthesize(text, **asked):
            yield sound
            return


class OneRate(Voice):
    def synthesize(self, text: str, *, sample_rate: int, **asked: Any) -> Any:
        return super().synthesize(text, sample_rate=8000, **asked)


class MarksShifted(Voice):
    def changed(self, sound: Sound) -> Iterator[Sound]:
        yield Sound(sound.pcm, tuple(WordMark(word.char + 1000, word.sample) for word in sound.words))


class MarksInThePiece(Voice):
    """Counts samples from the piece instead of the segment."""

    def changed(self, sound: Sound) -> Iterator[Sound]:
        yield Sound(sound.pcm, tuple(WordMark(word.char, word.sample % 800) for word in sound.words))


class MarksAhead(Voice):
    def changed(self, sound: Sound) -> Iterator[Sound]:
        yield Sound(sound.pcm, tuple(WordMark(word.char, word.sample + 4000) for word in sound.words))


class WantsWords(Voice):
    async def synthesize(self, text: str, **asked: Any) -> Any:
        if not text.strip():
            raise ValueError("nothing to say")
        async for sound in super().synthesize(text, **asked):
            yield sound


class HangsOnSigns(Voice):
    async def synthesize(self, text: str, **asked: Any) -> Any:
        if not any(map(str.isalnum, text)):
            await hang()
        async for sound in super().synthesize(text, **asked):
            yield sound


class FewLanguages(Voice):
    async def synthesize(self, text: str, *, language: str, **asked: Any) -> Any:
        {"en-IN": "voice"}[language]
        async for sound in super().synthesize(text, language=language, **asked):
            yield sound


class FinishesFirst(Voice):
    async def synthesize(self, text: str, **asked: Any) -> Any:
        try:
            async for sound in super().synthesize(text, **asked):
                yield sound
        finally:
            await asyncio.sleep(30)


class OnlyOnce(Voice):
    """A closed request blocks those after it."""

    busy = False

    async def synthesize(self, text: str, **asked: Any) -> Any:
        if self.busy:
            return
        self.busy = True
        async for sound in super().synthesize(text, **asked):
            yield sound
        self.busy = False


class NotToBeCancelled(Voice):
    async def synthesize(self, text: str, **asked: Any) -> Any:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            await asyncio.sleep(30)
        async for sound in super().synthesize(text, **asked):
            yield sound


class SharedText(Voice):
    async def synthesize(self, text: str, **asked: Any) -> Any:
        self.text = text
        await asyncio.sleep(0.01)
        async for sound in super().synthesize(self.text, **asked):
            yield sound


class ClosesOnce:
    """Mixed into any provider: a second ``close`` raises."""

    closed = False

    async def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class VoiceThatClosesOnce(ClosesOnce, Voice):
    pass


TTS: list[Broken] = [
    ("gives_whole_samples", HalfSamples, "no number of samples"),
    ("gives_bare_pcm", Swapped, "noise"),
    ("gives_bare_pcm", Silent, "silent"),
    ("gives_bare_pcm", WavFile, "file header"),
    ("speaks_as_long_as_the_text", lambda: Voice(char_ms=5), "5 ms each"),
    ("speaks_as_long_as_the_text", lambda: Voice(char_ms=500), "500 ms each"),
    ("speaks_as_long_as_the_text", CutShort, "last 100 ms"),
    ("keeps_to_the_rate", OneRate, "s at 16000 Hz"),
    ("marks_words_in_order", MarksShifted, "no word of a text"),
    ("marks_words_in_order", MarksInThePiece, "comes after a mark"),
    ("marks_words_in_order", MarksAhead, "sound that ends at"),
    ("ends_odd_texts", WantsWords, "nothing to say"),
    ("ends_odd_texts", HangsOnSigns, "not over after"),
    ("refuses_with_provider_errors", FewLanguages, "language '': raises KeyError"),
    ("closing_stops_it", FinishesFirst, "closing the iterator: not over"),
    ("closing_stops_it", OnlyOnce, "StopAsyncIteration|does not speak any more"),
    ("cancelling_stops_it", NotToBeCancelled, "after it was cancelled"),
    ("cancelling_stops_it", OnlyOnce, "does not speak any more"),
    ("keeps_requests_apart", SharedText, "among others"),
    ("close_ends_requests", lambda: Voice(hang_every=1), "still waits"),
    ("closing_twice_is_harmless", VoiceThatClosesOnce, "closed already"),
]
