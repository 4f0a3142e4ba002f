"""Pieces of sound that come without a wait between them, handed on as one: encoding has a price for each call of its
own, and so has every entry in playout. A voice that is ahead gives a whole segment in one go, a tenth of a second at
a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from antiphon.runtime.ports import Sound

MOST_S = 1.0
"""What is handed on at once: encoding more does not make it cheaper, and keeps everybody else waiting."""


class Together:
    """For one segment. ``give`` gets the sounds; what it raises is raised by the next ``take``, or by ``end``, which is
    owed. Nothing waits here for longer than the loop is busy with other things.
    """

    def __init__(self, give: Callable[[Sound], None], rate: int) -> None:
        self._give = give
        self._most = int(MOST_S * rate) * 2
        self._waiting: list[Sound] = []
        self._bytes = 0
        self._soon: asyncio.Handle | None = None
        self._error: Exception | None = None

    def take(self, sound: Sound, *, now: bool) -> None:
        """``now``: it is to be heard at once."""
        self._raise()
        self._waiting.append(sound)
        self._bytes += len(sound.pcm)
        if now or self._bytes >= self._most:
            self._hand_on()
        elif self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._now_at_the_latest)

    def end(self) -> None:
        """Nothing more comes."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._raise()
        self._hand_on()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _hand_on(self) -> None:
        waiting = self._waiting
        if not waiting:
            return
        self._waiting, self._bytes = [], 0
        if len(waiting) == 1:
            self._give(waiting[0])
            return
        pcm = b"".join([sound.pcm for sound in waiting])
        self._give(Sound(pcm, tuple(word for sound in waiting for word in sound.words)))

    def _now_at_the_latest(self) -> None:
        """Whoever takes has come to wait."""
        self._soon = None
        try:
            self._hand_on()
        except Exception as error:  # noqa: BLE001 - it is raised where the sounds are read
            self._error = error
