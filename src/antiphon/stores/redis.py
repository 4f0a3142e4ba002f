"""The journal on Redis (X36, B7): the live sessions of many replicas, on one server or on a cluster.

A session is held by the newest that claimed it: ``claim`` raises its epoch at once and waits for no lease. Every
append says under which epoch it writes and behind which entry, and a script on the server looks and writes in one
step; so a replica that froze and wakes up is refused, whatever it still wants to say. All batches of a group commit go
in one round trip, and each stands alone: a refused one leaves the others.

Sessions expire ``ttl_s`` after their last entry, closed ones too (B21); only what is being talked about is here. What
an acknowledgement is worth is Redis's ``appendfsync``, and replication is asynchronous: what a server that comes back
has lost is sent to it once more (``redis_recent``), unless this process died with it; so a Redis never has the last
word on money.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

from antiphon.errors import StoreError
from antiphon.kernel.events import Entry
from antiphon.runtime.ports import Batch, SessionRow
from antiphon.stores import redis_scripts as scripts
from antiphon.stores.owner import is_alive, is_here, this_process
from antiphon.stores.redis_address import parse
from antiphon.stores.redis_errors import coded
from antiphon.stores.redis_link import Link, Server, require
from antiphon.stores.redis_recent import Recent
from antiphon.stores.rows import Row, check_order, check_session_id, listed

Access = Literal["write", "read"]

GRACE_S: Final = 60
"""A session whose line broke is waited for as long as it is kept: its own last entry must still find it."""

LEASE_S: Final = 15
"""A process that was silent for this long is no owner in a listing. Who may write does not depend on it."""
TEND_S: Final = 5.0

SWEPT: Final = 100
"""Listed sessions that are looked at every ``TEND_S``, whether they have expired; more if more were claimed since."""
_PAGE: Final = 500
READ_AT_ONCE: Final = 500
"""Entries of a journal: to parse and decode them takes the loop some 2 ms, a tenth of the time between two frames."""

_FIRST_WITH_FLAGS: Final = 7
"""Redis 7.0 reads the flags of a script (redis.io, "Scripting with Lua", script flags)."""

_log = logging.getLogger("antiphon.journal")


class RedisJournal:
    """A ``Journal`` on the Redis at ``url``; see ``redis_address`` for its forms.

    Raises ``ConfigError`` for a URL that cannot be used, and ``MissingExtra``.

    ``ttl_s``: how long a session is kept after its last entry, a minute more than that. With ``access="read"``
    nothing is ever changed, and a replica will do (the command line).

    Errors are ``StoreError`` with the codes of ``redis_errors``; each says what to do. After an error the journal stays
    usable: connections are made anew, and what was sent twice is taken once.
    """

    service = "redis"

    def __init__(self, url: str, *, ttl_s: float = 3600.0, access: Access = "write") -> None:
        require()
        self._address = parse(url)
        self._ttl_s = round(ttl_s) + GRACE_S
        self._access = access
        self._link: Link | None = None
        self._owner = ""
        self._claim = scripts.CLAIM
        self._claims = 0
        self._swept = 0
        self._recent = Recent()
        self._tending: asyncio.Task[None] | None = None

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return self._address.shown

    # -- the port ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connects. Raises ``StoreError``, after which ``start`` may be tried again."""
        servers = await self.survey()
        if self._access == "read" or self._tending is not None:
            return
        for trait in (trait for server in servers for trait in server.traits):
            _log.warning("journal: %s: %s", trait.text, trait.fix)
        self._tending = asyncio.get_running_loop().create_task(self._tend(self._open()), name="journal owner")

    async def claim(self, session: str) -> int:
        check_session_id(session)
        return await self._claimed(session, self._claim)

    async def _claimed(self, session: str, script: scripts.Script) -> int:
        """The new epoch; 0 if ``script`` refused."""
        link = self._writing()
        now = datetime.datetime.now(datetime.UTC)
        born_us = time.time_ns() // 1000
        claim = scripts.claim(session, self._owner, now.isoformat(timespec="milliseconds"), self._ttl_s, script)
        epoch, noted = await link.send([claim, scripts.note(session, self._owner, born_us, LEASE_S)])
        if isinstance(epoch, StoreError):
            raise epoch
        self._claims += 1
        if epoch == 1:
            self._recent.claimed(session)
        if epoch == 1 and noted == 0:
            # Listed by an earlier life that has expired: this one is newer.
            [noted] = await link.send([("ZADD", scripts.INDEX, born_us, session)])
        if isinstance(noted, StoreError):
            _log.warning("journal: the session is written but not listed: %s", noted, extra={"call": session})
        return int(epoch)

    async def append(self, batches: Sequence[Batch]) -> list[Exception | None]:
        link = self._writing()
        results: list[Exception | None] = [None] * len(batches)
        calls: list[scripts.Command | scripts.ScriptCall] = []
        sent: list[int] = []
        for place, batch in enumerate(batches):
            try:
                check_order(batch)
                calls.append(scripts.append(batch, self._owner, self._ttl_s))
                sent.append(place)
            except StoreError as error:
                results[place] = error
        if not batches:
            await link.one(("PING",))
        answers = await self._sent(calls)
        for place, answer in zip(sent, answers, strict=True):
            results[place] = answer if isinstance(answer, StoreError) else scripts.verdict(batches[place], answer)
        await self._send_lost(batches, dict(zip(sent, answers, strict=True)), results)
        for batch, result in zip(batches, results, strict=True):
            if result is None:
                self._recent.took(batch)
        return results

    async def read(self, session: str, after_seq: int = 0) -> list[Entry]:
        """A long one in pages, between which the loop goes round: redis-py parses an answer without a pause."""
        row, entries, _ = scripts.keys_of(session)
        found: list[Entry] = []
        first, last = max(0, after_seq), b""
        while True:
            seen = bool(found)  # then each page begins with the last entry of the page before
            data: list[bytes] = await self._of(
                session, row, ("LRANGE", entries, first - seen, first + READ_AT_ONCE - 1)
            )
            if seen and data[:1] != [last]:
                raise scripts.unknown(session)  # it expired meanwhile, and what stands there now is another's
            fresh = data[seen:]
            found += scripts.decoded(session, fresh, first)
            if len(fresh) < READ_AT_ONCE:
                return found
            first, last = first + READ_AT_ONCE, fresh[-1]

    async def save_snapshot(self, session: str, epoch: int, seq: int, data: bytes) -> None:
        call = scripts.save_snapshot(session, epoch, self._owner, self._ttl_s, seq=seq, data=data)
        refused = scripts.snapshot_verdict(session, epoch, seq, await self._writing().one(call))
        if refused is not None:
            raise refused

    async def load_snapshot(self, session: str) -> tuple[int, bytes] | None:
        row, _, snapshot = scripts.keys_of(session)
        seq, data = await self._of(session, row, ("HMGET", snapshot, "seq", "data"))
        return None if seq is None else (int(seq), bytes(data))

    async def session(self, session: str) -> SessionRow:
        link = self._open()
        found = await self._rows(link, [session])
        if session not in found:
            raise scripts.unknown(session)
        owner, row = found[session]
        alive = await self._alive(link, {owner})
        return listed(row, owner_alive=alive[owner])

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        link = self._open()
        found: dict[str, tuple[str, Row]] = {}
        first = 0
        while len(found) < limit:
            page = await link.one(("ZREVRANGE", scripts.INDEX, first, first + _PAGE - 1))
            first += len(page)
            # A session that is claimed meanwhile moves the others down: they may come twice.
            found |= await self._rows(link, [each.decode(errors="replace") for each in page])
            if len(page) < _PAGE:
                break
        alive = await self._alive(link, {owner for owner, _ in found.values()})
        return [listed(row, owner_alive=alive[owner]) for owner, row in list(found.values())[: max(0, limit)]]

    async def close(self) -> None:
        """Gives up ownership and the connections. May be called twice."""
        link, self._link = self._link, None
        tending, self._tending = self._tending, None
        if tending is not None:
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)
        if link is None:
            return
        try:
            if tending is not None:
                await link.one(("DEL", scripts.owner_key(self._owner)))
        except StoreError as error:
            _log.warning("journal: ownership was not given up, it ends by itself in %d s: %s", LEASE_S, error)
        finally:
            await link.close()

    # -- what it had taken and has no more ---------------------------------------------------------

    async def _send_lost(
        self, batches: Sequence[Batch], answers: dict[int, Any], results: list[Exception | None]
    ) -> None:
        """Where Redis turns out to be shorter than it had said, sends what it has lost, and the batch behind it."""
        lost: dict[int, Batch] = {}
        unreached: StoreError | None = None
        for place, answer in answers.items():
            whole = None if results[place] is None else self._whole(batches[place], answer)
            if whole is None:
                continue
            if answer[0] == scripts.UNKNOWN:
                try:
                    if unreached is None and await self._claimed(whole.session, scripts.CLAIM_LOST) != 1:
                        continue  # somebody else has begun it meanwhile
                except StoreError as error:
                    unreached = error  # the others would only wait for as long
                if unreached is not None:
                    results[place] = unreached
                    continue
            lost[place] = whole
        if not lost:
            return
        _log.warning(
            "journal: Redis came back without the last of what it had taken, as it may with appendfsync everysec and "
            "after a failover: %d entries of %d sessions are sent again",
            sum(len(whole.entries) - len(batches[place].entries) for place, whole in lost.items()),
            len(lost),
        )
        calls = [scripts.append(whole, self._owner, self._ttl_s) for whole in lost.values()]
        for (place, whole), answer in zip(lost.items(), await self._sent(calls), strict=True):
            results[place] = answer if isinstance(answer, StoreError) else scripts.verdict(whole, answer)

    def _whole(self, batch: Batch, answer: Any) -> Batch | None:
        """``batch`` with what is missing before it; None if nothing is, or it is not known any more."""
        if isinstance(answer, StoreError):
            return None
        kind, _, last, _ = answer
        if kind == scripts.GAP or (kind == scripts.UNKNOWN and self._recent.is_new(batch)):
            return self._recent.whole(batch, last)
        return None

    async def _sent(self, calls: Sequence[scripts.Command | scripts.ScriptCall]) -> list[Any]:
        """The answers; where there are none, the reason in place of each."""
        try:
            return await self._writing().send(calls)
        except StoreError as error:
            return [error] * len(calls)

    # -- how it is ---------------------------------------------------------------------------------

    async def survey(self) -> list[Server]:
        """What it runs on, of a cluster each primary. Raises ``StoreError``; a replica is none to write to."""
        if self._link is None:
            self._owner = f"{this_process()}/{secrets.token_hex(8)}"
            self._link = Link(self._address)
        found = await self._link.servers()
        if self._access == "write" and any(server.is_replica for server in found):
            raise coded("store.read_only", self.place)
        if self._address.kind != "cluster" and any(server.is_cluster for server in found):
            raise coded("store.is_cluster", self.place)
        if found and all(_major(server.version) >= _FIRST_WITH_FLAGS for server in found):
            self._claim = scripts.CLAIM_WHEN_FULL
        return found

    async def check(self) -> None:
        """Returns if it answers. Raises ``StoreError``."""
        await self._open().one(("PING",))

    # -- inside ------------------------------------------------------------------------------------

    def _open(self) -> Link:
        if self._link is None:
            raise StoreError(
                f"the journal on Redis at {self.place} is not open: await start() first", code="store.not_open"
            )
        return self._link

    def _writing(self) -> Link:
        if self._access == "read":
            raise StoreError(f"the journal on Redis at {self.place} was opened to be read", code="store.read_only")
        return self._open()

    async def _of(self, session: str, row: str, command: scripts.Command) -> Any:
        """The answer to a question about a session. Raises ``UnknownSession`` if it is not there."""
        known, answer = await self._open().send([("HEXISTS", row, "epoch"), command])
        for each in (known, answer):
            if isinstance(each, StoreError):
                raise each
        if not known:
            raise scripts.unknown(session)
        return answer

    async def _rows(self, link: Link, sessions: Sequence[str]) -> dict[str, tuple[str, Row]]:
        """Owner and row of those that have not expired."""
        questions: list[scripts.Command | scripts.ScriptCall] = []
        for session in sessions:
            row, entries, _ = scripts.keys_of(session)
            questions += [("HMGET", row, *scripts.COLUMNS), ("LLEN", entries)]
        answers = await link.send(questions)
        found = {}
        for session, columns, length in zip(sessions, answers[::2], answers[1::2], strict=True):
            for each in (columns, length):
                if isinstance(each, StoreError):
                    raise each
            row_of = scripts.row_of(session, columns, length)
            if row_of is not None:
                found[session] = row_of
        return found

    async def _alive(self, link: Link, owners: set[str]) -> dict[str, bool]:
        """One that was heard of lately, and is not known to be dead on this machine."""
        order = list(owners)
        answers = await link.send([("GET", scripts.owner_key(owner)) for owner in order])
        return {
            owner: isinstance(answer, bytes) and (is_alive(owner) or not is_here(owner))
            for owner, answer in zip(order, answers, strict=True)
        }

    # -- what is done beside the calls -------------------------------------------------------------

    async def _tend(self, link: Link) -> None:
        """Says now and then that this process lives, and strikes what has expired off the list."""
        # It looks for itself whether it is still wanted: redis-py's waits may swallow a cancellation (Python 3.11).
        while self._link is link:
            try:
                await link.one(("SET", scripts.owner_key(self._owner), "1", "EX", LEASE_S))
                await self._sweep(link)
            except StoreError as error:
                _log.debug("journal: not tended: %s", error)  # the writer says it, loudly and once
            self._recent.tidy()
            if self._link is link:
                await asyncio.sleep(TEND_S)

    async def _sweep(self, link: Link) -> None:
        """Goes through the list from the oldest on, a piece at a time, faster than it grows."""
        count, self._claims = max(SWEPT, 2 * self._claims), 0
        flat = await link.one(scripts.listed(self._swept, count))
        ids = [each.decode(errors="replace") for each in flat[::2]]
        there = await link.send([("HEXISTS", scripts.keys_of(session)[0], "epoch") for session in ids])
        gone = [each for at, known in enumerate(there) if known == 0 for each in (flat[2 * at], flat[2 * at + 1])]
        if gone:
            await link.one(scripts.forget(gone))
        self._swept = self._swept + len(ids) - len(gone) // 2 if len(ids) == count else 0


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else 0
