"""What the journal on Redis says and does when its server cannot be used: each fault is a real one (F18)."""

import asyncio
import logging
import re
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from private_redis import Redis, cluster, eventually, free_port, redis
from store_faults import DAMAGED, batch, entries

from antiphon.errors import StoreError
from antiphon.runtime.writer import JournalWriter
from antiphon.stores import redis_recent
from antiphon.stores import redis_scripts as scripts
from antiphon.stores.redis import RedisJournal

pytestmark = pytest.mark.needs("redis-server")

PASSWORD = "do-not-show-me"
QUICK = "?socket_timeout=0.5&socket_connect_timeout=0.5"


async def start_fails(url: str) -> StoreError:
    journal = RedisJournal(url)
    try:
        await journal.start()
    except StoreError as error:
        return error
    finally:
        await journal.close()
    raise AssertionError("the journal opened")


async def refusal(journal: RedisJournal, session: str = "a") -> StoreError:
    """Why a claim is refused."""
    with pytest.raises(StoreError) as caught:
        await journal.claim(session)
    return caught.value


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[RedisJournal]:
    journal = RedisJournal(url, **options)  # type: ignore[arg-type]
    await journal.start()
    try:
        yield journal
    finally:
        await journal.close()


# -- a call goes on in memory, and is written in order when the store is back -----------------------


class Talk:
    """A call that goes on talking, whatever its journal does: one entry for each word."""

    def __init__(self, url: str) -> None:
        self.journal = RedisJournal(f"{url}{QUICK}")
        self.codes = [""]
        self.writer = JournalWriter(
            self.journal, retry_s=(0.02, 0.1), on_state=lambda state: self.codes.append(state.code)
        )
        self.said = 0

    async def begin(self) -> None:
        await self.writer.start()
        self.writer.open("a", 0, 0)  # it is claimed when the store is there

    def say(self, words: int = 5) -> None:
        for entry in entries(self.said + 1, words):
            self.writer.append("a", entry)
        self.said += words

    async def is_degraded(self, code: str) -> None:
        await eventually(lambda: self.writer.health.code == code)
        assert not self.writer.health.ok

    async def is_written(self) -> None:
        """Everything that was said is there, in order and once, and health says so."""
        await eventually(lambda: not self.writer.health.pending and self.writer.health.ok and not self.codes[-1])
        assert self.writer.health.dropped == 0
        assert await self.journal.read("a") == list(entries(1, self.said))


def story(tell: Callable[[Redis, Talk], object], tmp_path: Path, *, up: bool = True, **options: str) -> None:
    async def main() -> None:
        server = Redis(tmp_path, **options)
        if up:
            server.start()
        talk = Talk(server.url)
        try:
            await talk.begin()
            talk.say()
            await tell(server, talk)  # type: ignore[misc]
            await talk.writer.close()
        finally:
            server.kill()

    asyncio.run(main())


def test_down_at_the_start(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_degraded("store.unreachable")
        assert f"127.0.0.1:{server.port}" in talk.writer.health.message
        assert "REDIS_URL" in talk.writer.health.message
        talk.say()
        server.start()
        await talk.is_written()

    story(tell, tmp_path, up=False)


def test_killed_in_the_middle_and_back_with_its_file(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        for _ in range(3):
            talk.say(20)
            await talk.is_written()
            server.kill()
            talk.say(20)
            await talk.is_degraded("store.unreachable")
            server.start()
            await talk.is_written()

    story(tell, tmp_path)


def test_frozen_then_awake_again(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_written()
        server.signal(signal.SIGSTOP)
        try:
            talk.say(30)
            await talk.is_degraded("store.timeout")
            assert "does not answer in time" in talk.writer.health.message
            talk.say(30)
            await asyncio.sleep(1)  # what it was sent meanwhile is done late, or twice
        finally:
            server.signal(signal.SIGCONT)
        await talk.is_written()

    story(tell, tmp_path)


def test_slow_but_there(tmp_path: Path) -> None:
    """A script that runs for 0.2 s holds everybody up; nobody is told that the store is down."""

    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_written()
        talk.codes[:] = [""]
        busy = threading.Thread(target=server.ask, args=("DEBUG", "SLEEP", "0.2"))
        busy.start()
        await asyncio.sleep(0.05)
        talk.say()
        await talk.writer.flush("a")
        busy.join()
        await talk.is_written()
        assert talk.codes == [""]

    story(tell, tmp_path, enable_debug_command="yes")


def test_out_of_memory(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_written()
        server.set("maxmemory", "1mb")
        talk.say(30)
        await talk.is_degraded("store.full")
        assert "session_ttl_s" in talk.writer.health.message
        assert len(await talk.journal.read("a")) == 5, "what was acknowledged stays readable"
        taker = RedisJournal(server.url)
        await taker.start()
        assert await taker.claim("b") == 1, "a call can be taken over all the same"
        assert isinstance((await taker.append([batch(1, 1, session="b")]))[0], StoreError)
        await taker.close()
        server.set("maxmemory", "0")
        await talk.is_written()

    story(tell, tmp_path)


def test_becomes_a_replica_and_a_primary_again(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_written()
        server.ask("REPLICAOF", "127.0.0.1", str(free_port()))
        talk.say()
        await talk.is_degraded("store.read_only")
        assert "primary" in talk.writer.health.message
        server.ask("REPLICAOF", "NO", "ONE")
        await talk.is_written()

    story(tell, tmp_path)


def test_forgets_the_scripts_between_two_batches(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        for _ in range(5):
            server.ask("SCRIPT", "FLUSH")
            talk.say()
            await talk.is_written()
        server.ask("SCRIPT", "FLUSH")
        first, then, other = batch(1, 3, session="b"), batch(4, 3, session="b"), batch(1, 1, session="nobody")
        assert await talk.journal.claim("b") == 1
        server.ask("SCRIPT", "FLUSH")
        results = await talk.journal.append([first, then, other])
        assert results[:2] == [None, None]
        assert getattr(results[2], "code", "") == "store.unknown_session"

    story(tell, tmp_path)


def test_has_too_few_replicas(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_written()
        server.set("min-replicas-to-write", "1")
        talk.say()
        await talk.is_degraded("store.no_replicas")
        server.set("min-replicas-to-write", "0")
        await talk.is_written()

    story(tell, tmp_path)


def test_cannot_save_to_its_disk(tmp_path: Path) -> None:
    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_written()
        place = tmp_path / "data"
        place.mkdir()
        server.set("dir", str(place))
        server.set("save", "3600 1")
        shutil.rmtree(place)
        server.ask("BGSAVE")
        await eventually(lambda: "rdb_last_bgsave_status:err" in server.ask("INFO", "persistence"))
        talk.say()
        await talk.is_degraded("store.io")
        server.set("save", "")
        await talk.is_written()

    story(tell, tmp_path, appendonly="no", enable_protected_configs="yes")


def test_loses_everything_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal of a call that is older than what is sent again ends; the call does not, and others are written."""
    monkeypatch.setattr(redis_recent, "SILENT_S", 0.0)

    async def tell(server: Redis, talk: Talk) -> None:
        await talk.is_written()
        server.ask("FLUSHALL")
        talk.say()
        await eventually(lambda: talk.writer.health.dropped)
        assert talk.writer.health.ok
        talk.writer.open("b", await talk.journal.claim("b"), 0)
        talk.writer.append("b", entries(1, 1)[0])
        await talk.writer.flush("b")
        assert await talk.journal.read("b") == list(entries(1, 1))

    story(tell, tmp_path)


# -- at the start -----------------------------------------------------------------------------------


def test_a_wrong_password_is_told_and_never_repeated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main(server: Redis) -> None:
        place = f"127.0.0.1:{server.port}"
        for wrong in (f"redis://:{PASSWORD}-2@{place}", f"redis://somebody:{PASSWORD}@{place}", f"redis://{place}"):
            error = await start_fails(wrong)
            assert error.code == "store.denied", error
            assert place in str(error)
            assert "REDIS_URL" in str(error)
            assert PASSWORD not in str(error) + repr(error.__cause__) + repr(error.__context__)
        async with opened(f"redis://:{PASSWORD}@{place}") as journal:
            assert await journal.claim("a") == 1
            server.set("requirepass", "another")
            server.options["requirepass"] = "another"
            server.ask("CLIENT", "KILL", "TYPE", "normal")
            error = await refusal(journal)
            assert error.code == "store.denied"
            assert PASSWORD not in f"{error} {journal!r} {vars(journal)} {journal.place}"
            server.set("requirepass", PASSWORD)
            assert await journal.claim("a") == 2, "it is well again once the password is right"

    with redis(tmp_path, requirepass=PASSWORD) as server:
        asyncio.run(main(server))
    assert PASSWORD not in caplog.text


def test_a_user_who_may_not_is_told_what_to_allow(tmp_path: Path) -> None:
    async def main(server: Redis) -> None:
        server.ask("ACL", "SETUSER", "app", "on", ">open-sesame", "~antiphon:*", "+@all", "-eval", "-evalsha", "-info")
        async with opened(f"redis://app:open-sesame@127.0.0.1:{server.port}") as journal:
            error = await refusal(journal)
            assert error.code == "store.denied"
            assert "ACL SETUSER" in str(error)
            server.ask("ACL", "SETUSER", "app", "+eval", "+evalsha")
            assert await journal.claim("a") == 1, "it need not be allowed to look at the server"

    with redis(tmp_path) as server:
        asyncio.run(main(server))


def test_a_replica_is_no_place_to_write_and_good_enough_to_read(tmp_path: Path) -> None:
    async def main(primary: Redis, replica: Redis) -> None:
        async with opened(primary.url) as journal:
            await journal.claim("a")
            assert await journal.append([batch(1, 3)]) == [None]
            error = await start_fails(replica.url)
            assert error.code == "store.read_only"
            assert "primary" in str(error)
            async with opened(replica.url, access="read") as reader:
                await eventually(reader.sessions)
                assert await reader.read("a") == list(entries(1, 3))
                assert [row.status for row in await reader.sessions()] == ["live"]
                assert (await refusal(reader)).code == "store.read_only"

    with redis(tmp_path / "a") as primary, redis(tmp_path / "b", replicaof=f"127.0.0.1 {primary.port}") as replica:
        asyncio.run(main(primary, replica))


def test_a_server_that_drops_or_forgets_calls_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(server: Redis) -> None:
        async with opened(server.url):
            assert re.search(r"drops calls .*maxmemory-policy allkeys-lru.*CONFIG SET maxmemory-policy", caplog.text)
            assert re.search(r"no append-only file.*CONFIG SET appendonly yes", caplog.text)
        caplog.clear()
        server.set("maxmemory-policy", "noeviction")
        server.set("appendonly", "yes")
        async with opened(server.url):
            assert caplog.text == ""

    with redis(tmp_path, maxmemory_policy="allkeys-lru", appendonly="no") as server:
        asyncio.run(main(server))


def test_no_name_no_port_and_no_redis(tmp_path: Path) -> None:
    def talk_http(listener: socket.socket) -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            with wire:
                wire.recv(1000)
                wire.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async def main() -> None:
        error = await start_fails("redis://no-such-host.invalid")
        assert error.code == "store.unreachable"
        assert "no-such-host.invalid:6379" in str(error)
        assert (await start_fails(f"redis://127.0.0.1:{free_port()}")).code == "store.unreachable"
        assert (await start_fails(f"unix://{tmp_path}/none.sock")).code == "store.unreachable"
        assert (await start_fails(f"redis+cluster://127.0.0.1:{free_port()}")).code == "store.unreachable"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            web = threading.Thread(target=talk_http, args=(listener,), daemon=True)
            web.start()
            assert (await start_fails(f"redis://127.0.0.1:{listener.getsockname()[1]}")).code == "store.not_redis"
        with socket.create_server(("127.0.0.1", 0)) as silent:
            error = await start_fails(f"redis://127.0.0.1:{silent.getsockname()[1]}{QUICK}")
            assert error.code == "store.timeout"

    asyncio.run(main())


def test_tls(tmp_path: Path) -> None:
    """By TLS to whom the authority vouches for; and each side alone with it is told."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    tls_port = free_port()

    async def main(server: Redis) -> None:
        url = f"rediss://127.0.0.1:{tls_port}"
        async with opened(f"{url}?ssl_ca_certs={files['ca']}") as journal:
            assert await journal.claim("a") == 1
        for wrong in (url, f"rediss://127.0.0.1:{server.port}{QUICK}", f"redis://127.0.0.1:{tls_port}{QUICK}"):
            error = await start_fails(wrong)
            assert error.code in ("store.unreachable", "store.timeout"), error
        assert "CERTIFICATE_VERIFY_FAILED" in str(await start_fails(url))

    options = {"tls_port": str(tls_port), "tls_auth_clients": "no"}
    options |= {"tls_cert_file": files["cert"], "tls_key_file": files["key"], "tls_ca_cert_file": files["ca"]}
    with redis(tmp_path, **options) as server:
        asyncio.run(main(server))


def test_no_room_for_another_connection(tmp_path: Path) -> None:
    async def main(server: Redis) -> None:
        with socket.create_connection(("127.0.0.1", server.port)):
            error = await start_fails(server.url)
        # Redis says why and closes at once: whether that is still read is a matter of chance.
        print(error)
        assert error.code in ("store.busy", "store.unreachable"), error

    with redis(tmp_path) as server:
        server.set("maxclients", "1")
        asyncio.run(main(server))


@pytest.mark.parametrize("data", DAMAGED)
def test_an_entry_that_is_damaged_is_named(data: bytes) -> None:
    with pytest.raises(StoreError, match="entry 2 of session a") as caught:
        scripts.decoded("a", [data], 1)
    assert caught.value.code == "store.corrupt"


def test_a_row_that_is_damaged_is_named() -> None:
    columns = [b"3" if name == "epoch" else b"\xff" if name == "caller" else None for name in scripts.COLUMNS]
    with pytest.raises(StoreError, match="row of session a") as caught:
        scripts.row_of("a", columns, 1)
    assert caught.value.code == "store.corrupt"


def test_keys_of_another_program(tmp_path: Path) -> None:
    async def main(server: Redis) -> None:
        async with opened(server.url) as journal:
            server.ask("SET", scripts.keys_of("a")[0], "theirs")
            error = await refusal(journal)
            assert error.code == "store.not_journal"
            assert "another database" in str(error)
            assert await journal.claim("b") == 1, "it is that session's trouble alone"
            server.ask("RPUSH", scripts.keys_of("b")[1], "\x01")
            with pytest.raises(StoreError, match="entry 1 of session b") as caught:
                await journal.read("b")
            assert caught.value.code == "store.corrupt"

    with redis(tmp_path) as server:
        asyncio.run(main(server))


# -- a cluster --------------------------------------------------------------------------------------


def test_a_cluster_and_a_server_are_not_taken_for_each_other(tmp_path: Path) -> None:
    async def main(server: Redis, nodes: list[Redis]) -> None:
        error = await start_fails(server.url.replace("redis:", "redis+cluster:"))
        assert (error.code, "redis://" in str(error)) == ("store.not_cluster", True)
        error = await start_fails(nodes[0].url)
        assert (error.code, "redis+cluster://" in str(error)) == ("store.is_cluster", True)

    with redis(tmp_path / "one") as server, cluster(tmp_path / "many") as nodes:
        asyncio.run(main(server, nodes))


def test_a_primary_of_a_cluster_dies_and_its_replica_takes_over(tmp_path: Path) -> None:
    async def main(nodes: list[Redis]) -> None:
        talk = Talk(nodes[1].url.replace("redis:", "redis+cluster:"))
        await talk.begin()
        talk.say(20)
        await talk.is_written()
        holder = next(node for node in nodes[:3] if ":1" in node.ask("EXISTS", scripts.keys_of("a")[0]))
        assert ":1" in holder.ask("WAIT", "1", "1000"), "its replica has it all"
        holder.kill()
        talk.say(20)
        await talk.is_written()
        await talk.writer.close()

    with cluster(tmp_path, replicas=3) as nodes:
        asyncio.run(main(nodes))
