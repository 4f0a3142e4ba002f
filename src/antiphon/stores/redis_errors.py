"""What a Redis says when it does not do its work, as coded errors that say what to do.

Sources: redis.io "Redis errors" (the first word of an error is its code), "Eviction", "Replication", "Persistence" and
"ACL"; the exceptions of redis-py, which takes that word off the text of those it has a class for. Errors of scripts
carry the code of the command that failed, in Redis before version 7 in the middle of their text.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from antiphon.clip import clipped
from antiphon.errors import StoreError

SHOWN_CHARS: Final = 160
"""Of what the server or the client library says."""


class Kind(NamedTuple):
    """``names``: classes of redis-py; ``words``: Redis's own codes; ``phrases``: parts of the text.

    In ``text`` {place} is where it is and {said} what was said.
    """

    code: str
    text: str
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()

    def fits(self, names: set[str], said: str) -> bool:
        return (
            not names.isdisjoint(self.names)
            or any(said.startswith(f"{word} ") or f"-{word} " in said for word in self.words)
            or any(phrase in said for phrase in self.phrases)
        )


KINDS: Final = (
    Kind(
        "store.read_only",
        "the Redis at {place} is a read-only replica: give the URL of its primary; writing goes on when it is one",
        names=("ReadOnlyError",),
        words=("READONLY",),
    ),
    Kind(
        "store.full",
        "the Redis at {place} has no memory left (maxmemory): give it more, "
        "or let calls expire sooner (server.session_ttl_s); writing goes on by itself",
        names=("OutOfMemoryError",),
        words=("OOM",),
    ),
    Kind(
        "store.io",
        "the Redis at {place} cannot save to its disk and takes no writes: see its log, free space there",
        words=("MISCONF",),
    ),
    Kind(
        "store.no_replicas",
        "the Redis at {place} waits for its replicas (min-replicas-to-write): start them; writing goes on by itself",
        words=("NOREPLICAS",),
    ),
    Kind(
        "store.denied",
        "the Redis at {place} refuses our user or password: set REDIS_URL=redis://user:password@host:port",
        names=("AuthenticationError", "AuthorizationError", "AuthenticationWrongNumberOfArgsError"),
        words=("NOAUTH", "WRONGPASS"),
        phrases=("invalid password",),
    ),
    Kind(
        "store.denied",
        "the Redis at {place} forbids our user what a journal needs ({said}): "
        "ACL SETUSER <user> ~antiphon:* +@all -@dangerous +info",
        names=("NoPermissionError",),
        words=("NOPERM",),
    ),
    Kind(
        "store.loading",
        "the Redis at {place} is starting and still reads its files; writing goes on by itself",
        names=("BusyLoadingError", "MasterDownError"),
        words=("LOADING", "MASTERDOWN"),
    ),
    Kind(
        "store.busy",
        "the Redis at {place} takes no more connections or runs a script that does not end: raise its maxclients, "
        "or SCRIPT KILL; writing goes on by itself",
        names=("MaxConnectionsError",),
        words=("BUSY",),
        phrases=("max number of clients", "Too many connections"),
    ),
    Kind(
        "store.is_cluster",
        "the Redis at {place} is a cluster: write its URL redis+cluster://",
        names=("MovedError", "AskError", "ClusterCrossSlotError"),
        words=("MOVED", "ASK", "CROSSSLOT"),
    ),
    Kind(
        "store.not_cluster",
        "the Redis at {place} is no cluster: write its URL redis://",
        phrases=("cluster support disabled", "Cluster mode is not enabled"),
    ),
    Kind(
        "store.not_journal",
        "keys that begin with antiphon: on the Redis at {place} are another program's: "
        "choose another database, such as redis://host/1",
        words=("WRONGTYPE",),
    ),
    Kind(
        "store.timeout",
        "the Redis at {place} does not answer in time: is it overloaded, frozen or behind a firewall? "
        "(redis-cli --latency); writing goes on by itself",
        names=("TimeoutError",),
    ),
    Kind(
        "store.not_redis",
        "what listens at {place} is no Redis that can be a journal ({said}): check the URL",
        names=("InvalidResponse", "UnicodeDecodeError"),
        phrases=("Protocol Error", "unknown command"),
    ),
    Kind(
        "store.unreachable",
        "no Redis can be reached at {place} ({said}): start it, or set the right REDIS_URL "
        "(rediss:// where it wants TLS); writing goes on by itself",
        names=("ConnectionError", "ClusterError", "RedisClusterException", "OSError"),
        words=("CLUSTERDOWN",),
    ),
)
"""The first that fits is taken, so the particular come before the general."""


def coded(code: str, place: str, said: str = "") -> StoreError:
    """The error of that code."""
    kind = next(kind for kind in KINDS if kind.code == code)
    return StoreError(kind.text.format(place=place, said=said), code=code)


def explain(error: Exception, place: str) -> StoreError:
    """The coded error for what went wrong at ``place``. What it quotes are the server's words, never our data."""
    names = {each.__name__ for each in type(error).__mro__}
    said = str(error)
    for kind in KINDS:
        if kind.fits(names, said):
            text = kind.text.format(place=place, said=clipped(said, SHOWN_CHARS))
            return StoreError(text, code=kind.code)
    return StoreError(f"the Redis at {place} failed: {clipped(said, SHOWN_CHARS)}", code="store.failed")
