"""Wrong credentials, counted by the address they come from: a few at once, then one now and then.

The table is bounded: when it is full, the address that was wrong longest ago is forgiven. Of an IPv6 address its /64
counts, which is what one customer has.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from antiphon.errors import TooManyAttempts


class AttemptLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``at_once`` wrong credentials from an address, then one every ``every_s``; ``addresses`` are remembered."""

    at_once: int = 20
    every_s: float = 3.0
    addresses: int = 10_000


class Debts(Protocol):
    """By network: until when its wrong credentials are paid for, monotonic seconds."""

    def __len__(self) -> int: ...

    def of(self, network: str) -> float:
        """0 for one that owes nothing."""

    def add(self, network: str, now: float, cost_s: float, room: int) -> float:
        """One more, paid after those of before; the new end. Beyond ``room`` networks the longest quiet is forgiven."""


class LocalDebts:
    """Those of one process."""

    def __init__(self) -> None:
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paid_until)

    def of(self, network: str) -> float:
        return self._paid_until.get(network, 0.0)

    def add(self, network: str, now: float, cost_s: float, room: int) -> float:
        paid = max(now, self.of(network)) + cost_s
        self._paid_until[network] = paid
        self._paid_until.move_to_end(network)
        if len(self._paid_until) > room:
            self._paid_until.popitem(last=False)
        return paid


class Attempts:
    """``clock`` tells monotonic seconds; ``debts`` may be shared by processes of one machine that serve together."""

    def __init__(
        self,
        limits: AttemptLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        debts: Debts | None = None,
    ) -> None:
        self.limits = limits or AttemptLimits()
        self._clock = clock
        self._debts: Debts = LocalDebts() if debts is None else debts

    def __len__(self) -> int:
        return len(self._debts)

    def check(self, client: str) -> None:
        """Before a credential is looked at. Raises ``TooManyAttempts``."""
        owed = self._debts.of(_network(client)) - self._clock()
        wait = owed - (self.limits.at_once - 1) * self.limits.every_s
        if wait > 0:
            raise TooManyAttempts(
                "too many wrong credentials came from your address: try again later", retry_after_s=math.ceil(wait)
            )

    def failed(self, client: str) -> bool:
        """Counts a wrong credential. True if it is the last that will be looked at for now."""
        now = self._clock()
        paid = self._debts.add(_network(client), now, self.limits.every_s, self.limits.addresses)
        return paid - now > (self.limits.at_once - 1) * self.limits.every_s


def _network(client: str) -> str:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client[:64]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
