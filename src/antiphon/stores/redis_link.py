"""The way to a Redis, or to a cluster of them: groups of commands, one round trip each. Alone imports redis-py.

redis-py (redis.readthedocs.io, and its source) keeps a pool of connections and makes broken ones anew. What it is told
to do differently from its defaults, and why:

- one immediate second try, and only for a connection that broke: a server that restarted leaves broken ones in the
  pool. Pauses between tries are the journal writer's, which keeps the entries meanwhile.
- two seconds for an answer, since a caller waits behind some of them; the URL may say otherwise.
- RESP 2 by name: what a connection costs to open must not depend on the version's taste.

A cluster's pipeline has no method for scripts but routes them well when they are given as commands.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from antiphon.errors import MissingExtra, StoreError
from antiphon.stores.redis_address import Address
from antiphon.stores.redis_errors import explain
from antiphon.stores.redis_scripts import Command, ScriptCall

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

AT_ONCE: Final = 8
"""Groups under way; the next one waits its turn, some 0.2 ms. A new connection costs more than that wait."""

CLUSTER_TRIES: Final = 1
"""After an error of the whole, a cluster is asked again who holds what, once."""

EVICTS: Final = "evicts"
FORGETS: Final = "forgets"

log = logging.getLogger("antiphon.journal")


class Trait(msgspec.Struct, frozen=True):
    """Something about a server that works and should be otherwise. ``fix`` is a command."""

    kind: str
    text: str
    fix: str


class Server(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    version: str
    is_replica: bool
    is_cluster: bool
    traits: tuple[Trait, ...] = ()


def require() -> None:
    """Raises ``MissingExtra`` without redis-py."""
    if importlib.util.find_spec("redis") is None:
        raise MissingExtra("redis", "The Redis client that this journal needs")


class Link:
    """Sends commands, on the event loop that it was made on. What redis-py raises, whatever it is, becomes coded."""

    def __init__(self, address: Address) -> None:
        self.place = address.shown
        self._client = _client(address)
        self._room = asyncio.Semaphore(min(AT_ONCE, address.options.max_connections))

    async def send(self, group: Sequence[Command | ScriptCall]) -> list[Any]:
        """One round trip; per command its answer or a ``StoreError``. Raises ``StoreError`` if the whole failed.

        A server that does not know a script yet is sent all from the first such command on once more, with
        the scripts in full, so that what follows it is not judged by what was not done. So every command in
        a group but the first must bear to be done twice.
        """
        if not group:
            return []
        async with self._room:
            answers = await self._round([_named(each) for each in group])
            first = next((n for n, each in enumerate(answers) if _is_unknown_script(each)), None)
            if first is not None:
                answers[first:] = await self._round([_in_full(each) for each in group[first:]])
        return [explain(each, self.place) if isinstance(each, Exception) else each for each in answers]

    async def one(self, command: Command | ScriptCall) -> Any:
        """The answer to one command. Raises ``StoreError``."""
        [answer] = await self.send([command])
        if isinstance(answer, StoreError):
            raise answer
        return answer

    async def _round(self, commands: Sequence[Command]) -> list[Any]:
        try:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - a client library's own faults must not end a call either
            raise self._explained(error) from None
        return answers

    async def servers(self) -> list[Server]:
        """What the server says of itself, of a cluster each primary. Raises ``StoreError``.

        A server that does not tell its users (``NOPERM``) is taken as it is.
        """
        client: Any = self._client
        try:
            async with self._room:
                told = await (client.info(target_nodes=client.PRIMARIES) if _is_cluster(client) else client.info())
        except Exception as error:  # noqa: BLE001 - as above
            if type(error).__name__ == "NoPermissionError":
                log.info("journal: the Redis at %s does not tell us whether it keeps what it is given", self.place)
                return []
            raise self._explained(error) from None
        by_node = [each for each in told.values() if isinstance(each, dict) and "redis_version" in each]
        return [describe(each, self.place) for each in by_node or [told]]

    def _explained(self, error: Exception) -> StoreError:
        coded = explain(error, self.place)
        if coded.code == "store.failed":
            log.error("journal: %s raised %s", self.place, type(error).__name__, exc_info=error)
        return coded

    async def close(self) -> None:
        """Raises ``StoreError``."""
        try:
            await self._client.aclose()
        except Exception as error:  # noqa: BLE001 - as above
            raise self._explained(error) from None


def describe(info: dict[str, Any], place: str) -> Server:
    """Reads the answer to INFO (redis.io, "INFO"). Fields that are missing say nothing."""
    traits = []
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        text = f"the Redis at {place} drops calls when its memory is full (maxmemory-policy {policy})"
        traits.append(Trait(EVICTS, text, "redis-cli CONFIG SET maxmemory-policy noeviction"))
    if str(info.get("aof_enabled", "1")) == "0":
        text = f"the Redis at {place} keeps no append-only file: when it restarts, calls of the last minutes are lost"
        traits.append(Trait(FORGETS, text, "redis-cli CONFIG SET appendonly yes"))
    return Server(
        version=str(info.get("redis_version", "")),
        is_replica=info.get("role") == "slave",
        is_cluster=str(info.get("cluster_enabled", "0")) == "1",
        traits=tuple(traits),
    )


def _client(address: Address) -> Redis | RedisCluster:
    from redis.asyncio import Redis, RedisCluster  # noqa: PLC0415 - the one optional import
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import ConnectionError as Broken  # noqa: PLC0415

    options = address.options
    given: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password.reveal() or None,
        "protocol": 2,
        "socket_timeout": options.socket_timeout,
        "socket_connect_timeout": options.socket_connect_timeout,
        "health_check_interval": options.health_check_interval,
        "max_connections": options.max_connections,
    }
    if address.tls:
        given |= {
            "ssl": True,
            "ssl_ca_certs": options.ssl_ca_certs or None,
            "ssl_certfile": options.ssl_certfile or None,
            "ssl_keyfile": options.ssl_keyfile or None,
            "ssl_cert_reqs": options.ssl_cert_reqs,
            "ssl_check_hostname": options.ssl_check_hostname and options.ssl_cert_reqs != "none",
        }
    if address.kind == "cluster":
        retry = Retry(NoBackoff(), CLUSTER_TRIES)
        return RedisCluster(host=address.host, port=address.port, retry=retry, socket_keepalive=True, **given)
    given |= {"db": options.db, "retry": Retry(NoBackoff(), 1, supported_errors=(Broken,))}
    if address.kind == "socket":
        return Redis(unix_socket_path=address.path, **given)
    return Redis(host=address.host, port=address.port, socket_keepalive=True, **given)


def _is_cluster(client: Redis | RedisCluster) -> bool:
    return type(client).__name__ == "RedisCluster"


def _named(each: Command | ScriptCall) -> Command:
    return each.command(known=True) if isinstance(each, ScriptCall) else each


def _in_full(each: Command | ScriptCall) -> Command:
    return each.command(known=False) if isinstance(each, ScriptCall) else each


def _is_unknown_script(answer: object) -> bool:
    return type(answer).__name__ == "NoScriptError"
