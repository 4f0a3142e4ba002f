"""Processes and servers that die: what was acknowledged is there, and one replica at a time may write."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from private_redis import Redis, eventually, redis
from store_faults import batch, entries

from antiphon.errors import StaleWriter, StoreError, UnknownSession
from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch
from antiphon.runtime.writer import JournalWriter
from antiphon.stores import redis as redis_store
from antiphon.stores import redis_recent
from antiphon.stores import redis_scripts as scripts
from antiphon.stores.redis import GRACE_S, LEASE_S, RedisJournal

pytestmark = pytest.mark.needs("redis-server")

WRITING = textwrap.dedent(
    """
    import asyncio, sys
    from antiphon.kernel import events as ev
    from antiphon.runtime.writer import JournalWriter
    from antiphon.stores.redis import RedisJournal

    async def main():
        journal = RedisJournal(sys.argv[1])
        lost = []
        writer = JournalWriter(journal, on_stale=lambda name: print("lost", name, flush=True))
        await writer.start()
        names = [f"s{number}" for number in range(8)]
        for name in names:
            writer.open(name, await journal.claim(name), 0)
        seq = 0
        while True:
            seq += 1
            for name in names:
                writer.append(
                    name,
                    ev.Entry(seq, seq * 20, ev.TranscriptPartial(1, f"{name} {seq}")),
                    lambda error, name=name, seq=seq: error or print(name, seq, flush=True),
                )
            await asyncio.sleep(0.0005)

    asyncio.run(main())
    """
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(running: Redis) -> Redis:
    running.ask("FLUSHALL")
    return running


@asynccontextmanager
async def opened(server: Redis, count: int = 1, **options: object) -> AsyncIterator[list[RedisJournal]]:
    journals = [RedisJournal(server.url, **options) for _ in range(count)]  # type: ignore[arg-type]
    for journal in journals:
        await journal.start()
    try:
        yield journals
    finally:
        for journal in journals:
            await journal.close()


def spawn(server: Redis) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", WRITING, server.url], stdout=subprocess.PIPE, text=True)


def told(lines: list[str]) -> dict[str, int]:
    """The last acknowledged entry of each session."""
    found: dict[str, int] = {}
    for line in lines:
        if line.endswith("\n") and not line.startswith("lost"):
            name, seq = line.split()
            assert int(seq) == found.get(name, 0) + 1, "acknowledged in order"
            found[name] = int(seq)
    return found


# -- replicas that die or freeze --------------------------------------------------------------------


@pytest.mark.parametrize("acknowledged", [1, 60, 1500])
def test_every_acknowledged_entry_survives_kill_9(server: Redis, acknowledged: int) -> None:
    with spawn(server) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)

    async def look() -> None:
        async with opened(server) as [journal]:
            rows = await journal.sessions()
            assert {row.status for row in rows} == {"interrupted"}, "known at once on the machine where it died"
            for name, last in told(lines).items():
                kept = await journal.read(name)
                assert [entry.seq for entry in kept] == list(range(1, len(kept) + 1)), "no hole, nothing twice"
                assert len(kept) >= last
                assert all(entry.event.text == f"{name} {entry.seq}" for entry in kept)  # type: ignore[union-attr]
            assert await journal.claim("s0") == 2, "the call can go on"

    asyncio.run(look())


def test_a_replica_that_was_frozen_writes_nothing_when_it_wakes_up(server: Redis) -> None:
    async def take_over() -> dict[str, list[ev.Entry]]:
        async with opened(server) as [journal]:
            kept = {}
            for number in range(8):
                name = f"s{number}"
                assert await journal.claim(name) == 2
                kept[name] = await journal.read(name)
                seq = len(kept[name])
                more = Batch(name, 2, seq, (ev.Entry(seq + 1, 0, ev.TextTyped("taken over")),))
                assert await journal.append([more]) == [None]
            return kept

    async def look() -> dict[str, list[ev.Entry]]:
        async with opened(server, access="read") as [journal]:
            return {f"s{number}": await journal.read(f"s{number}") for number in range(8)}

    with spawn(server) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGSTOP)
        kept = asyncio.run(take_over())
        process.send_signal(signal.SIGCONT)
        lost = set()
        while len(lost) < 8:
            line = process.stdout.readline()
            lines.append(line)
            if line.startswith("lost"):
                lost.add(line.split()[1])
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
    for name, last in told(lines).items():
        assert last <= len(kept[name]), "nothing was acknowledged to it after the takeover"
    for name, now in asyncio.run(look()).items():
        assert now[:-1] == kept[name], "what it had written stays, what it wanted to write is not there"
        assert isinstance(now[-1].event, ev.TextTyped)


def test_late_writes_are_refused_wherever_they_claim_to_belong(server: Redis) -> None:
    async def main() -> None:
        async with opened(server, 2) as [frozen, taker]:
            assert await frozen.claim("a") == 1
            assert await frozen.append([batch(1, 3)]) == [None]
            assert await taker.claim("a") == 2
            refused = 0
            for seq in range(4, 24):
                assert await taker.append([batch(seq, 1, epoch=2)]) == [None]
                for first in (4, seq, seq + 1):
                    for epoch in (1, 2):
                        [result] = await frozen.append([batch(first, 1, epoch=epoch)])
                        refused += isinstance(result, StaleWriter)
                with pytest.raises(StaleWriter):
                    await frozen.save_snapshot("a", 1, 1, b"")
            assert refused == 120, "also under the epoch that is not its own"
            assert await taker.read("a") == list(entries(1, 23))
            await frozen.close()
            assert (await taker.sessions())[0].status == "live", "its closing gives up nothing that is not its own"

    asyncio.run(main())


def test_replicas_that_fight_over_a_session_never_hold_it_together(server: Redis) -> None:
    """Whoever claims last writes; what was acknowledged to anybody is there, once, under numbers without a hole."""
    rng = random.Random(8004)
    acknowledged: dict[int, str] = {}
    refused: list[str] = []

    async def fight(number: int, journal: RedisJournal) -> None:
        for turn in range(30):
            await asyncio.sleep(rng.random() * 0.05)
            epoch = await journal.claim("a")
            seq = len(await journal.read("a"))
            for _ in range(rng.randrange(1, 6)):
                seq += 1
                text = f"{number}/{turn}/{seq}"
                [result] = await journal.append([Batch("a", epoch, seq - 1, (ev.Entry(seq, 0, ev.TextTyped(text)),))])
                if isinstance(result, StaleWriter):
                    refused.append(text)
                    break
                assert result is None
                assert seq not in acknowledged
                acknowledged[seq] = text

    async def main() -> None:
        async with opened(server, 5) as journals:
            await asyncio.gather(*(fight(number, journal) for number, journal in enumerate(journals)))
            kept = await journals[0].read("a")
            assert {entry.seq: entry.event.text for entry in kept} == acknowledged  # type: ignore[union-attr]
            print(f"{len(acknowledged)} written, {len(refused)} times too late")
            assert len(acknowledged) > 30
            assert refused
            assert (await journals[0].sessions())[0].epoch == 150

    asyncio.run(main())


# -- a server that dies -----------------------------------------------------------------------------


def test_what_was_acknowledged_survives_kill_9_of_redis(tmp_path: Path) -> None:
    """``appendfsync everysec``: what Redis held back while the disk was busy is sent to it once more."""
    told: dict[str, int] = {}

    async def main(server: Redis) -> None:
        journal = RedisJournal(f"{server.url}?socket_timeout=0.5")
        writer = JournalWriter(journal, retry_s=(0.01, 0.05))
        await writer.start()
        names = [f"s{number}" for number in range(20)]
        for name in names:
            writer.open(name, await journal.claim(name), 0)

        def tell(name: str, seq: int, error: Exception | None) -> None:
            if error is None:
                told[name] = max(seq, told.get(name, 0))

        async def talk() -> None:
            for seq in range(1, 1_000_000):
                for name in names:
                    writer.append(
                        name, ev.Entry(seq, 0, ev.TextTyped(f"{name} {seq}")), lambda e, n=name, s=seq: tell(n, s, e)
                    )
                await asyncio.sleep(0.001)

        talking = asyncio.ensure_future(talk())
        for _ in range(5):
            await asyncio.sleep(0.2)
            server.kill()
            before = dict(told)
            server.start()
            await eventually(lambda b=before: writer.health.ok and all(told[name] > b[name] for name in names))
            for name in names:
                assert len(await journal.read(name)) >= before[name]
        talking.cancel()
        await writer.close()
        assert writer.health.dropped == 0
        async with opened(server) as [reader]:
            for name in names:
                kept = await reader.read(name)
                assert [entry.event.text for entry in kept] == [f"{name} {n}" for n in range(1, len(kept) + 1)]  # type: ignore[union-attr]
                assert len(kept) >= told[name]
        print(f"{sum(told.values())} acknowledged, none lost")

    with redis(tmp_path) as server:
        asyncio.run(main(server))


def cut_log(server: Redis, kept: float) -> None:
    """Leaves of the log of a server that is down the first part, as a kill does while a sync keeps the disk busy."""
    [log] = (server.folder / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, round(log.stat().st_size * kept))


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.6, 0.9, 0.99])
def test_what_redis_had_acknowledged_and_lost_is_sent_again(
    tmp_path: Path, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever of the log is missing: entries, or the claim as well."""
    caplog.set_level("WARNING", "antiphon.journal")
    names = [f"s{number}" for number in range(5)]
    stale: list[str] = []

    async def main(server: Redis) -> None:
        journal = RedisJournal(f"{server.url}?socket_timeout=0.5")
        writer = JournalWriter(journal, retry_s=(0.01, 0.05), on_stale=stale.append)
        await writer.start()
        for name in names:
            writer.open(name, await journal.claim(name), 0)
        for seq in range(1, 13):
            for name in names:
                writer.append(name, ev.Entry(seq, 0, ev.TextTyped(f"{name} {seq}")))
            await writer.flush()
        server.kill()
        cut_log(server, kept)
        server.start()
        for name in names:
            writer.append(name, ev.Entry(13, 0, ev.TextTyped(f"{name} 13")))
        await eventually(lambda: writer.health.ok and not writer.health.pending)
        await writer.close()
        assert (writer.health.dropped, stale) == (0, [])
        async with opened(server) as [reader]:
            for name in names:
                texts = [entry.event.text for entry in await reader.read(name)]  # type: ignore[union-attr]
                assert texts == [f"{name} {seq}" for seq in range(1, 14)]
                assert await reader.claim(name) == 2
            assert len(await reader.sessions()) == len(names)

    with redis(tmp_path) as server:
        asyncio.run(main(server))
    assert "sent again" in caplog.text


def test_a_redis_that_is_away_for_long_is_sent_what_it_had_lost_all_the_same(tmp_path: Path) -> None:
    async def main(server: Redis) -> None:
        journal = RedisJournal(f"{server.url}?socket_timeout=0.5")
        await journal.start()
        assert await journal.claim("a") == 1
        assert await journal.append([batch(1, 5)]) == [None]
        server.kill()
        cut_log(server, 0.9)
        with later(journal, 600.0):
            journal._recent.tidy()
            server.start()
            await eventually(lambda: taken(journal, batch(6, 1)))
        assert await journal.read("a") == list(entries(1, 6))
        await journal.close()

    with redis(tmp_path) as server:
        asyncio.run(main(server))


async def taken(journal: RedisJournal, wanted: Batch) -> bool:
    """Redis may still be loading, or the first connection be that of before."""
    [result] = await journal.append([wanted])
    return result is None


@contextmanager
def later(journal: RedisJournal, seconds: float) -> Iterator[None]:
    """For what the journal remembers it is so much later."""
    before = journal._recent._clock
    journal._recent._clock = lambda: before() + seconds
    try:
        yield
    finally:
        journal._recent._clock = before


def test_what_another_replica_wrote_after_a_loss_is_not_touched(server: Redis) -> None:
    async def main() -> None:
        async with opened(server, 2) as [first, second]:
            row, kept, _ = scripts.keys_of("a")
            assert await first.claim("a") == 1
            assert await first.append([batch(1, 5)]) == [None]
            server.ask("LTRIM", kept, "0", "2")
            assert await second.claim("a") == 2
            assert await second.append([batch(4, 3, epoch=2)]) == [None]
            [result] = await first.append([batch(6, 1)])
            assert isinstance(result, StaleWriter)
            server.ask("HSET", row, "epoch", "1", "owner", "somebody")
            [result] = await first.append([batch(6, 1)])
            assert isinstance(result, StaleWriter), "the same number in other hands"
            assert len(await second.read("a")) == 6

    asyncio.run(main())


def test_a_take_over_that_redis_lost_is_not_made_again(server: Redis) -> None:
    """The owner before, or a third, may have written since: whose call it is cannot be known."""

    async def main() -> None:
        async with opened(server, 2) as [first, second]:
            row, kept, _ = scripts.keys_of("a")
            assert await first.claim("a") == 1
            assert await first.append([batch(1, 5)]) == [None]
            owner = server.ask("HGET", row, "owner").split("\r\n")[1]
            assert await second.claim("a") == 2
            assert await second.append([batch(6, 3, epoch=2)]) == [None]
            server.ask("LTRIM", kept, "0", "4")
            server.ask("HSET", row, "epoch", "1", "owner", owner)
            assert await first.append([batch(6, 1, size=80)]) == [None], "its claim is the one that Redis knows"
            [result] = await second.append([batch(9, 1, epoch=2)])
            assert isinstance(result, StaleWriter)
            assert await first.read("a") == [*entries(1, 5), *entries(6, 1, size=80)]

    asyncio.run(main())


def test_what_redis_has_is_compared_with_what_is_sent_again(server: Redis) -> None:
    async def main() -> None:
        async with opened(server) as [journal]:
            _, kept, _ = scripts.keys_of("a")
            assert await journal.claim("a") == 1
            assert await journal.append([batch(1, 5)]) == [None]
            server.ask("LTRIM", kept, "0", "2")
            server.ask("LSET", kept, "2", "another")
            [result] = await journal.append([batch(6, 1)])
            assert isinstance(result, StaleWriter)
            assert "says something else" in str(result)

    asyncio.run(main())


def test_a_session_that_somebody_began_anew_is_theirs(server: Redis) -> None:
    async def main() -> None:
        async with opened(server, 2) as [first, second]:
            assert await first.claim("a") == 1
            assert await first.append([batch(1, 2)]) == [None]
            server.ask("DEL", *scripts.keys_of("a"))
            assert await second._claimed("a", scripts.CLAIM_LOST) == 1
            assert await first._claimed("a", scripts.CLAIM_LOST) == 0
            [result] = await first.append([batch(3, 1)])
            assert isinstance(result, StaleWriter | StoreError)
            assert await second.read("a") == []
            assert await second.append([batch(1, 1)]) == [None], "its epoch was not raised"

    asyncio.run(main())


def test_an_epoch_that_is_given_twice_fences_all_the_same(server: Redis) -> None:
    """A failover or a restart took the last writes back, and with them an epoch; its next owner gets it once more."""

    async def main() -> None:
        async with opened(server, 2) as [first, second]:
            assert await first.claim("a") == 1
            assert await first.append([batch(1, 2)]) == [None]
            server.ask("DEL", *scripts.keys_of("a"))
            assert await second.claim("a") == 1
            [result] = await first.append([batch(1, 2)])
            assert isinstance(result, StaleWriter)
            [result] = await first.append([batch(3, 1)])
            assert isinstance(result, StaleWriter | StoreError)
            with pytest.raises(StaleWriter, match="Redis had lost ours"):
                await first.save_snapshot("a", 1, 0, b"")
            assert await second.read("a") == []

    asyncio.run(main())


# -- life of a session ------------------------------------------------------------------------------


def ttl(server: Redis, key: str) -> int:
    return int(server.ask("TTL", key).strip().removeprefix(":"))


def test_a_session_expires_after_its_last_entry_and_a_closed_one_too_b21(server: Redis) -> None:
    async def main() -> None:
        async with opened(server, ttl_s=100) as [journal]:
            await journal.claim("a")
            keys = scripts.keys_of("a")
            assert 98 <= ttl(server, keys[0]) - GRACE_S <= 100
            for closing in (ev.TextTyped("hello"), ev.SessionClosed("caller")):
                seq = len(await journal.read("a")) + 1
                assert await journal.append([Batch("a", 1, seq - 1, (ev.Entry(seq, 0, closing),))]) == [None]
                await journal.save_snapshot("a", 1, seq, b"s")
                for key in keys:
                    assert 98 <= ttl(server, key) - GRACE_S <= 100
                    server.ask("EXPIRE", key, "10")
            assert await journal.append([Batch("a", 1, 2, (ev.Entry(3, 0, ev.TextTyped("late")),))]) == [None]
            assert all(ttl(server, key) > 90 for key in keys), "every append refreshes all of it"
            async with opened(server, access="read") as [reader]:
                await reader.read("a")
                await reader.sessions()
            assert all(ttl(server, key) > 90 for key in keys)

    asyncio.run(main())


def test_what_has_expired_is_unknown_and_leaves_the_list(server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "TEND_S", 0.01)
    monkeypatch.setattr(redis_store, "SWEPT", 3)
    monkeypatch.setattr(redis_recent, "SILENT_S", 0.0)

    async def main() -> None:
        async with opened(server) as [journal]:
            names = [f"s{number}" for number in range(20)]
            for name in names:
                await journal.claim(name)
            for name in names[::2]:
                server.ask("DEL", *scripts.keys_of(name))
            assert [row.session for row in await journal.sessions(4)] == ["s19", "s17", "s15", "s13"]
            with pytest.raises(UnknownSession, match="expire"):
                await journal.read("s0")
            [result] = await journal.append([batch(1, 1, session="s0")])
            assert isinstance(result, UnknownSession)
            await eventually(lambda: server.ask("ZCARD", scripts.INDEX) == ":10\r\n")
            assert [row.session for row in await journal.sessions()] == names[:0:-2]

    asyncio.run(main())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7, 100])
def test_a_long_journal_is_read_in_pages(server: Redis, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(redis_store, "READ_AT_ONCE", 3)

    async def main() -> None:
        async with opened(server) as [journal]:
            await journal.claim("a")
            kept = list(entries(1, count))
            assert await journal.append([batch(1, count)]) == [None]
            seen: list[int] = []
            asked = journal._of

            async def watched(session: str, row: str, command: scripts.Command) -> list[bytes]:
                data: list[bytes] = await asked(session, row, command)
                seen.append(len(data))
                return data

            journal._of = watched  # type: ignore[method-assign]
            assert await journal.read("a") == kept
            assert max(seen) <= 4, "a page, and the entry it begins behind"
            for after in (-1, 1, count - 1, count, count + 1):
                assert await journal.read("a", after) == kept[max(0, after) :]

    asyncio.run(main())


@pytest.mark.parametrize("reborn", [0, 1, 5])
def test_what_expires_while_it_is_read_is_not_read_as_another(
    server: Redis, monkeypatch: pytest.MonkeyPatch, reborn: int
) -> None:
    monkeypatch.setattr(redis_store, "READ_AT_ONCE", 3)

    async def main() -> None:
        async with opened(server) as [journal]:
            await journal.claim("a")
            assert await journal.append([batch(1, 7)]) == [None]
            asked, pages = journal._of, 0

            async def dies_in_between(session: str, row: str, command: scripts.Command) -> object:
                nonlocal pages
                pages += 1
                if pages == 2:
                    server.ask("DEL", *scripts.keys_of("a"))
                    if reborn:
                        await journal.claim("a")
                        assert await journal.append([batch(1, reborn, size=50)]) == [None]
                return await asked(session, row, command)

            journal._of = dies_in_between  # type: ignore[method-assign]
            with pytest.raises(UnknownSession):
                await journal.read("a")

    asyncio.run(main())


def test_a_session_that_is_born_again_is_the_newest(server: Redis) -> None:
    async def main() -> None:
        async with opened(server) as [journal]:
            for name in ("a", "b"):
                await journal.claim(name)
            server.ask("DEL", *scripts.keys_of("a"))
            seen = await journal._open().one(scripts.listed(0, 10))
            assert await journal.claim("a") == 1
            assert [row.session for row in await journal.sessions()] == ["a", "b"]
            assert await journal._open().one(scripts.forget(seen[:2])) == 0, (
                "whoever saw it dead strikes it off no more"
            )
            assert len(await journal.sessions()) == 2

    asyncio.run(main())


def test_a_long_list_comes_in_pages(server: Redis) -> None:
    async def main() -> None:
        async with opened(server) as [journal]:
            names = [f"s{number}" for number in range(1200)]
            for first in range(0, len(names), 50):
                await asyncio.gather(*(journal.claim(name) for name in names[first : first + 50]))
            rows = await journal.sessions(1_000_000)
            assert {row.session for row in rows} == set(names)
            assert len(rows) == 1200
            assert len(await journal.sessions(700)) == 700
            assert await journal.sessions(0) == []

    asyncio.run(main())


def test_an_owner_elsewhere_is_alive_while_it_is_heard_of(server: Redis) -> None:
    async def main() -> None:
        async with opened(server) as [journal]:
            await journal.claim("a")
            elsewhere = "another-boot/pid:[1]/7/1/tag"
            server.ask("HSET", scripts.keys_of("a")[0], "owner", elsewhere)
            assert (await journal.sessions())[0].status == "interrupted"
            server.ask("SET", scripts.owner_key(elsewhere), "1", "EX", "10")
            assert (await journal.sessions())[0].status == "live"
            await journal.claim("a")
            own = server.ask("HGET", scripts.keys_of("a")[0], "owner").split("\r\n")[1]
            assert str(os.getpid()) in own.split("/")
            assert LEASE_S - 2 <= ttl(server, scripts.owner_key(own)) <= LEASE_S

    asyncio.run(main())


def test_not_started_is_told_and_closing_twice_is_harmless(server: Redis) -> None:
    async def main() -> None:
        journal = RedisJournal(server.url)
        with pytest.raises(StoreError) as caught:
            await journal.claim("a")
        assert caught.value.code == "store.not_open"
        await journal.close()
        await journal.start()
        await journal.start()
        assert await journal.claim("a") == 1
        await journal.close()
        await journal.close()
        await journal.start()
        [result] = await journal.append([batch(1, 1)])
        assert isinstance(result, StaleWriter), "it gave its sessions up when it was closed"
        assert await journal.claim("a") == 2
        await journal.close()

    asyncio.run(main())


def test_a_backlog_of_many_thousand_entries_is_one_batch(server: Redis) -> None:
    """More than Lua's stack takes at once; and what is there already of it is not there twice."""

    async def main() -> None:
        async with opened(server) as [journal]:
            await journal.claim("a")
            assert await journal.append([batch(1, 9_500)]) == [None]
            assert await journal.append([batch(1, 20_000)]) == [None]
            assert await journal.read("a") == list(entries(1, 20_000))
            assert await journal.read("a", 19_998) == list(entries(19_999, 2))
            assert await journal.read("a", 2**62) == []
            other = [*entries(1, 19_999), ev.Entry(20_000, 0, ev.TextTyped("another"))]
            [result] = await journal.append([Batch("a", 1, 0, tuple(other))])
            assert isinstance(result, StaleWriter)
            assert "entry 20000" in str(result)

    asyncio.run(main())


def test_cancelled_requests_disturb_nobody(server: Redis) -> None:
    async def main() -> None:
        async with opened(server) as [journal]:
            await journal.claim("a")
            for turn in range(50):
                impatient = [asyncio.ensure_future(journal.read("a")) for _ in range(4)]
                for _ in range(turn % 5):
                    await asyncio.sleep(0)
                for each in impatient:
                    each.cancel()
                assert await journal.append([batch(turn + 1, 1)]) == [None]
                assert len(await journal.read("a")) == turn + 1, "nobody is given another's answer"
                await asyncio.gather(*impatient, return_exceptions=True)

    asyncio.run(main())
