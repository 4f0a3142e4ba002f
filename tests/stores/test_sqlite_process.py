"""Processes that die: what was acknowledged is there, who is alive is known, and the older owner is refused (F19)."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from store_faults import batch, entries

from antiphon.errors import StaleWriter
from antiphon.stores.owner import is_alive, this_process
from antiphon.stores.sqlite import SqliteJournal

WRITING = textwrap.dedent(
    """
    import asyncio, sys
    from antiphon.kernel import events as ev
    from antiphon.runtime.writer import JournalWriter
    from antiphon.stores.sqlite import SqliteJournal

    async def main():
        journal = SqliteJournal(sys.argv[1])
        writer = JournalWriter(journal)
        await writer.start()
        for number in range(8):
            name = f"s{number}"
            writer.open(name, await journal.claim(name), 0)
        seq = 0
        while True:
            seq += 1
            for number in range(8):
                name = f"s{number}"
                writer.append(
                    name,
                    ev.Entry(seq, seq * 20, ev.TranscriptPartial(1, f"{name} {seq}")),
                    lambda error, name=name, seq=seq: error or print(name, seq, flush=True),
                )
            await asyncio.sleep(0.0005)

    asyncio.run(main())
    """
)

CLAIMING = textwrap.dedent(
    """
    import asyncio, sys
    from antiphon.kernel import events as ev
    from antiphon.runtime.ports import Batch
    from antiphon.stores.sqlite import SqliteJournal

    async def main():
        journal = SqliteJournal(sys.argv[1])
        await journal.start()
        await journal.claim("live")
        await journal.claim("done")
        await journal.append([Batch("done", 1, 0, (ev.Entry(1, 0, ev.SessionClosed("caller")),))])
        print("ready", flush=True)
        sys.stdin.read()

    asyncio.run(main())
    """
)


def spawn(script: str, path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("acknowledged", [1, 60, 400, 1500])
def test_every_acknowledged_entry_survives_kill_9(acknowledged: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with spawn(WRITING, path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
    assert process.returncode == -signal.SIGKILL
    told: dict[str, int] = {}
    for line in lines:
        if line.endswith("\n"):
            name, seq = line.split()
            assert int(seq) == told.get(name, 0) + 1, "acknowledged in order"
            told[name] = int(seq)
    assert sum(told.values()) >= acknowledged

    async def look() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        rows = await journal.sessions()
        assert {row.status for row in rows} == {"interrupted"}
        for name, last in told.items():
            kept = await journal.read(name)
            assert [entry.seq for entry in kept] == list(range(1, len(kept) + 1)), "no hole, nothing twice"
            assert len(kept) >= last
            assert all(entry.event.text == f"{name} {entry.seq}" for entry in kept)  # type: ignore[union-attr]
        assert await journal.claim("s0") == 2, "the call can go on"
        await journal.close()

    asyncio.run(look())


def test_status_follows_the_owners_process(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def statuses() -> dict[str, str]:
        journal = SqliteJournal(path, access="read")
        await journal.start()
        rows = await journal.sessions()
        await journal.close()
        return {row.session: row.status for row in rows}

    with spawn(CLAIMING, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert asyncio.run(statuses()) == {"live": "live", "done": "closed"}
        process.send_signal(signal.SIGSTOP)
        assert asyncio.run(statuses())["live"] == "live", "a stopped process is not dead"
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert asyncio.run(statuses()) == {"live": "interrupted", "done": "closed"}, "dead although nobody reaped it"
    assert asyncio.run(statuses())["live"] == "interrupted"


def test_the_former_owner_is_refused_when_it_wakes_up(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def main() -> None:
        frozen, taker = SqliteJournal(path), SqliteJournal(path)
        await frozen.start()
        await taker.start()
        assert await frozen.claim("a") == 1
        assert await frozen.append([batch(1, 3)]) == [None]
        assert await taker.claim("a") == 2
        refused = 0
        for seq in range(4, 24):
            assert await taker.append([batch(seq, 1, epoch=2)]) == [None]
            for first in (4, seq, seq + 1):
                [result] = await frozen.append([batch(first, 1)])
                refused += isinstance(result, StaleWriter)
        assert refused == 60, "every late write is refused, wherever it claims to belong"
        assert await taker.read("a") == list(entries(1, 23))
        await frozen.close()
        assert (await taker.sessions())[0].status == "live", "its closing gives up nothing that is not its own"
        await taker.close()

    asyncio.run(main())


def test_identity_of_processes() -> None:
    me = this_process()
    assert is_alive(me)
    assert is_alive(f"{me}/tag")
    boot, namespace, pid, start = me.split("/")
    assert namespace.startswith("pid:[")
    assert not is_alive("/".join((boot, namespace, pid, str(int(start) - 1)))), "a reused pid is another process"
    assert not is_alive("/".join(("another-boot", namespace, pid, start)))
    assert not is_alive("/".join((boot, "pid:[1]", pid, start)))
    for nonsense in ("", "///", "a/b/c/d", boot):
        assert not is_alive(nonsense)


CONTENDING = textwrap.dedent(
    """
    import asyncio, sys
    from antiphon.errors import StaleWriter
    from antiphon.kernel import events as ev
    from antiphon.runtime.ports import Batch
    from antiphon.stores.sqlite import SqliteJournal

    async def main():
        journal = SqliteJournal(sys.argv[1], busy_s=30.0)
        await journal.start()
        mine = sys.stdin.readline().strip()
        for turn in range(40):
            epoch = await journal.claim("shared")
            seq = len(await journal.read("shared"))
            for _ in range(3):
                entry = ev.Entry(seq + 1, seq * 20, ev.TranscriptPartial(1, f"{mine} {epoch}"))
                own = ev.Entry(turn * 3 + _ + 1, 0, ev.TranscriptPartial(1, mine))
                if turn == _ == 0:
                    own_epoch = await journal.claim(mine)
                told, kept = await journal.append(
                    [Batch("shared", epoch, seq, (entry,)), Batch(mine, own_epoch, own.seq - 1, (own,))]
                )
                assert kept is None, kept
                if told is None:
                    seq += 1
                    print(seq, epoch, flush=True)
                else:
                    assert isinstance(told, StaleWriter), told
        await journal.close()

    asyncio.run(main())
    """
)


def test_of_two_processes_that_write_to_one_file_the_newest_owner_alone_writes_a_session(tmp_path: Path) -> None:
    """As the workers of one server do: nothing acknowledged is lost, and no refusal touches what else is written."""
    path = tmp_path / "journal.sqlite"
    both = [spawn(CONTENDING, path) for _ in range(2)]
    for number, process in enumerate(both):
        assert process.stdin is not None
        process.stdin.write(f"own{number}\n")
        process.stdin.flush()
    acknowledged = [line.split() for process in both for line in process.communicate(timeout=60)[0].splitlines()]
    assert [process.returncode for process in both] == [0, 0]

    async def look() -> None:
        journal = SqliteJournal(path)
        await journal.start()
        shared = await journal.read("shared")
        assert [entry.seq for entry in shared] == list(range(1, len(shared) + 1)), "no hole, nothing twice"
        assert sorted(int(seq) for seq, _ in acknowledged) == [entry.seq for entry in shared], "neither more nor less"
        epochs = [int(entry.event.text.split()[1]) for entry in shared]  # type: ignore[union-attr]
        assert epochs == sorted(epochs), "an older owner never wrote after a newer one"
        assert len({text.split()[0] for entry in shared for text in [entry.event.text]}) == 2  # type: ignore[union-attr]
        assert await journal.claim("shared") == 81
        for number in range(2):
            assert len(await journal.read(f"own{number}")) == 120
        await journal.close()

    asyncio.run(look())
