"""Virtual time: an asyncio event loop whose clock jumps to the next timer instead of waiting for it.

The runtime runs on it unchanged. Nothing may block or use threads or sockets: with nothing to run and
no timer set the loop would wait for ever, and says so instead.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

RESOLUTION_S = 1e-7


class VirtualTimeStopped(RuntimeError):
    """The loop has nothing to run and no timer to wait for."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: a wait of ``timeout`` seconds is a jump of the clock."""

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}
        self.now = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise VirtualTimeStopped("nothing is scheduled: virtual time cannot go on")
        self.now += max(timeout, 0.0)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, beginning at 0 s."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)
        # A nanosecond, asyncio's own, is lost in the rounding of large times: a timer would be due and never ready.
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
