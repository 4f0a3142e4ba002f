"""One caller's ear on the pocketsphinx pool: which audio belongs to which utterance, and what became of it.

The rule of the port, exactly one final or one error for each utterance, is kept here:

- an utterance whose worker is lost is told at once (``stt.worker_lost``), the rest of it is not listened to,
  and the next one goes to another worker;
- one that cannot be listened to at all (another language, no worker for ``MAX_PENDING_S``) is told when it
  is finished;
- one without any audio is a blank final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from antiphon.providers.stt.pocketsphinx_messages import Audio, Drop, Final, Finish, Partial
from antiphon.providers.stt.pocketsphinx_pool import Pool, Utterance
from antiphon.runtime.ports import Heard

COALESCE_MS = 80
"""Audio goes to the worker in pieces of at least this length: four frames of the telephone at a time."""

LONGEST_MS = 200
"""And of at most this: a worker looks after its other utterances and its pings between two pieces."""

MAX_PENDING_S = 10.0
"""Seconds of one utterance that wait for a worker to exist. More and it is given up (``stt.unavailable``)."""


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
        self._pending_cap = int(sample_rate * MAX_PENDING_S) * 2
        self._buffer = bytearray()
        self._next = 1
        self._current: Utterance | None = None
        self._unfinished: dict[int, Utterance] = {}
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
            self._send(last=True)
        current, self._current = self._current, None
        spoiled, told = self._spoiled, self._told
        self._spoiled, self._told = "", False
        self._next = utterance + 1
        self._buffer.clear()
        if current is not None:
            current.number = utterance
            self._unfinished[current.key] = current
            current.worker.send(Finish(current.key))
        elif not told:
            heard = Heard(utterance, "", final=not spoiled, language="" if spoiled else "en", error=spoiled)
            # Not from inside ``finish``: its caller may not be ready to be called back.
            asyncio.get_running_loop().call_soon(self._report, heard)

    def hint(self, language: str) -> None:
        self._language = language

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._buffer.clear()
        for utterance in (*self._unfinished.values(), *([self._current] if self._current else ())):
            if utterance.worker.utterances.pop(utterance.key, None) is not None:
                utterance.worker.send(Drop(utterance.key))
        self._unfinished.clear()
        self._current = None
        self._on_closed(self)

    def _send(self, *, last: bool = False) -> None:
        if self._current is None:
            self._current = self._begin()
        current = self._current
        if current is None:
            if not self._spoiled and (last or len(self._buffer) > self._pending_cap):
                self._spoil("stt.unavailable")
            return
        whole = len(self._buffer) & ~1
        for at in range(0, whole, self._longest):
            current.worker.send(Audio(current.key, bytes(self._buffer[at : min(at + self._longest, whole)])))
        del self._buffer[:whole]

    def _begin(self) -> Utterance | None:
        if self._language and self._language.partition("-")[0].lower() != "en":
            self._spoil("stt.language")
            return None
        # Beside an earlier one that is still being decoded, finals come in order.
        beside = next(iter(self._unfinished.values()), None)
        return self._pool.begin(self._rate, self._cmn, self._on_partial, self._on_final, beside=beside)

    def _spoil(self, error: str) -> None:
        self._spoiled = error
        self._buffer.clear()

    def _on_partial(self, utterance: Utterance, partial: Partial) -> None:
        number = utterance.number or self._next
        self._report(Heard(number, partial.text, language="en", confidence=partial.confidence))

    def _on_final(self, utterance: Utterance, final: Final) -> None:
        number = utterance.number or self._next
        if utterance is self._current:  # lost before it was finished
            self._current = None
            self._spoil(final.error)
            self._told = True
        self._unfinished.pop(utterance.key, None)
        self._cmn = final.cmn or self._cmn
        language = "" if final.error else "en"
        self._report(Heard(number, final.text, not final.error, language, final.confidence, final.error))

    def _report(self, heard: Heard) -> None:
        if self._open:
            self._on_heard(heard)
