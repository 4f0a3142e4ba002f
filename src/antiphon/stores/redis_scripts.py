"""What is kept in Redis and the scripts that change it: the one place where a write is refused or taken.

Keys, all of one session on one slot because of the braces (redis.io, "Redis cluster specification", hash tags):

- ``antiphon:{<session>}:row``: a hash, the columns of the listing, the epoch, and who holds it
- ``antiphon:{<session>}:entries``: a list, entry ``n`` at index ``n - 1``; its length is the last sequence number
- ``antiphon:{<session>}:snapshot``: a hash, ``seq`` and ``data``

and on a slot of their own:

- ``antiphon:{sessions}:index``: a sorted set of all session ids, scored by when they were born (microseconds)
- ``antiphon:{sessions}:owner:<identity>``: there while that process runs and answers

A script runs alone (redis.io, "Scripting with Lua"): what it checks still holds when it writes. It meets a full memory
or a read-only server at its first write, so nothing of a refused write is there.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from antiphon.errors import UNUSABLE, StaleWriter, StoreError, UnknownSession
from antiphon.kernel import events as ev
from antiphon.runtime.ports import Batch
from antiphon.stores.rows import Row, check_owner, differs, encode, fold, longer, unreadable

PREFIX: Final = "antiphon"
INDEX: Final = f"{PREFIX}:{{sessions}}:index"

Command = tuple[str | bytes | int, ...]
"""A command and its arguments, such as ``("HEXISTS", key, "epoch")``."""


_pack = msgspec.msgpack.Encoder().encode


class Script:
    """A Lua script. ``sha`` is its name once a server has seen it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class ScriptCall(msgspec.Struct, frozen=True):
    script: Script
    keys: tuple[str, ...]
    arguments: tuple[str | bytes | int, ...] = ()

    def command(self, *, known: bool) -> Command:
        """``known``: the server has the script and is told its name only."""
        way = ("EVALSHA", self.script.sha) if known else ("EVAL", self.script.source)
        return (*way, len(self.keys), *self.keys, *self.arguments)


def keys_of(session: str) -> tuple[str, str, str]:
    """Row, entries and snapshot."""
    stem = f"{PREFIX}:{{{session}}}"
    return f"{stem}:row", f"{stem}:entries", f"{stem}:snapshot"


def owner_key(owner: str) -> str:
    return f"{PREFIX}:{{sessions}}:owner:{owner}"


# -- claim ----------------------------------------------------------------------------------------

_CLAIM = """
local row, entries, snapshot = KEYS[1], KEYS[2], KEYS[3]
local epoch = redis.call('HINCRBY', row, 'epoch', 1)
redis.call('HSET', row, 'owner', ARGV[1])
if epoch == 1 then
  redis.call('HSET', row, 'line', 'live', 'started_at', ARGV[2])
  redis.call('DEL', entries, snapshot)
end
for each = 1, 3 do redis.call('EXPIRE', KEYS[each], ARGV[3]) end
return epoch
"""

CLAIM = Script(_CLAIM)
CLAIM_WHEN_FULL = Script(f"#!lua flags=allow-oom{_CLAIM}")
"""For Redis 7 and later: a call is taken over even where there is no room for its next entry, which can wait."""

CLAIM_LOST = Script(f"if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end{_CLAIM}")
"""Of a session that was new and is not there any more; 0: somebody else has begun it meanwhile."""

NOTE = Script("""
redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
return redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1])
""")


def claim(session: str, owner: str, now: str, ttl_s: int, script: Script = CLAIM) -> ScriptCall:
    """Answers the new epoch. ``now`` is written down as the beginning of a session that is new."""
    return ScriptCall(script, keys_of(session), (owner, now, ttl_s))


def note(session: str, owner: str, born_us: int, lease_s: int) -> ScriptCall:
    """Lists the session, and its owner as alive. Answers 1, or 0 if the session was listed."""
    return ScriptCall(NOTE, (INDEX, owner_key(owner)), (session, born_us, lease_s))


# -- append ---------------------------------------------------------------------------------------

TAKEN, UNKNOWN, NOT_OURS, GAP, DIFFERS, LONGER = range(6)

APPEND = Script("""
local row, entries = KEYS[1], KEYS[2]
local epoch, owner, expected, ttl, turns, columns = unpack(cmsgpack.unpack(ARGV[1]))
local held = redis.call('HMGET', row, 'epoch', 'owner', 'turns')
if not held[1] then return {1, 0, 0, 0} end
local last = redis.call('LLEN', entries)
if tonumber(held[1]) ~= epoch or held[2] ~= owner then return {2, tonumber(held[1]), last, 0} end
if expected > last then return {3, epoch, last, 0} end
local count, known = #ARGV - 1, last - expected
if known > 0 then
  local kept = redis.call('LRANGE', entries, expected, -1)
  for each = 1, math.min(known, count) do
    if kept[each] ~= ARGV[1 + each] then return {4, epoch, last, expected + each} end
  end
  if known > count then return {5, epoch, last, 0} end
end
if count > known then
  for from = 2 + known, #ARGV, 1000 do
    redis.call('RPUSH', entries, unpack(ARGV, from, math.min(from + 999, #ARGV)))
  end
  redis.call('HSET', row, 'turns', math.max(turns, tonumber(held[3] or 0)), unpack(columns))
end
for each = 1, 3 do redis.call('EXPIRE', KEYS[each], ttl) end
return {0, epoch, last, 0}
""")
"""What is small comes in one argument, as msgpack: redis-py takes some microseconds for each, on the event loop.

``unpack`` goes through Lua's stack, which holds 8000 values (``LUAI_MAXCSTACK``): so entries in thousands.
"""


def append(batch: Batch, owner: str, ttl_s: int) -> ScriptCall:
    """Answers what ``verdict`` reads. Raises ``StoreError`` (``store.bad_batch``)."""
    encoded = encode(batch)
    changed = Row(batch.session, line="")
    # What is there already has been folded before; folding it once more ends in the same columns.
    fold(changed, batch.entries)
    columns: list[str] = ["last_at_ms", str(changed.last_at_ms)]
    for name in ("line", "started_at", "transport", "language", "caller"):
        if getattr(changed, name):
            columns += [name, getattr(changed, name)]
    head = _pack((batch.epoch, owner, batch.expected_seq, ttl_s, changed.turns, columns))
    return ScriptCall(APPEND, keys_of(batch.session), (head, *(data for _, data in encoded)))


def verdict(batch: Batch, answer: list[int]) -> StoreError | None:
    """What came of an append: None if it is there."""
    kind, epoch, last, seq = answer
    if kind == UNKNOWN:
        return unknown(batch.session)
    if kind == DIFFERS:
        return differs(batch, seq)
    if kind == LONGER:
        return longer(batch)
    if kind == TAKEN:
        return None
    try:
        check_owner(batch, Row(batch.session, epoch=epoch, last_seq=last))
    except StoreError as error:
        return error
    return reborn(batch.session, epoch)


# -- snapshots ------------------------------------------------------------------------------------

SNAPSHOT = Script("""
local held = redis.call('HMGET', KEYS[1], 'epoch', 'owner')
if not held[1] then return {1, 0} end
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return {2, tonumber(held[1])} end
if tonumber(ARGV[3]) > redis.call('LLEN', KEYS[2]) then return {3, tonumber(held[1])} end
redis.call('HSET', KEYS[3], 'seq', ARGV[3], 'data', ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[5])
return {0, tonumber(held[1])}
""")


def save_snapshot(session: str, epoch: int, owner: str, ttl_s: int, *, seq: int, data: bytes) -> ScriptCall:
    """Answers what ``snapshot_verdict`` reads."""
    return ScriptCall(SNAPSHOT, keys_of(session), (epoch, owner, seq, data, ttl_s))


def snapshot_verdict(session: str, epoch: int, seq: int, answer: list[int]) -> StoreError | None:
    kind, held = answer
    if kind == UNKNOWN:
        return unknown(session)
    if kind == GAP:
        return StoreError(f"session {session} holds no entry {seq} yet: snapshot what is kept", code="store.gap")
    if kind == NOT_OURS and held != epoch:
        return StaleWriter(f"session {session} belongs to epoch {held}, not {epoch}")
    return reborn(session, epoch) if kind == NOT_OURS else None


# -- the list of sessions -------------------------------------------------------------------------

LISTED = Script("return redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')")

FORGET = Script("""
local gone = 0
for each = 1, #ARGV, 2 do
  local born = redis.call('ZSCORE', KEYS[1], ARGV[each])
  if born and tonumber(born) == tonumber(ARGV[each + 1]) then
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[each])
  end
end
return gone
""")
"""Only those that were not born again since they were looked at."""


def listed(first: int, count: int) -> ScriptCall:
    """Answers ids and births in turn, the oldest first."""
    return ScriptCall(LISTED, (INDEX,), (first, first + count - 1))


def forget(ids_and_births: list[str | bytes | int]) -> ScriptCall:
    return ScriptCall(FORGET, (INDEX,), tuple(ids_and_births))


COLUMNS: Final = ("owner", "epoch", "line", "started_at", "transport", "language", "caller", "turns", "last_at_ms")


def row_of(session: str, columns: list[bytes | None], last_seq: int) -> tuple[str, Row] | None:
    """The owner and the row, from the values of ``COLUMNS``; None for a session that has expired.

    Raises ``StoreError`` (``store.corrupt``).
    """
    kept = {name: value for name, value in zip(COLUMNS, columns, strict=True) if value is not None}
    if "epoch" not in kept:
        return None
    try:
        texts = {name: value.decode() for name, value in kept.items()}
        owner = texts.pop("owner", "")
        return owner, msgspec.convert({**texts, "session": session, "last_seq": last_seq}, Row, strict=False)
    except UNUSABLE as error:
        raise StoreError(f"the row of session {session} cannot be read: {error}", code="store.corrupt") from error


# -- entries --------------------------------------------------------------------------------------


def decoded(session: str, data: list[bytes], after_seq: int) -> list[ev.Entry]:
    """Raises ``StoreError`` (``store.corrupt``) for an entry that cannot be read."""
    entries = []
    for seq, each in enumerate(data, after_seq + 1):
        try:
            entries.append(ev.decode_entry(each))
        except UNUSABLE as error:
            raise unreadable(session, seq, error) from error
    return entries


def unknown(session: str) -> UnknownSession:
    return UnknownSession(
        f"no session {session[:255]!r} in this journal, or none any more: they expire; `antiphon calls` lists them"
    )


def reborn(session: str, epoch: int) -> StaleWriter:
    """The same epoch twice: Redis lost its last writes (a restart, a failover), and another process claimed since."""
    return StaleWriter(f"session {session} has epoch {epoch}, but another process was given it: Redis had lost ours")
