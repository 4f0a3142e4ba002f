"""The worker process that speaks.

espeak-ng is GPL-3, keeps its state in globals and may crash, so it lives alone in this program, which is
reached over a pipe. Requests are served one after the other: a sentence takes a few milliseconds.
"""

from __future__ import annotations

import collections
import ctypes
import sys
from typing import Any

import msgspec

from antiphon.number_words import load_readers
from antiphon.providers.tts.espeak_library import UTF8, WORD_EVENT, Callback, Espeak, Unspeakable
from antiphon.providers.tts.speech_messages import Cancel, Done, Ready
from antiphon.providers.tts.utterance import Utterance
from antiphon.providers.worker_pipe import WorkerPipe, from_arguments, settle

PAUSES_MS = {".": 140, "?": 140, "!": 140, "।": 140, "॥": 140, ":": 90, ";": 90, ",": 60}
"""Silence after a segment that ends so. espeak leaves about 8 ms, and segments would run into each other."""


class Speak(msgspec.Struct, array_like=True, tag=0):
    id: int
    text: str
    language: str
    voice: str
    sample_rate: int
    rate_wpm: int
    pitch: int


Request = Speak | Cancel


class _Server:
    def __init__(self, pipe: WorkerPipe) -> None:
        self._pipe = pipe
        self._espeak = Espeak()
        self._waiting: collections.OrderedDict[int, Speak] = collections.OrderedDict()
        self._current: Utterance | None = None
        self._callback = Callback(self._on_sound)
        self._failure: BaseException | None = None
        self._espeak.library.espeak_SetSynthCallback(self._callback)
        load_readers()

    def run(self) -> None:
        self._pipe.send(_encode(Ready(sorted(self._espeak.names))))
        while True:
            self._take(None if not self._waiting else 0)
            if self._waiting:
                self._speak(self._waiting.popitem(last=False)[1])

    def _take(self, timeout_ms: int | None) -> None:
        for message in self._pipe.read(timeout_ms):
            request = _decode(message)
            if isinstance(request, Speak):
                self._waiting[request.id] = request
            elif self._current is not None and self._current.id == request.id:
                self._current.cancelled = True
            elif self._waiting.pop(request.id, None):
                self._pipe.send(_encode(Done(request.id)))

    def _speak(self, speak: Speak) -> None:
        try:
            file = self._espeak.choose(speak.language, speak.voice)
            self._espeak.use(file, speak.rate_wpm, speak.pitch)
        except Unspeakable as error:
            self._pipe.send(_encode(Done(speak.id, error.code, str(error))))
            return
        self._current = current = Utterance(
            speak.id,
            speak.text,
            language=speak.language,
            engine_rate=self._espeak.sample_rate,
            sample_rate=speak.sample_rate,
            pipe=self._pipe,
            pauses=PAUSES_MS,
        )
        text = current.text.encode()
        result = 0
        if any(map(str.isalnum, current.text)):  # signs alone would be read out by name
            result = self._espeak.library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
        self._current = None
        if self._failure is not None:
            raise self._failure
        if result != 0 and not current.cancelled:
            self._pipe.send(_encode(Done(speak.id, "tts.failed", f"espeak-ng returned {result}")))
            return
        if not current.cancelled:
            current.finish()
        self._pipe.send(_encode(Done(speak.id)))

    def _on_sound(self, wave: int | None, count: int, events: Any) -> int:
        """espeak's callback: 0 to go on, 1 to stop. An exception cannot pass through C and is kept for later."""
        current = self._current
        if current is None:
            return 1
        try:
            self._take(0)
            if current.cancelled:
                return 1
            at = 0
            while events[at].type:
                if events[at].type == WORD_EVENT:
                    current.word(events[at].text_position - 1, events[at].sample)  # counted from 1
                at += 1
            if wave and count > 0:
                current.sound(ctypes.string_at(wave, 2 * count))
        except BaseException as error:  # noqa: BLE001 - raised again by _speak
            self._failure = error
            return 1
        return 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request).decode


def main() -> None:
    pipe = from_arguments()
    settle(int(sys.argv[1]))
    try:
        _Server(pipe).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the server is gone, or wants no more of us


if __name__ == "__main__":
    main()
