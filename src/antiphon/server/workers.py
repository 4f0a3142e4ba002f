"""One of several workers that serve together, as the rest of its process sees it (``antiphon serve --workers``).

Each worker listens on a socket of its own at the same address, and the kernel deals connections out among them. So the
webhook, the stream, the next stream and whoever asks for health may all reach different workers. What they must agree
on is in the book (``workers_book``); what is asked of one is answered for all by asking the others (``workers_peers``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from antiphon.observe.prometheus import BREAKER_STATES, Metrics, Snapshot
from antiphon.runtime.host import CallView, Host
from antiphon.secret import Secret
from antiphon.server.attempts import Attempts
from antiphon.server.health import Checks
from antiphon.server.workers_book import BOOK, SharedBook, SharedDebts, SharedPlaces, SharedTokens
from antiphon.server.workers_pages import SharedShelf
from antiphon.server.workers_peers import Peers
from antiphon.transports.twilio_calls import CallBook

Health = dict[str, Any]


class Worker:
    """This process's number, from 1 to ``count``, and what it shares with the others.

    ``folder`` is the supervisor's; ``max_sessions`` are those of all workers; ``token_secret`` signs sessions' tokens
    where the settings name none.
    """

    def __init__(self, number: int, count: int, folder: Path, *, max_sessions: int, token_secret: Secret) -> None:
        self.number = number
        self.token_secret = token_secret
        self.peers = Peers(folder, number, count)
        self._book = SharedBook(folder / BOOK, number)
        self.places = SharedPlaces(self._book, max_sessions)
        self.once = SharedTokens(self._book)
        self.call_book = CallBook(shelf=SharedShelf(self._book))
        self.attempts = Attempts(debts=SharedDebts(self._book))
        self._asking: asyncio.Future[dict[int, bytes | None]] | None = None

    async def close(self) -> None:
        await self.peers.close()
        self._book.close()

    def join(self, host: Host, metrics: Metrics, checks: Checks) -> Desk:
        """Answers the others from now on, once ``peers`` are started. Gives what the webhooks ask."""

        async def calls(_: Any) -> list[CallView]:
            return host.calls()

        async def own_metrics(_: Any) -> Snapshot:
            return metrics.snapshot(checks.known())  # who asked has waited for its own checks already

        async def taken(call_id: str) -> None:
            if self.places.holder(call_id) != self.number:  # else its caller came back here meanwhile
                host.lost(call_id)

        async def over(told: list[str]) -> None:
            host.call_over(*told)

        self.peers.answers.update(calls=calls, metrics=own_metrics, taken=taken, over=over)
        self.places.on_taken = lambda call_id, worker: self.peers.tell(worker, "taken", call_id)
        return Desk(host, self.peers)

    def taken(self) -> int:
        """Calls with a line at any worker."""
        return self.places.taken()

    def answers_health(self, own: Callable[[], Awaitable[Health]]) -> None:
        async def asked(_: Any) -> Health:
            return await own()

        self.peers.answers["health"] = asked

    # -- for all of them ----------------------------------------------------------------------------

    async def health(self, own: Callable[[], Awaitable[Health]]) -> Health:
        """Who asks at once waits for the same round: being asked often must not cost the others their time.

        ``own``, this worker's, is asked for meanwhile: a slow service so delays the answer once.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self.peers.ask_all("health"))
        mine, answers = await asyncio.gather(own(), asyncio.shield(self._asking))
        found: dict[int, Health | None] = {
            number: None if answer is None else msgspec.msgpack.decode(answer) for number, answer in answers.items()
        }
        return together({self.number: mine, **found})

    async def metrics(self, own: Snapshot) -> dict[str, Snapshot]:
        """By number; without those that do not answer."""
        answers = await self.peers.ask_all("metrics")
        found = {
            number: await asyncio.to_thread(msgspec.msgpack.decode, answer, type=Snapshot)
            for number, answer in answers.items()
            if answer is not None
        }
        return {str(number): shot for number, shot in sorted({self.number: own, **found}.items())}

    async def calls_elsewhere(self) -> list[CallView]:
        """What the other workers hold."""
        answers = await self.peers.ask_all("calls")
        return [
            call
            for answer in answers.values()
            if answer is not None
            for call in msgspec.msgpack.decode(answer, type=list[CallView])
        ]


class Desk:
    """A host, and the others behind it. Fits ``CallDesk`` of the webhooks."""

    def __init__(self, host: Host, peers: Peers) -> None:
        self._host = host
        self._peers = peers

    def has_room(self, call_id: str) -> bool:
        return self._host.has_room(call_id)

    async def ended(self, call_id: str) -> str:
        return await self._host.ended(call_id)

    async def knows(self, call_id: str) -> bool:
        return await self._host.knows(call_id)

    def call_over(self, call_id: str, status: str) -> None:
        self._host.call_over(call_id, status)
        # More than one may hold it: one whose line a newer line elsewhere has replaced finds out a moment later.
        self._peers.tell_all("over", [call_id, status])


def together(found: Mapping[int, Health | None]) -> Health:
    """One answer of ``/health`` for all workers: sums, and the worst of each. The first is who was asked.

    A worker without an answer is starting, frozen or dead: the server is degraded by it.
    """
    own = next(each for each in found.values() if each is not None)
    known = [each for each in found.values() if each is not None]
    well = len(known) == len(found) and all(each["status"] == "healthy" for each in known)
    answer: Health = {
        **own,
        "status": "healthy" if well else "degraded",
        "active_sessions": sum(each["active_sessions"] for each in known),
        "uptime_seconds": max(each["uptime_seconds"] for each in known),
        "loop_lag_ms": max(each["loop_lag_ms"] for each in known),
        "draining": all(each["draining"] for each in known),
        "checks": {name: all(each["checks"].get(name, True) for each in known) for name in own["checks"]},
        "stages": _worst([each["stages"] for each in known]),
        "workers": {str(number): _in_short(each) for number, each in sorted(found.items())},
    }
    if "redis_connected" in own:
        answer["redis_connected"] = answer["checks"]["redis"]
    return answer


def _in_short(health: Health | None) -> Health:
    if health is None:
        return {"status": "no answer"}
    shown = ("status", "active_sessions", "uptime_seconds", "loop_lag_ms", "draining")
    failed = [name for name, well in health["checks"].items() if not well]
    return {name: health[name] for name in shown} | ({"failed": failed} if failed else {})


def _worst(all_stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each provider what the worker says for which it is least well: its breakers are each worker's own."""
    worst: dict[str, dict[str, Any]] = {}
    for stages in all_stages:
        for stage, members in stages.items():
            for name, status in members.items():
                known = worst.setdefault(stage, {}).get(name)
                if known is None or _badness(status) > _badness(known):
                    worst[stage][name] = status
    return worst


def _badness(status: Mapping[str, Any]) -> int:
    return BREAKER_STATES.get(str(status.get("state", "")), 0)
