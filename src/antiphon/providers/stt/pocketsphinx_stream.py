"""One caller's ear on the pocketsphinx pool: which audio belongs to which utterance, and what became of it.

The rule of the port, exactly one final or one error for each utterance, is kept here:

- of an utterance whose worker is lost (``stt.worker_lost``), or for which none came (``stt.unavailable``), the
  error is told at once and the rest is not listened to; the next one goes to another worker;
- one in another language (``stt.language``) is told when it is finished;
- one without any audio is a blank final;
- finals come in the order of the utterances.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from antiphon.providers.stt.pocketsphinx_messages import Audio, Final, Finish, Partial
from antiphon.providers.stt.pocketsphinx_pool import Pool, Utterance
from antiphon.runtime.ports import Heard

COALESCE_MS = 80
"""Audio goes to the worker in pieces of at least this length: four frames of the telephone at a time."""

LONGEST_MS = 200
"""And of at most this: a worker looks after its other utterances and its pings between two pieces."""


class PocketsphinxStream:
    """The ``TranscriberStream`` port. Utterances are numbered from 1."""

    def __init__(
        self,
        pool: Pool,
        sample_rate: int,
        language: str,
        on_heard: Callable[[Heard], None],
        on_closed: Callable[[PocketsphinxStream], None],
    ) -> None:
        self._pool = pool
        self._rate = sample_rate
        self._language = language
        self._on_heard = on_heard
        self._on_closed = on_closed
        self._piece = sample_rate * COALESCE_MS // 1000 * 2
        self._longest = sample_rate * LONGEST_MS // 1000 * 2
        self._buffer = bytearray()
        self._next = 1
        self._current: Utterance | None = None
        self._owed: dict[int, Heard | None] = {}
        """Finished utterances in order, and what is to be told of them once nothing before them is owed."""
        self._unfinished: set[Utterance] = set()
        self._spoiled = ""
        """Why the present utterance is not listened to."""
        self._told = False
        """That was told already."""
        self._cmn = ""
        self._open = True

    def feed(self, pcm: bytes) -> None:
        if not self._open or self._spoiled or not pcm:
            return
        self._buffer += pcm
        if len(self._buffer) >= self._piece:
            self._send()

    def finish(self, utterance: int) -> None:
        if not self._open:
            return
        if self._buffer and not self._spoiled:
            self._send()
        current, self._current = self._current, None
        spoiled, told = self._spoiled, self._told
        self._spoiled, self._told = "", False
        self._next = utterance + 1
        self._buffer.clear()
        if current is not None:
            current.number = utterance
            self._owed[utterance] = None
            self._unfinished.add(current)
            current.send(Finish(current.key))
        elif not told:
            language = "" if spoiled else "en"
            self._owed[utterance] = Heard(utterance, "", final=not spoiled, language=language, error=spoiled)
            # Not from inside ``finish``: its caller may not be ready to be called back.
            asyncio.get_running_loop().call_soon(self._settle)

    def hint(self, language: str) -> None:
        self._language = language

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._buffer.clear()
        for utterance in (*self._unfinished, *([self._current] if self._current else ())):
            utterance.drop()
        self._unfinished.clear()
        self._owed.clear()
        self._current = None
        self._on_closed(self)

    def _send(self) -> None:
        if self._current is None:
            if self._language and self._language.partition("-")[0].lower() != "en":
                self._spoil("stt.language")
                return
            self._current = self._pool.begin(self._rate, self._cmn, self._on_partial, self._on_final)
        whole = len(self._buffer) & ~1
        audio = bytes(self._buffer[:whole])
        del self._buffer[:whole]
        for at in range(0, whole, self._longest):
            if self._current is None:
                return  # given up meanwhile
            self._current.send(Audio(self._current.key, audio[at : at + self._longest]))

    def _spoil(self, error: str) -> None:
        self._spoiled = error
        self._buffer.clear()

    def _on_partial(self, utterance: Utterance, partial: Partial) -> None:
        number = utterance.number or self._next
        if number != next(iter(self._owed), number):
            return  # an earlier one is not settled yet
        self._report(Heard(number, partial.text, language="en", confidence=partial.confidence))

    def _on_final(self, utterance: Utterance, final: Final) -> None:
        number = utterance.number or self._next
        if utterance is self._current:  # lost before it was finished
            self._current = None
            self._spoil(final.error)
            self._told = True
        self._unfinished.discard(utterance)
        self._cmn = final.cmn or self._cmn
        language = "" if final.error else "en"
        self._owed[number] = Heard(number, final.text, not final.error, language, final.confidence, final.error)
        self._settle()

    def _settle(self) -> None:
        """Tells what is known, in the order of the utterances: workers may finish them in another."""
        while self._owed:
            number = next(iter(self._owed))
            heard = self._owed[number]
            if heard is None:
                return
            del self._owed[number]
            self._report(heard)

    def _report(self, heard: Heard) -> None:
        if self._open:
            self._on_heard(heard)
