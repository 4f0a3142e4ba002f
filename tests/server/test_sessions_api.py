"""The session API: beginning, listing, looking, the timeline, folding again; over each kind of journal."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import msgspec
import pytest
import virtual_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import StoreError, UnknownSession
from antiphon.kernel import events as ev
from antiphon.kernel.policy import Policy, encode_policy
from antiphon.kernel.session import Session
from antiphon.runtime.host import CallView
from antiphon.runtime.ports import CALL_ID, Batch, Journal, SessionRow
from antiphon.secret import Secret
from antiphon.server import openapi, session_views, sessions
from antiphon.server.access import Access
from antiphon.server.api_keys import ApiKeys, new_key
from antiphon.server.app import Services, create_app
from antiphon.server.slices import MOST_WAITING, Slices
from antiphon.server.tokens import SessionTokens, new_secret
from antiphon.server.vitals import Vitals
from antiphon.stores.memory import MemoryJournal
from antiphon.stores.redis import RedisJournal
from antiphon.stores.sqlite import SqliteJournal

sys.path.insert(0, str(Path(__file__).parents[1] / "stores"))

KEY = new_key()


class Calls:
    active, capacity = 0, 10

    def __init__(self, *held: CallView) -> None:
        self.held = list(held)

    def calls(self) -> list[CallView]:
        return self.held


class Site:
    """An application whose only routers are the session API's; asked over ASGI, without a socket."""

    def __init__(self, journal: Journal | None = None, *held: CallView, open_to: Any = "this_machine") -> None:
        self.journal = journal or MemoryJournal()
        self.access = Access(
            ApiKeys(Secret("" if open_to == "this_machine" else KEY)),
            SessionTokens([Secret(new_secret())], ttl_s=120),
            open_to=open_to,
        )
        self.host = Calls(*held)
        routers = (
            sessions.router(self.access, self.host, self.journal, ("en-IN", "hi-IN")),
            openapi.router(self.access),
        )
        self.app = create_app(Services(host=self.host, vitals=Vitals(), routers=routers))

    async def ask(
        self, method: str, path: str, body: bytes = b"", client: str = "127.0.0.1", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(path)
        shown = {"host": "127.0.0.1:8004"} | {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in shown.items()],
            "client": (client, 50_000),
            "server": ("127.0.0.1", 8004),
        }
        inbox = [{"type": "http.request", "body": body, "more_body": False}]
        out: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return inbox.pop(0) if inbox else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            out.append(message)

        await self.app(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in out[0]["headers"]}
        return out[0]["status"], json.loads(b"".join(part.get("body", b"") for part in out[1:])), answered


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def a_call(session: str, turns: int = 1, said: str = "what are the fees", *, closed: bool = True) -> list[ev.Entry]:
    """Typed questions, each answered from a passage; the last answer of an open call is cut off after two words."""
    fold = Session()
    policy = encode_policy(Policy(greeting=False))
    passage = ev.Passage("fees", "Ten rupees a year.", "Handbook", 0.9, "What are the fees?")
    script: list[tuple[int, ev.AnyEvent]] = [
        (0, ev.SessionStarted(session, "orchestrate", "en-IN", policy, started_at="2026-01-02T03:04:05Z", caller="x"))
    ]
    for turn in range(1, turns + 1):
        at = turn * 1000
        script += [
            (at, ev.TextTyped(said)),
            (at + 10, ev.IntentReady(turn, "fees", 0.8)),
            (at + 20, ev.PassagesReady(turn, (passage, ev.Passage("other", "No.", "Elsewhere", 0.2)))),
            (at + 90, ev.ReplyBegun(turn, 1)),
            (at + 100, ev.SegmentReady(turn, 1, 0, "Ten rupees a year.")),
            (at + 130, ev.SegmentSynthesized(turn, 1, 0)),
            (at + 131, ev.SegmentStarted(turn, 0)),
            (at + 132, ev.ReplyGenerated(turn, 1, 1, sources=("Handbook", "Hearsay"))),
        ]
        if turn == turns and not closed:
            script += [(at + 400, ev.SpeechStarted()), (at + 500, ev.TranscriptPartial(1, "no wait stop please"))]
            script += [(at + 510, ev.PlayoutStopped(turn, 0, 11))]
        else:
            script += [(at + 600, ev.SegmentPlayed(turn, 0)), (at + 601, ev.PlayoutFinished(turn))]
    if closed:
        script += [(turns * 1000 + 900, ev.CallerHungUp("caller")), (turns * 1000 + 910, ev.SessionClosed("caller"))]
    return [fold.receive(event, at)[0] for at, event in script]


async def keep(journal: Journal, session: str, entries: Sequence[ev.Entry]) -> None:
    epoch = await journal.claim(session)
    assert await journal.append([Batch(session, epoch, 0, tuple(entries))]) == [None]


# -- beginning ------------------------------------------------------------------------------------


def test_a_session_is_begun_with_a_token_that_opens_it() -> None:
    async def main() -> None:
        site = Site(open_to="nobody")
        status, body, headers = await site.ask("POST", "/sessions", x_api_key=KEY, client="203.0.113.9")
        assert status == 201
        assert headers["cache-control"] == "no-store"
        assert list(body) == ["session_id", "token", "expires_in", "url"]
        assert uuid.UUID(body["session_id"]).version == 4
        assert body["expires_in"] == 120
        assert body["url"] == f"/orchestrate?session_id={body['session_id']}"
        site.access.for_session({"authorization": f"Bearer {body['token']}"}, "203.0.113.9", body["session_id"])
        _, other, _ = await site.ask("POST", "/sessions", x_api_key=KEY)
        assert other["session_id"] != body["session_id"]

    run(main)


def test_a_session_may_be_named_and_asked_for_again() -> None:
    async def main() -> None:
        site = Site()
        asked = json.dumps({"session_id": "CA:1.x-2", "language": "hi-IN"}).encode()
        status, body, _ = await site.ask("POST", "/sessions", asked)
        assert status == 201
        assert parse_qs(urlsplit(body["url"]).query) == {"session_id": ["CA:1.x-2"], "language": ["hi-IN"]}
        _, again, _ = await site.ask("POST", "/sessions", asked)
        assert again["token"] != body["token"]
        assert site.access.tokens.session_of(again["token"]) == "CA:1.x-2"

    run(main)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[]", 400, "http.bad_body"),
        (b"22", 400, "http.bad_body"),
        (b"{", 400, "http.bad_body"),
        (b"\xff\xfe", 400, "http.bad_body"),
        (b'{"session_id": "\xff"}', 400, "http.bad_body"),
        (b'{"session_id": ' + b"[" * 4000, 400, "http.bad_body"),
        (b'{"session_id": 7}', 400, "http.bad_body"),
        (b'{"sesion_id": "x"}', 400, "http.bad_body"),
        (b'{"session_id": "a/b"}', 400, "session.bad_id"),
        (b'{"session_id": "' + b"x" * 256 + b'"}', 400, "session.bad_id"),
        (b'{"session_id": "one\\n"}', 400, "session.bad_id"),
        (b'{"language": "english please"}', 400, "session.bad_language"),
        (b'{"language": "de-DE"}', 400, "session.bad_language"),
        (b'{"language": "en&audio=none"}', 400, "session.bad_language"),
        (b"[" * 5000, 413, "http.too_large"),
        (b"[" * 4000, 400, "http.bad_body"),
    ],
)
def test_what_cannot_be_begun_is_told_why(body: bytes, status: int, code: str) -> None:
    async def main() -> None:
        found, answer, _ = await Site().ask("POST", "/sessions", body)
        assert (found, answer["error"]["code"]) == (status, code)

    run(main)


IN_ONE_PLACE = st.characters(exclude_characters="/", exclude_categories=["Cs"])
"""A path with a slash is another path."""

one_site = functools.cache(Site)
"""Making one takes longer than asking it."""


@given(
    body=st.binary(max_size=300)
    | st.text().map(str.encode)
    | st.from_regex(r'\{"session_id": ?"?.{0,40}"?\}').map(str.encode)
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_sent_is_taken_or_refused_with_a_code(body: bytes) -> None:
    status, answer, _ = asyncio.run(one_site().ask("POST", "/sessions", body))
    if status == 201:
        assert CALL_ID.fullmatch(answer["session_id"])
    else:
        assert status == 400
        assert answer["error"]["code"] in ("http.bad_body", "session.bad_id", "session.bad_language")


@given(session=st.text(IN_ONE_PLACE, min_size=1, max_size=40), after=st.text(max_size=8), limit=st.text(max_size=8))
@settings(max_examples=100, deadline=None)
def test_whatever_is_asked_for_is_never_our_fault(session: str, after: str, limit: str) -> None:
    site = one_site()
    for method, rest in (("GET", ""), ("GET", "/timeline"), ("POST", "/replay")):
        path = f"/sessions/{quote(session, safe='')}{rest}?{urlencode({'after': after, 'limit': limit})}"
        status, answer, _ = asyncio.run(site.ask(method, path))
        assert status in (400, 404, 422)
        assert answer["error"]["code"]


# -- listing --------------------------------------------------------------------------------------


def view_of(session: str, floor: str = "SPEAKING") -> CallView:
    return CallView(session, floor, 3, "en-IN", "orchestrate", "active")


def test_the_list_has_live_and_past_sessions_newest_first() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        await keep(journal, "old", a_call("old"))
        await keep(journal, "held", a_call("held", closed=False))
        site = Site(journal, view_of("held"), view_of("fresh"))
        status, body, headers = await site.ask("GET", "/sessions")
        assert status == 200
        assert headers["cache-control"] == "no-store"
        assert body["complete"]
        assert [(each["session_id"], each["status"], each["floor"]) for each in body["sessions"]] == [
            ("fresh", "live", "SPEAKING"),
            ("held", "live", "SPEAKING"),
            ("old", "closed", ""),
        ]
        old = body["sessions"][2]
        assert (old["entries"], old["duration_ms"], old["last_turn"], old["caller"]) == (13, 1910, 1, "x")
        _, body, _ = await site.ask("GET", "/sessions?limit=2")
        assert [each["session_id"] for each in body["sessions"]] == ["fresh", "held"]

    run(main)


def test_what_other_workers_hold_is_listed_as_well() -> None:
    async def main() -> None:
        journal, shared = MemoryJournal(), msgspec.structs.replace(view_of("moved", "SPEAKING"), phase="active")

        async def elsewhere() -> list[CallView]:
            return [view_of("theirs", "LISTENING"), shared]

        # It waits here for a caller who is at the other worker by now.
        host = Calls(view_of("ours", "THINKING"), msgspec.structs.replace(shared, floor="IDLE", phase="detached"))
        access = Site().access
        asked = sessions.Sessions(access, host, journal, ("en-IN",), elsewhere)
        found = {item.session_id: item.floor for item in (await asked.list(10)).sessions}
        assert found == {"ours": "THINKING", "theirs": "LISTENING", "moved": "SPEAKING"}
        assert (await asked.view("theirs", 0, 10)).status == "live"
        with pytest.raises(UnknownSession):
            await asked.view("nobodys", 0, 10)

    run(main)


def test_a_held_session_that_is_older_than_the_list_is_no_new_one() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        await keep(journal, "held", a_call("held", closed=False))
        await keep(journal, "new", a_call("new"))
        site = Site(journal, view_of("held"))
        _, body, _ = await site.ask("GET", "/sessions?limit=1")
        assert [each["session_id"] for each in body["sessions"]] == ["new"]

    run(main)


class Endless(MemoryJournal):
    """As many rows as are asked for."""

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        return [SessionRow(f"s{each}", "closed", "", "orchestrate", "en-IN", 1, 1, 1, 1) for each in range(limit)]


def test_a_held_session_that_is_older_than_what_is_searched_is_no_new_one() -> None:
    async def main() -> None:
        site = Site(Endless(), view_of("held"), view_of("s1", "LISTENING"))
        _, body, _ = await site.ask("GET", "/sessions?limit=2")
        assert [(each["session_id"], each["floor"]) for each in body["sessions"]] == [("s0", ""), ("s1", "LISTENING")]

    run(main)


class Silent(MemoryJournal):
    """A journal that does not answer."""

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        raise StoreError("gone")

    async def read(self, session: str, after_seq: int = 0) -> list[ev.Entry]:
        raise StoreError("gone")


def test_without_the_journal_what_is_live_here_is_still_listed() -> None:
    async def main() -> None:
        site = Site(Silent(), view_of("held"))
        status, body, _ = await site.ask("GET", "/sessions")
        assert (status, body["complete"]) == (200, False)
        assert [each["session_id"] for each in body["sessions"]] == ["held"]
        for method, path in (("GET", ""), ("GET", "/timeline"), ("POST", "/replay")):
            status, body, headers = await site.ask(method, f"/sessions/held{path}")
            assert (status, body["error"]["code"], headers["retry-after"]) == (503, "store.failed", "1")

    run(main)


class Hanging(MemoryJournal):
    """A journal on a disk that hangs."""

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        await asyncio.Event().wait()
        raise AssertionError

    async def read(self, session: str, after_seq: int = 0) -> list[ev.Entry]:
        await asyncio.Event().wait()
        raise AssertionError


def test_a_journal_that_hangs_is_waited_for_a_while() -> None:
    async def main() -> None:
        site = Site(Hanging(), view_of("held"))
        status, body, _ = await site.ask("GET", "/sessions")
        assert (status, body["complete"], len(body["sessions"])) == (200, False, 1)
        status, body, _ = await site.ask("GET", "/sessions/held")
        assert (status, body["error"]["code"]) == (503, "store.timeout")

    virtual_loop.run(main())


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "limit=-1", "limit=1e3", "limit=" + "9" * 400])
def test_a_limit_out_of_bounds_is_refused(query: str) -> None:
    async def main() -> None:
        status, body, _ = await Site().ask("GET", f"/sessions?{query}")
        assert (status, body["error"]["code"]) == (422, "http.invalid")

    run(main)


# -- looking --------------------------------------------------------------------------------------


def test_a_view_says_what_was_asked_answered_heard_and_from_what() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        await keep(journal, "one", a_call("one", turns=2, closed=False))
        site = Site(journal, view_of("one", "LISTENING"))
        status, body, headers = await site.ask("GET", "/sessions/one")
        assert (status, headers["cache-control"]) == (200, "no-store")
        assert (body["session_id"], body["status"], body["floor"]) == ("one", "live", "LISTENING")
        assert (body["next"], body["diverged_at"], body["counts"]["turns"]) == (None, 0, 2)
        assert body["counts"]["interruptions"] == 1
        first, second = body["turns"]
        assert first["question"] == "what are the fees"
        assert first["answer"] == first["heard"] == "Ten rupees a year."
        assert (first["intent"], first["language"], first["outcome"]) == ("fees", "en-IN", "answered")
        handbook = {"id": "fees", "title": "What are the fees?", "source": "Handbook", "score": 0.9}
        assert first["sources"] == [
            handbook | {"text": "Ten rupees a year."},
            {"id": "", "title": "", "source": "Hearsay", "score": 0.0, "text": ""},
        ]
        latency = first["latency"]
        assert latency["total_ms"] == sum(part["ms"] for part in latency["parts"]) == 131
        assert {part["owner"] for part in latency["parts"]} == {"wait", "provider", "antiphon"}
        assert first["interruptions"] == []
        assert second["heard"] == "Ten rupees"
        assert second["outcome"] == "interrupted"
        assert second["interruptions"] == [
            {"at_ms": 2400, "decision": "cancelled", "kind": "barge_in", "text": "no wait stop please"}
        ]

    run(main)


class Unlisted(MemoryJournal):
    """A journal of more sessions than anybody wants to read for one."""

    async def sessions(self, limit: int = 50) -> list[SessionRow]:
        raise AssertionError("the view of one session reads the rows of others")


class Abandoned(Unlisted):
    """As if the processes that held its sessions had died."""

    async def session(self, session: str) -> SessionRow:
        return msgspec.structs.replace(await super().session(session), status="interrupted")


@pytest.mark.parametrize(("kind", "status"), [(Unlisted, "live"), (Abandoned, "interrupted")])
def test_the_view_of_one_session_asks_for_its_row_alone(kind: type[MemoryJournal], status: str) -> None:
    async def main() -> None:
        journal = kind()
        await keep(journal, "one", a_call("one", closed=False))
        site = Site(journal, view_of("fresh"))
        _, body, _ = await site.ask("GET", "/sessions/one")
        assert body["status"] == status
        _, body, _ = await site.ask("GET", "/sessions/fresh")
        assert body["status"] == "live", "one that has no row yet is held here"

    run(main)


def test_the_turns_of_a_view_come_in_pages() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        await keep(journal, "one", a_call("one", turns=7))
        site = Site(journal)
        found, after, pages = [], 0, 0
        while after is not None:
            _, body, _ = await site.ask("GET", f"/sessions/one?after={after}&limit=3")
            found += [turn["turn"] for turn in body["turns"]]
            assert body["counts"]["turns"] == 7, "the counts are of the whole call"
            after, pages = body["next"], pages + 1
        assert (found, pages) == (list(range(1, 8)), 3)
        _, body, _ = await site.ask("GET", "/sessions/one?after=99")
        assert (body["turns"], body["next"]) == ([], None)

    run(main)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/timeline"), ("POST", "/replay")])
def test_an_unknown_session_is_not_found_and_a_bad_id_refused(method: str, path: str) -> None:
    async def main() -> None:
        site = Site()
        status, body, _ = await site.ask(method, f"/sessions/nobody{path}")
        assert (status, body["error"]["code"]) == (404, "store.unknown_session")
        status, body, _ = await site.ask(method, f"/sessions/no body{path}")
        assert (status, body["error"]["code"]) == (400, "session.bad_id")
        site.host.held.append(view_of("fresh"))
        status, body, _ = await site.ask(method, f"/sessions/fresh{path}")
        assert (status, body["entries"]) in ((200, 0), (200, [])), "held, and not written yet"

    run(main)


def test_who_may_not_see_a_session_does_not_learn_whether_it_is_there() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        await keep(journal, "one", a_call("one"))
        site = Site(journal, open_to="nobody")
        token = site.access.tokens.issue("mine")
        answers = {
            str(await site.ask("GET", f"/sessions/{session}", authorization=f"Bearer {token}"))
            for session in ("one", "nobody", "no body")
        }
        assert len(answers) == 1

    run(main)


# -- the timeline ---------------------------------------------------------------------------------


def test_the_timeline_has_every_entry_with_its_time_and_the_floor_after_it() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        entries = a_call("one", closed=False)
        await keep(journal, "one", entries)
        site = Site(journal)
        status, body, _ = await site.ask("GET", "/sessions/one/timeline")
        assert status == 200
        assert [each["seq"] for each in body["entries"]] == [entry.seq for entry in entries]
        assert [each["at_ms"] for each in body["entries"]] == [entry.at for entry in entries]
        assert (body["duration_ms"], body["next"]) == (entries[-1].at, None)
        floors = {each["event"]: each["floor"] for each in body["entries"]}
        assert floors["TextTyped"] == "THINKING"
        assert floors["SegmentStarted"] == "SPEAKING"
        assert floors["SpeechStarted"] == "INTERRUPT"
        assert floors["TranscriptPartial"] == "LISTENING"
        data = {each["event"]: each["data"] for each in body["entries"]}
        assert "policy" not in data["SessionStarted"]
        assert data["PassagesReady"]["passages"][0]["title"] == "What are the fees?"
        assert data["SegmentReady"]["text"] == "Ten rupees a year."
        pages, after = [], 0
        while after is not None:
            _, page, _ = await site.ask("GET", f"/sessions/one/timeline?after={after}&limit=4")
            assert len(page["entries"]) <= 4
            pages += page["entries"]
            after = page["next"]
        assert pages == body["entries"]

    run(main)


@pytest.mark.parametrize("policy", [b"\xc1", encode_policy(Policy(transfer_target="+91")).replace(b"+91", b"+9\xff")])
def test_a_journal_of_another_release_is_shown_as_far_as_it_can_be_read(policy: bytes) -> None:
    async def main() -> None:
        journal = MemoryJournal()
        entries = a_call("one")
        start = msgspec.structs.replace(entries[0].event, policy=policy)
        await keep(journal, "one", [msgspec.structs.replace(entries[0], event=start), *entries[1:]])
        site = Site(journal)
        _, body, _ = await site.ask("GET", "/sessions/one/timeline")
        assert len(body["entries"]) == len(entries)
        assert {each["floor"] for each in body["entries"]} == {""}
        _, body, _ = await site.ask("GET", "/sessions/one")
        assert body["diverged_at"] == 1
        status, body, _ = await site.ask("POST", "/sessions/one/replay")
        assert (status, body["identical"]) == (200, False)
        assert "policy" in body["error"]

    run(main)


# -- folded again ---------------------------------------------------------------------------------


def test_a_replay_says_whether_every_digest_agrees() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        entries = a_call("one")
        await keep(journal, "one", entries)
        changed = [msgspec.structs.replace(each, digest=b"\1" * 8) if each.seq == 5 else each for each in entries]
        await keep(journal, "two", changed)
        site = Site(journal)
        status, body, _ = await site.ask("POST", "/sessions/one/replay")
        assert (status, body) == (
            200,
            {"session_id": "one", "identical": True, "entries": 13, "diverged": None, "error": ""},
        )
        _, body, _ = await site.ask("POST", "/sessions/two/replay")
        assert not body["identical"]
        assert (body["diverged"]["seq"], body["diverged"]["then"]) == (5, "01" * 8)
        assert body["diverged"]["floor"] == "THINKING"

    run(main)


def test_a_long_journal_is_folded_in_slices_one_at_a_time() -> None:
    """On virtual time: each entry costs a tenth of a slice, and others run between slices."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.0001
        return now

    async def main() -> None:
        slices = Slices(slice_s=0.001, clock=clock)
        order: list[str] = []

        def steps(name: str) -> Any:
            for _ in range(100):
                order.append(name)
                yield
            return name

        async def begun(name: str) -> Any:
            return steps(name)

        async def other() -> None:
            while sum(name != "-" for name in order) < 200:
                order.append("-")
                await asyncio.sleep(0)

        done = await asyncio.gather(slices.run(lambda: begun("a")), slices.run(lambda: begun("b")), other())
        assert done[:2] == ["a", "b"]
        names = "".join(order)
        longest = max(len(run) for run in names.replace("b", "a").split("-"))
        assert longest <= 11
        assert names.rindex("a") < names.index("b"), "one at a time"

    run(main)


def test_too_many_who_want_a_journal_read_are_refused() -> None:
    async def main() -> None:
        slices = Slices(slice_s=0.0)

        def steps() -> Any:
            for _ in range(3):
                yield

        async def begun() -> Any:
            return steps()

        waiting = [asyncio.ensure_future(slices.run(begun)) for _ in range(MOST_WAITING + 5)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [result for result in results if isinstance(result, Exception)]
        assert [error.code for error in refused] == ["server.busy"] * 5  # type: ignore[attr-defined]
        assert await slices.run(begun) is None, "and there is room again"

    run(main)


def test_ten_thousand_entries_are_looked_at_without_stopping_the_loop() -> None:
    """The process's own time between two turns of the loop, not the clock's: others run on this machine.

    Collections of all that the other tests have left are kept away, as the server keeps them away (``server.run``).
    """

    async def main() -> None:
        entries = a_call("big", turns=1000)
        assert len(entries) > 10_000
        journal = MemoryJournal()
        await keep(journal, "big", entries)
        site = Site(journal)
        gaps = [0.0]

        async def watch() -> None:
            last = time.thread_time()
            while True:
                await asyncio.sleep(0)
                now = time.thread_time()
                gaps.append(now - last)
                last = now

        watching = asyncio.ensure_future(watch())
        for method, path in (("GET", ""), ("GET", "/timeline?after=9000"), ("POST", "/replay")):
            status, body, _ = await site.ask(method, f"/sessions/big{path}")
            assert status == 200
            assert path != "/replay" or body["identical"]
        watching.cancel()
        assert max(gaps) < 0.15, "a single piece of work would take half a second or more"
        assert len(gaps) > 100

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


# -- real journals --------------------------------------------------------------------------------


async def all_answers(journal: Journal) -> list[Any]:
    await journal.start()
    try:
        await keep(journal, "one", a_call("one", turns=2))
        await keep(journal, "two", a_call("two", closed=False))
        site = Site(journal, view_of("two"))
        answers = [await site.ask("GET", "/sessions")]
        for session in ("one", "two", "nobody"):
            answers += [
                await site.ask("GET", f"/sessions/{session}"),
                await site.ask("GET", f"/sessions/{session}/timeline"),
                await site.ask("POST", f"/sessions/{session}/replay"),
            ]
        return answers
    finally:
        await journal.close()


def test_a_file_answers_as_memory_does(tmp_path: Path) -> None:
    in_memory = asyncio.run(all_answers(MemoryJournal()))
    assert [status for status, _, _ in in_memory] == [200] * 7 + [404] * 3
    assert asyncio.run(all_answers(SqliteJournal(tmp_path / "journal.sqlite"))) == in_memory


@pytest.mark.needs("redis-server")
def test_redis_answers_as_memory_does(tmp_path: Path) -> None:
    from private_redis import redis

    with redis(tmp_path) as server:
        assert asyncio.run(all_answers(RedisJournal(server.url))) == asyncio.run(all_answers(MemoryJournal()))


# -- the document ---------------------------------------------------------------------------------


def test_the_document_describes_the_routes_and_is_shown_where_the_server_is_open() -> None:
    async def main() -> None:
        status, shown, _ = await Site().ask("GET", "/openapi.json")
        assert status == 200
        assert set(shown["paths"]) == {
            "/health",
            "/ready",
            "/sessions",
            "/sessions/{session}",
            "/sessions/{session}/timeline",
            "/sessions/{session}/replay",
        }
        status, _, _ = await Site(open_to="nobody").ask("GET", "/openapi.json", x_api_key=KEY)
        assert status == 404

    run(main)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = openapi.document(Site().app)
    schemas = document["components"]["schemas"]

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    found = references(document)
    assert len(found) > 40
    assert {reference.rpartition("/")[2] for reference in found} == set(schemas)
    for name in ("SessionView", "Timeline", "Replayed", "SessionList", "IssuedSession"):
        fields = set(getattr(session_views, name).__struct_fields__)
        assert set(schemas[name]["properties"]) == fields


def test_answers_are_as_the_document_says() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        await keep(journal, "one", a_call("one", turns=2, closed=False))
        site = Site(journal)
        for method, path, shape in (
            ("POST", "/sessions", session_views.IssuedSession),
            ("GET", "/sessions", session_views.SessionList),
            ("GET", "/sessions/one", session_views.SessionView),
            ("GET", "/sessions/one/timeline", session_views.Timeline),
            ("POST", "/sessions/one/replay", session_views.Replayed),
        ):
            _, body, _ = await site.ask(method, path)
            assert json.loads(msgspec.json.encode(msgspec.convert(body, shape))) == body

    run(main)
