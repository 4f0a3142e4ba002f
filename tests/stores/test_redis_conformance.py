"""The journal on Redis against the kit that any journal has to pass: on a server, by its socket, on a cluster."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from private_redis import Redis, cluster, redis

from antiphon.conformance.journal import CHECKS, SHARED_CHECKS, Check
from antiphon.stores.redis import RedisJournal

pytestmark = pytest.mark.needs("redis-server")

Ways = dict[str, tuple[str, Callable[[], None]]]
"""By name: a URL, and what empties the servers behind it."""


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    folder = tmp_path_factory.mktemp("redis")
    socket = str(folder / "redis.sock")
    with redis(folder / "one", unixsocket=socket) as one, cluster(folder / "many") as many:
        # What the error for forbidden commands tells operators to allow.
        assert one.ask("ACL", "SETUSER", "app", "on", ">open-sesame", "~antiphon:*", "+@all", "-@dangerous", "+info")

        def empty(*servers: Redis) -> Callable[[], None]:
            def flush() -> None:
                for server in servers:
                    server.ask("FLUSHALL")

            return flush

        yield {
            "tcp": (one.url, empty(one)),
            "database": (f"{one.url}/3", empty(one)),
            "socket": (f"unix://{socket}", empty(one)),
            "user": (f"redis://app:open-sesame@127.0.0.1:{one.port}", empty(one)),
            "cluster": (f"redis+cluster://127.0.0.1:{many[1].port}", empty(*many)),
        }


@pytest.mark.parametrize("way", ["tcp", "database", "socket", "user", "cluster"])
@pytest.mark.parametrize("check", CHECKS + SHARED_CHECKS, ids=lambda check: check.__name__)
def test_redis_journal_conforms(ways: Ways, check: Check, way: str) -> None:
    url, empty = ways[way]
    empty()
    asyncio.run(check(lambda: RedisJournal(url)))
