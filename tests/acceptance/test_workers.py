"""``antiphon serve --workers 2``: several processes, one server. What one of them knows, all of them keep to."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import FAKE, Server, ended, until
from visitors import Visitor, dial, hang_up

from antiphon.kernel.events import LineAttached
from antiphon.transports.twilio_auth import SIGNATURE_HEADER, signature

CAP = 50
STAMPEDE = 300
QUIET = {
    **FAKE,
    "policy": {"greeting": False},
    "log": {"level": "WARNING"},
    "server": {"workers": 2, "max_sessions": CAP, "drain_s": 5},
}
TOKEN = "a twilio auth token"
PUBLIC = "https://voice.example.org"
KEY = "an-operator-key-of-enough-characters"


def pids(server: Server) -> list[int]:
    """The workers', oldest first."""
    return [each.pid for each in server.workers("serve") if "--worker" in each.cmdline()]


def reached(server: Server, pid: int) -> socket.socket:
    """A connection that this worker has accepted: the kernel chooses, so it is tried until it chose that one."""
    for _ in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port))
        mine = connection.getsockname()[1]
        for _ in range(40):
            held = {one: _peers(one) for one in pids(server)}
            if any(mine in ports for ports in held.values()):
                break
            time.sleep(0.005)
        if mine in held.get(pid, ()):
            return connection
        connection.close()
    raise AssertionError("the kernel never chose that worker")


def _peers(pid: int) -> set[int]:
    with contextlib.suppress(psutil.Error):
        return {each.raddr.port for each in psutil.Process(pid).net_connections("tcp") if each.raddr}
    return set()


async def ask(
    server: Server, pid: int, path: str, method: str = "GET", body: str = "", **headers: str
) -> tuple[int, str]:
    """Status and body of what that worker answers."""

    def fetch() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.sock = reached(server, pid)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    return await asyncio.to_thread(fetch)


async def health(server: Server, pid: int) -> dict[str, Any]:
    return dict(json.loads((await ask(server, pid, "/health"))[1]))


@contextlib.contextmanager
def started(folder: Path, settings: Any = QUIET, **environ: str) -> Iterator[Server]:
    with ended(server := Server(folder, settings, **environ)):
        yield server


async def until_active(server: Server, count: int) -> None:
    async with asyncio.timeout(10):
        while (await server.get("/health"))["active_sessions"] != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def stampede(server: Server, ids: list[str]) -> tuple[dict[str, Visitor], list[Visitor]]:
    """Everybody calls at once: those who were taken on, and those who were told that no line is free."""
    lines = dict(zip(ids, await asyncio.gather(*(dial(server.port, id) for id in ids)), strict=True))
    told = {id: asyncio.ensure_future(line.until_closed()) for id, line in lines.items()}
    await until(lambda: sum(task.done() for task in told.values()) >= len(ids) - CAP, 10, "the others are refused")
    await asyncio.sleep(0.2)
    refused = [lines[id] for id, task in told.items() if task.done() and not task.cancelled()]
    for task in told.values():
        task.cancel()
    await asyncio.wait(told.values())
    return {id: line for id, line in lines.items() if line not in refused}, refused


async def figures(server: Server, pid: int) -> dict[tuple[str, str], float]:
    """By name and worker, summed over what else is told apart."""
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    text = (await ask(server, pid, "/metrics"))[1]
    seen = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = (sample.name, *sorted(sample.labels.items()))
            assert series not in seen, f"{series} is there twice"
            seen.add(series)
            found[sample.name.removeprefix("antiphon_"), sample.labels.get("worker", "")] += sample.value
    return dict(found)


def test_the_calls_of_two_workers_are_those_of_one_server(tmp_path: Path) -> None:
    async def main() -> None:
        with started(tmp_path) as server:
            await server.start()
            one, other = pids(server)
            held, refused = await stampede(server, [f"CA{number}" for number in range(STAMPEDE)])
            assert len(held) == CAP
            assert Counter(line.closed for line in refused) == {(1013, "admission.full"): STAMPEDE - CAP}

            for asked in (one, other):
                answer = await health(server, asked)
                shares = [each["active_sessions"] for each in answer["workers"].values()]
                assert (answer["status"], answer["active_sessions"], sum(shares)) == ("healthy", CAP, CAP)
                assert (await ask(server, asked, "/ready"))[0] == 503
                listed = json.loads((await ask(server, asked, "/sessions?limit=100"))[1])["sessions"]
                assert {row["session_id"] for row in listed if row["floor"]} == set(held)
                told = await figures(server, asked)
                assert told["sessions_active", "1"] + told["sessions_active", "2"] == CAP
                assert told["sessions_max", ""] == CAP
                turned = sum(told["sessions_refused_total", worker] for worker in ("1", "2"))
                assert turned == STAMPEDE - CAP
                assert told["process_resident_memory_bytes", "1"] != told["process_resident_memory_bytes", "2"]

            # A newer line of a call that has one needs no place, at whichever worker it arrives.
            moved = next(iter(held))
            for asked in (one, other):
                line = await dial(server.port, moved, sock=reached(server, asked))
                assert await asyncio.wait_for(held[moved].until_closed(), 5) == (4001, "session.taken_over")
                held[moved] = line
            assert (await server.get("/health"))["active_sessions"] == CAP
            await say_goodbye(held)
            await until_active(server, 0)
            server.signal(signal.SIGTERM)
            assert await server.ended() == 0
            assert not [each for each in (one, other) if psutil.pid_exists(each)]

    asyncio.run(main())


async def say_goodbye(held: dict[str, Visitor]) -> None:
    for id, line in held.items():
        hang_up(line, id)
    await asyncio.gather(*(line.until_closed() for line in held.values()))
    await asyncio.gather(*(line.leave() for line in held.values()))


def test_a_worker_that_is_killed_gives_up_its_places_and_its_calls_go_on_at_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        with started(tmp_path) as server:
            await server.start()
            one, other = pids(server)
            held = {id: await dial(server.port, id) for id in (f"CA{number}" for number in range(CAP))}
            await until_active(server, CAP)
            shares = {each["active_sessions"] for each in (await health(server, other))["workers"].values()}
            assert min(shares) > 0, "both carry calls"
            psutil.Process(one).kill()
            cut = {id: line for id, line in held.items() if await has_ended(line)}
            assert len(cut) in shares
            came_back, waited = next(iter(cut)), time.perf_counter()
            for _ in range(8):  # the kernel deals half of these to the socket of the one that is gone
                line = await asyncio.wait_for(dial(server.port, came_back), 5)
                assert line.status == 101
            waited = time.perf_counter() - waited
            attached = await until_attached(server, came_back)
            assert attached
            print(f"eight lines were answered in {waited * 1000:.0f} ms while a worker was gone")

            again, refused = await stampede(server, [f"CAnew{number}" for number in range(len(cut) - 1 + CAP)])
            assert (len(again), len(refused)) == (len(cut) - 1, CAP), "its places, and no more"
            await until(lambda: len(pids(server)) == 2, 10, "another worker is started")
            async with asyncio.timeout(15):
                while (await health(server, other))["status"] != "healthy":  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert (await health(server, other))["active_sessions"] == CAP
            assert re.search(r"worker \d is gone \(SIGKILL\)", server.log())
            assert re.search(r"\[[12]\] .*antiphon", server.log()), "lines name their worker"

            server.signal(signal.SIGKILL)
            await until(lambda: not any(psutil.pid_exists(each) for each in (other, *pids(server))), 5, "no orphans")

    asyncio.run(main())


async def has_ended(line: Visitor) -> bool:
    try:
        await asyncio.wait_for(line.hear(), 0.02)
    except TimeoutError:
        return False
    return True


async def until_attached(server: Server, id: str) -> bool:
    async with asyncio.timeout(5):
        while not any(isinstance(entry.event, LineAttached) for entry in await server.entries(id)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return True


# -- Twilio's side ----------------------------------------------------------------------------------


async def hook(server: Server, pid: int, address: str, call: str, **fields: str) -> tuple[int, str]:
    """A webhook that Twilio has signed, at that worker."""
    form = {"CallSid": call, "From": "+15550100", **fields}
    parts = urlsplit(address)
    signed = signature(TOKEN, address, form.items())
    return await ask(
        server,
        pid,
        f"{parts.path}?{parts.query}" if parts.query else parts.path,
        "POST",
        urlencode(form),
        content_type="application/x-www-form-urlencoded",
        **{SIGNATURE_HEADER.replace("-", "_"): signed},
    )


@contextlib.asynccontextmanager
async def stream(server: Server, pid: int, call: str, token: str) -> AsyncIterator[Visitor]:
    signed = signature(TOKEN, PUBLIC.replace("https", "wss") + "/media-stream")
    line = await dial(server.port, call, token=token, sock=reached(server, pid), shows={SIGNATURE_HEADER: signed})
    assert line.status == 101
    yield line
    await line.leave()


def test_webhook_and_stream_may_reach_different_workers_and_a_token_is_good_once(tmp_path: Path) -> None:
    settings = {**QUIET, "server": {**QUIET["server"], "public_url": PUBLIC}, "twilio": {"language_menu": "off"}}

    async def main() -> None:
        secrets = {"TWILIO_AUTH_TOKEN": TOKEN, "ANTIPHON_SERVER_API_KEYS": KEY}
        with started(tmp_path, settings, **secrets) as server:
            await server.start()
            one, other = pids(server)
            call = "CA" + "1" * 32
            status, answer = await hook(server, one, f"{PUBLIC}/voice", call)
            assert status == 200
            token = re.search(r'name="token" value="([^"]+)"', answer)
            after = re.search(r'action="([^"]+)"', answer)
            assert token
            assert after
            assert await hook(server, other, f"{PUBLIC}/voice", call) == (200, answer), "a retry gets the same answer"

            async with stream(server, other, call, token[1]) as line:
                await until_key_active(server, 1)
                for at in (one, other):
                    async with stream(server, at, call, token[1]) as replayed:
                        assert await replayed.until_closed() == (1008, "auth.stream_token_used")
                hang_up(line, call)
                assert await line.until_closed() == (1000, "stop")
            address = after[1].replace("&amp;", "&")
            status, answer = await hook(server, one, address, call, CallStatus="in-progress")
            assert (status, "<Hangup" in answer, "<Connect" in answer) == (200, True, False), "it ended on purpose"

            # The carrier's word that a call is over reaches the worker that waits for its caller.
            lost = "CA" + "2" * 32
            _, answer = await hook(server, one, f"{PUBLIC}/voice", lost)
            token = re.search(r'name="token" value="([^"]+)"', answer)
            assert token
            async with stream(server, other, lost, token[1]):
                await until_key_active(server, 1)
            await until_key_active(server, 0)
            assert (await hook(server, one, f"{PUBLIC}/voice/status", lost, CallStatus="completed"))[0] == 204
            await until_status(server, one, lost, "closed")

            begun = await ask(server, one, "/sessions", "POST", '{"session_id": "s1"}', X_API_Key=KEY)
            bearer = {"authorization": f"Bearer {json.loads(begun[1])['token']}"}
            page = await Visitor(
                server.port, "/orchestrate?session_id=s1", sock=reached(server, other), shows=bearer
            ).knock()
            assert page.status == 101, "one key signs the tokens of all workers"
            await page.leave()

    asyncio.run(main())


async def until_key_active(server: Server, count: int) -> None:
    async with asyncio.timeout(10):
        while (await health(server, pids(server)[0]))["active_sessions"] != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_status(server: Server, pid: int, session: str, status: str) -> None:
    found = ""
    async with asyncio.timeout(10):
        while found != status:
            found = json.loads((await ask(server, pid, f"/sessions/{session}", X_API_Key=KEY))[1]).get("status", "")
            await asyncio.sleep(0.05)


def test_a_worker_that_is_told_to_end_is_replaced_without_a_gap(tmp_path: Path) -> None:
    settings = {**QUIET, "server": {**QUIET["server"], "drain_s": 60}}

    async def main() -> None:
        with started(tmp_path, settings) as server:
            await server.start()
            one, other = pids(server)
            stays = await dial(server.port, "CAstays", sock=reached(server, one))
            await until_active(server, 1)
            psutil.Process(one).send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                while not any(each["draining"] for each in (await health(server, other))["workers"].values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            lines = [await asyncio.wait_for(dial(server.port, f"CA{number}"), 5) for number in range(10)]
            assert {line.status for line in lines} == {101}, "nobody new is turned away"
            await until_active(server, 11)
            assert (await health(server, other))["draining"] is False
            hang_up(stays, "CAstays")
            assert await stays.until_closed() == (1000, "stop"), "its calls may finish"
            await until(lambda: one not in pids(server) and len(pids(server)) == 2, 10, "another takes its place")
            async with asyncio.timeout(15):
                while (await health(server, other))["status"] != "healthy":  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            for each in pids(server):  # as systemd does it: everybody is told, the supervisor too
                psutil.Process(each).send_signal(signal.SIGTERM)
            server.signal(signal.SIGTERM)
            for number, line in enumerate(lines):
                hang_up(line, f"CA{number}")
            assert await server.ended() == 0
            assert "ERROR" not in server.log()

    asyncio.run(main())


def test_ctrl_c_ends_all_workers_cleanly_and_again_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        with started(tmp_path) as server:
            for times, how in ((1, (1001, "server.stopping")), (2, None)):
                await server.start()
                family = pids(server)
                line = await dial(server.port, f"CA{times}")
                await until_active(server, 1)
                heard = asyncio.ensure_future(line.until_closed())
                for _ in range(times):
                    server.signal(signal.SIGINT)
                    await asyncio.sleep(0.05)
                assert await server.ended(8) in {0, 130}
                assert not any(psutil.pid_exists(each) for each in family)
                said = await asyncio.wait_for(heard, 5)
                assert how is None or said == how

    asyncio.run(main())


def test_what_keeps_a_worker_from_serving_ends_the_server_with_its_error(tmp_path: Path) -> None:
    settings = {**QUIET, "retrieval": {"provider": "lexical", "knowledge": str(tmp_path / "nowhere")}}

    async def main() -> None:
        with started(tmp_path, settings) as server:
            with pytest.raises(AssertionError, match="status 2"):
                await server.start()
            told = [line for line in server.log().splitlines() if line.startswith("antiphon: [")]
            assert len(told) == 1, server.log()
            assert "nowhere" in told[0]
            assert not pids(server)

    asyncio.run(main())
