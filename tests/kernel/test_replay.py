"""Replay: the same entries give the same state and digests; where they do not, it says at which entry."""

from __future__ import annotations

import msgspec
import pytest
from by_hand import Play, greeted

from antiphon.errors import ReplayDiverged
from antiphon.kernel import events as ev
from antiphon.kernel import reply_actions
from antiphon.kernel.policy import decode_policy, encode_policy
from antiphon.kernel.session import Session, digest, replay


def a_call() -> Play:
    play = greeted()
    play.answering("The fee is two lakh.", "The hostel is extra.")
    play.tell(ev.EffectRequested(2, 1, "k1", "book", "write"))
    play.tell(ev.SegmentPlayed(2, 0))
    play.tell(ev.SegmentStarted(2, 1))
    play.tell(ev.SpeechStarted())
    play.tell(ev.TranscriptPartial(2, "wait"))
    play.tell(ev.PlayoutStopped(2, 1, 10))
    play.tell(ev.SpeechStopped(0, 200))
    play.wait(300)
    play.final("wait")
    play.tell(ev.LineDropped("line.lost"))
    play.wait(500)
    play.tell(ev.LineAttached("test", 2))
    play.heard("We were cut off.", kind="resumed")
    play.tell(ev.CallerHungUp())
    play.tell(ev.SessionClosed("caller"))
    return play


def stored(entries: list[ev.Entry]) -> list[ev.Entry]:
    return [ev.decode_entry(ev.encode_entry(entry)) for entry in entries]


def test_a_journal_folds_to_the_same_state() -> None:
    play = a_call()
    assert replay(stored(play.entries)).snapshot() == play.session.snapshot()
    assert [entry.seq for entry in play.entries] == list(range(1, len(play.entries) + 1))


def test_a_snapshot_and_the_rest_fold_to_the_same_state() -> None:
    play = a_call()
    for cut in range(1, len(play.entries)):
        first = replay(play.entries[:cut])
        rest = replay(stored(play.entries[cut:]), session=Session.restore(first.snapshot()))
        assert rest.snapshot() == play.session.snapshot(), f"cut after entry {cut}"


def test_a_changed_digest_is_found_at_its_entry() -> None:
    play = a_call()
    decided = [index for index, entry in enumerate(play.entries) if entry.digest]
    assert len(decided) > 5
    for index in decided:
        entries = list(play.entries)
        entries[index] = msgspec.structs.replace(entries[index], digest=b"12345678")
        with pytest.raises(ReplayDiverged) as caught:
            replay(entries)
        assert caught.value.seq == index + 1
        assert caught.value.code == "replay.diverged"
        assert type(entries[index].event).__name__ in str(caught.value)


def test_a_digest_where_nothing_is_decided_is_found_too() -> None:
    entries = list(a_call().entries)
    index = next(i for i, entry in enumerate(entries) if not entry.digest)
    entries[index] = msgspec.structs.replace(entries[index], digest=b"12345678")
    with pytest.raises(ReplayDiverged, match="decides now: nothing") as caught:
        replay(entries)
    assert caught.value.seq == index + 1


def test_a_missing_entry_and_a_time_that_runs_backwards_are_found() -> None:
    entries = a_call().entries
    with pytest.raises(ReplayDiverged) as gap:
        replay([*entries[:4], *entries[5:]])
    assert gap.value.seq == 6
    late = next(index for index, entry in enumerate(entries) if entry.at > 0)
    with pytest.raises(ReplayDiverged) as back:
        replay([*entries[: late + 1], msgspec.structs.replace(entries[late + 1], at=0)])
    assert back.value.seq == late + 2


def test_changed_rules_are_found_where_they_first_decide_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What-if: the same facts under code that apologises in other words."""
    play = a_call()
    resumed = next(entry.seq for entry in play.entries if isinstance(entry.event, ev.LineAttached))
    say = reply_actions.say_lead
    monkeypatch.setattr("antiphon.kernel.reply_actions.say_lead", lambda step, phrase: say(step, "filler"))
    monkeypatch.setattr("antiphon.kernel.floor_actions.say", lambda step, phrase: reply_actions.say(step, "goodbye"))
    with pytest.raises(ReplayDiverged) as caught:
        replay([entry for entry in play.entries if entry.seq <= resumed])
    assert caught.value.seq in (1, resumed)  # the greeting is the first phrase of all


def test_another_policy_decides_otherwise() -> None:
    play = a_call()
    first = play.entries[0].event
    assert isinstance(first, ev.SessionStarted)
    patient = msgspec.structs.replace(decode_policy(first.policy), endpoint_ms=600)
    entry = msgspec.structs.replace(
        play.entries[0], event=msgspec.structs.replace(first, policy=encode_policy(patient))
    )
    with pytest.raises(ReplayDiverged) as caught:
        replay([entry, *play.entries[1:]])
    found = play.entries[caught.value.seq - 1]
    assert found.event == ev.DeadlineReached("endpoint")


def test_the_digest_of_nothing_is_empty_and_of_orders_eight_bytes() -> None:
    assert digest(()) == b""
    orders = tuple(a_call().orders)
    assert len(digest(orders)) == 8
    assert digest(orders) != digest(orders[::-1])


def test_what_is_no_snapshot_is_refused() -> None:
    for data in (b"", b"nonsense", msgspec.msgpack.encode((b"", b"")), msgspec.msgpack.encode(("x",))):
        with pytest.raises(msgspec.DecodeError):
            Session.restore(data)


def test_a_snapshot_of_another_release_is_refused() -> None:
    """State is plain data; read by other code it would be somebody else's call."""
    data = msgspec.msgpack.decode(greeted().session.snapshot())
    data[0] = bytes(8)
    with pytest.raises(msgspec.DecodeError):
        Session.restore(msgspec.msgpack.encode(data))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"[]", ev.encode_entry(ev.Entry(1, 0, ev.SpeechStarted()))[:-3]])
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        ev.decode_entry(data)


def test_an_event_that_lost_its_newest_fields_still_decodes() -> None:
    """Fields are only ever added at the end, with a default."""
    raw = msgspec.msgpack.encode([1, 0, ["TranscriptFinal", 3, "fees"], b""])
    assert ev.decode_entry(raw).event == ev.TranscriptFinal(3, "fees")
