"""What must hold of every call, whatever happens in it. Each check reads the record of one simulated call.

A violation is a sentence that begins with the invariant's name.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TypeVar

import msgspec

from antiphon.errors import ReplayDiverged
from antiphon.kernel import commands as cmd
from antiphon.kernel import events as ev
from antiphon.kernel.history import LEADS
from antiphon.kernel.session import Session, replay
from antiphon.sim.far_end import RATE, WORD_MS, read_back
from antiphon.sim.world import POLICY, Record

E = TypeVar("E")

_WORD = re.compile(r"a(\d+)x(\d+)w(\d+)")
_WHOLE = RATE * WORD_MS // 1000
FIRST_SOUND_S = POLICY.filler_ms / 1000 + 0.35
"""A turn's first sound: the filler's deadline, the way to the far end, one turn of the wheel."""
LATEST_S = 12.0
"""By then a word that was said is part of a question, whatever the caller goes on saying."""
LONGEST_SILENCE_S = 2.2
"""Two waits for a filler in a row (one that is found to be of no use, one after the next attempt), and a little."""


def violations(record: Record) -> list[str]:
    """Every broken rule of one call, each said once."""
    found = []
    for check in CHECKS:
        found += [f"{check.__name__}: {what}" for what in dict.fromkeys(check(record))]
    return found


def no_step_raises(record: Record) -> list[str]:
    """The call survives a step that raises; the rules are wrong all the same."""
    return record.raised


def one_reply_at_a_time(record: Record) -> list[str]:
    live, bad = 0, []
    begun = Counter((c.turn, c.attempt) for d in record.decisions for c in d.commands if isinstance(c, cmd.StartReply))
    bad += [
        f"attempt {attempt} at turn {turn} began {count} times" for (turn, attempt), count in begun.items() if count > 1
    ]
    for decision in record.decisions:
        if isinstance(decision.entry.event, ev.PlayoutFinished) and decision.entry.event.turn == live:
            live = 0
        for command in decision.commands:
            if isinstance(command, cmd.CancelReply) and command.turn == live:
                live = 0
            elif isinstance(command, (cmd.StartReply, cmd.Say, cmd.Repeat)):
                if live not in (0, command.turn):
                    bad.append(f"turn {command.turn} began while {live} was live, at {decision.at:.3f}")
                live = command.turn
    return bad


def never_hangs_up_on_a_talker(record: Record) -> list[str]:
    return [f"hung up ({reason}) on a talking caller" for reason in record.hung_up_on]


def silence_first(record: Record) -> list[str]:
    """From a pause until something is let through again, nothing is heard."""
    bad = []
    lets_through = (cmd.ResumePlayout, cmd.StartReply, cmd.Say, cmd.Repeat)
    decisions = record.decisions
    for index, decision in enumerate(decisions):
        if not any(isinstance(command, cmd.PausePlayout) for command in decision.commands):
            continue
        reached = decision.at + record.plan.latency_ms / 1000 + 0.001
        rest = decisions[index + 1 :]
        until = next((d.at for d in rest if any(isinstance(c, lets_through) for c in d.commands)), 1e9)
        if record.crashed_at and rest:
            if isinstance(rest[0].entry.event, ev.LineAttached):
                continue  # what was decided next has died with the process
            until = min(until, rest[0].at)
        if any(reached <= start < until for line in record.lines for start, _, _ in line.played):
            bad.append(f"something was heard after the pause at {decision.at:.3f}")
    return bad


def noises_are_no_words(record: Record) -> list[str]:
    """Coughs and backchannels never take the floor."""
    return [f"the floor was given up at {at:.3f}, long after anybody had spoken" for at in record.taken_for_words]


def no_word_of_the_caller_is_lost(record: Record) -> list[str]:
    """What was said to a transcriber that works, on a line that holds, is in a question that is answered."""
    plan = record.plan
    disturbed = {"digits", "key", "drop", "second_line", "crash"}
    if any(plan.stt) or disturbed & {act.kind for act in plan.acts} or not record.decisions:
        return []
    leads = {(e.turn, e.segment) for e in _facts(record, ev.SegmentReady) if e.kind in LEADS}
    answered = {e.turn for e in _facts(record, ev.SegmentStarted) if (e.turn, e.segment) not in leads}
    questions = [c for d in record.decisions for c in d.commands if isinstance(c, cmd.Classify)]
    # The last question may still be waiting for its answer when the call ends.
    asked = {word for c in questions if c.turn in answered or c is questions[-1] for word in c.text.split()}
    ends = (cmd.HangUp, cmd.CloseSession)
    end = next((d.at for d in record.decisions if any(isinstance(c, ends) for c in d.commands)), 1e9)
    return [
        f"{word}, said at {at:.3f}, was never part of a question that was answered"
        for at, word in record.said
        if at < end - LATEST_S and word not in asked
    ]


def every_turn_is_heard(record: Record) -> list[str]:
    """From a turn's confirmation to its first sound, unless the caller speaks again or the line ends."""
    bad = []
    sounds = sorted(start for line in record.lines for start, _, _ in line.played)
    ends = (ev.SpeechStarted, ev.CallerHungUp, ev.LineDropped, ev.LineAttached, ev.DigitPressed)
    for index, decision in enumerate(record.decisions):
        if not any(isinstance(command, cmd.Classify) for command in decision.commands):
            continue
        limit = decision.at + FIRST_SOUND_S + record.plan.latency_ms / 1000
        if any(decision.at <= start <= limit for start in sounds):
            continue
        rest = record.decisions[index + 1 :]
        if any(isinstance(later.entry.event, ends) and later.at <= limit for later in rest):
            continue
        if any(decision.at <= at <= limit for at in record.crashed_at):
            continue
        bad.append(f"nothing was heard within {FIRST_SOUND_S:.2f} s of the turn confirmed at {decision.at:.3f}")
    return bad


def no_long_silence(record: Record) -> list[str]:
    """While it is the agent's turn, the line is never dead for longer than the ladder allows."""
    bad = []
    sounds = sorted((start, end) for line in record.lines for start, end, _ in line.played)
    since, floor_was = 0.0, ""
    for decision in record.decisions:
        died = any(since <= at <= decision.at for at in record.crashed_at)
        if floor_was == "THINKING" and decision.at - since > LONGEST_SILENCE_S and not died:
            heard = [end for start, end in sounds if start <= decision.at and end >= since]
            quiet = decision.at - max([since, *heard])
            if quiet > LONGEST_SILENCE_S:
                bad.append(f"{quiet:.1f} s of dead line until {decision.at:.3f}")
                since = decision.at  # one silence, said once
        if decision.floor != floor_was:
            since, floor_was = decision.at, decision.floor
    return bad


def nothing_stale_is_spoken(record: Record) -> list[str]:
    """After the order to cancel a turn has reached the far end, no sound of that turn is heard.

    The rest of an answer whose line broke is another turn's, though it is made of the same words.
    """
    bad = []
    repeats = [(d.at, c) for d in record.decisions for c in d.commands if isinstance(c, cmd.Repeat)]
    for decision in record.decisions:
        for command in decision.commands:
            if not isinstance(command, cmd.CancelReply):
                continue
            reached = decision.at + record.plan.latency_ms / 1000 + 0.001
            for line in record.lines:
                again = [text for at, c in repeats if at >= decision.at for text in c.texts]
                meant = {word for text in again for word in _WORD.findall(text)}
                late = b"".join(audio for start, _, audio in line.played if start >= reached)
                for word, _ in read_back(late):
                    match = _WORD.fullmatch(word)
                    if match and int(match[1]) == command.turn and match.groups() not in meant:
                        bad.append(f"{word} was heard after turn {command.turn} was cancelled at {decision.at:.3f}")
                        break
    return bad


def nothing_is_said_twice(record: Record) -> list[str]:
    """A pause or a new voice may repeat the word that was cut, never a whole one.

    Where a voice broke off nobody can tell whether its last word was whole: the next one begins with it.
    """
    if record.crashed_at:
        return []  # a turn whose entries were lost is answered again
    heard = Counter[str]()
    for before, decision in pairwise(record.decisions):
        if isinstance(before.entry.event, ev.SegmentCut) and isinstance(decision.entry.event, ev.SegmentReady):
            heard[decision.entry.event.text.split()[0].strip(".")] -= 1
    for line in record.lines:
        for word, samples in read_back(b"".join(audio for _, _, audio in line.played)):
            heard[word] += samples >= _WHOLE - 8
    return [f"{word} was heard {count} times" for word, count in heard.items() if count > 1 and _WORD.fullmatch(word)]


def history_is_what_was_heard(record: Record) -> list[str]:
    """Word for word; where a reply was cut off, a word that was cut may count or not."""
    session, _ = _fold(record)
    if session is None or record.crashed_at:
        return []
    told = [word for m in session.state.history if m.role == "assistant" for word in m.content.split()]
    told = [word.strip(".") for word in told]
    heard_whole, heard_part = Counter[str](), Counter[str]()
    for line in record.lines:
        for word, samples in read_back(b"".join(audio for _, _, audio in line.played)):
            heard_part[word] += 1
            heard_whole[word] += samples >= _WHOLE - 8
    cuts = sum(isinstance(c, cmd.CancelReply) for d in record.decisions for c in d.commands)
    cuts += sum(isinstance(d.entry.event, ev.SegmentCut) for d in record.decisions)
    broken = 3 * sum(
        isinstance(d.entry.event, (ev.LineDropped, ev.LineAttached, ev.CallerHungUp)) for d in record.decisions
    )
    told_count = Counter(told)
    invented = sum(max(0, count - heard_part[word]) for word, count in told_count.items())
    forgotten = sum(max(0, count - told_count[word]) for word, count in heard_whole.items())
    bad = []
    if invented > cuts + broken:
        bad.append(f"{invented} words stand in history that were not heard ({cuts} cuts)")
    if forgotten > cuts + 3 * broken:
        bad.append(f"{forgotten} words were heard that do not stand in history ({cuts} cuts)")
    return bad


def one_language_at_a_time(record: Record) -> list[str]:
    """A turn is spoken in one language, the conversation's; and that changes only for turns in a row in another."""
    bad, now = [], "en-IN"
    spoken: list[str] = []
    language_of: dict[int, str] = {}
    for decision in record.decisions:
        event = decision.entry.event
        if isinstance(event, ev.TranscriptFinal) and event.language:
            spoken.append(event.language)
        for command in decision.commands:
            if isinstance(command, cmd.SetLanguage):
                now = command.language
                if spoken.count(now) < POLICY.language_switches:
                    bad.append(f"turn {command.turn} changed to {now} after {spoken}")
                spoken = []
            elif isinstance(command, (cmd.StartReply, cmd.Say)):
                language_of.setdefault(command.turn, now)
        if isinstance(event, ev.SegmentReady) and event.language != language_of.get(event.turn, event.language):
            bad.append(f"turn {event.turn} was begun in {language_of[event.turn]} and speaks {event.language}")
    return bad


def unconfirmed_words_leave_no_trace(record: Record) -> list[str]:
    """Nothing of an answer is reported before its question is confirmed, nor for other words than those."""
    bad: list[str] = []
    ahead: cmd.Speculate | None = None
    questions: dict[int, str] = {}
    for decision in record.decisions:
        event = decision.entry.event
        if isinstance(event, (ev.IntentReady, ev.PassagesReady, ev.ReplyBegun)) and event.turn not in questions:
            bad.append(f"{type(event).__name__} of turn {event.turn}, which was not confirmed")
        adopted = isinstance(event, ev.SpeculationEnded) and event.outcome == "adopted"
        if adopted and ahead is not None and ahead.text != questions.get(ahead.turn):
            bad.append(f"{questions.get(ahead.turn)!r} was asked, and the answer to {ahead.text!r} was given")
        for command in decision.commands:
            if isinstance(command, cmd.Speculate):
                ahead = command
            elif isinstance(command, cmd.Classify):
                questions[command.turn] = command.text
            elif isinstance(command, cmd.StartReply) and command.text == questions.get(command.asked_in):
                questions[command.turn] = command.text  # the answer goes on, on another line
    return bad


def effects_run_once(record: Record) -> list[str]:
    # A read that a crash broke off is done again; a write never is.
    bad = [
        f"{key} ran {count} times"
        for key, count in Counter(record.effects_run).items()
        if count > 1 + ("look_up" in key) * len(record.crashed_at)
    ]
    ordered = [command for decision in record.decisions for command in decision.commands]
    confirmed = {command.turn for command in ordered if isinstance(command, cmd.Classify)}
    # An answer goes on in another turn.
    confirmed |= {c.turn for c in ordered if isinstance(c, cmd.StartReply) and c.asked_in in confirmed}
    for decision in record.decisions:
        event = decision.entry.event
        if isinstance(event, ev.EffectRequested) and event.turn not in confirmed and decision.commands:
            bad.append(f"{event.key} belongs to turn {event.turn}, which was never confirmed")
    return bad


def always_closes(record: Record) -> list[str]:
    bad = []
    if not record.closed:
        bad.append("the call was still open at the end")
    if record.open_ears:
        bad.append(f"{record.open_ears} ears were left open")
    if record.leaked:
        bad.append(f"left running: {record.leaked}")
    if not record.decisions or not isinstance(record.decisions[-1].entry.event, ev.SessionClosed):
        bad.append("the journal does not end with SessionClosed")
    return bad


def replays_the_same(record: Record) -> list[str]:
    entries = [decision.entry for decision in record.decisions]
    bad = []
    if record.entries != entries[: len(record.entries)]:
        bad.append("the store holds other entries than were decided")
    again, why = _fold(record)
    if again is None:
        return [*bad, why]
    if record.snapshot and again.snapshot() != record.snapshot:
        bad.append("the folded state differs from the live one")
    return bad


CHECKS = (
    no_step_raises,
    one_reply_at_a_time,
    never_hangs_up_on_a_talker,
    silence_first,
    noises_are_no_words,
    no_word_of_the_caller_is_lost,
    every_turn_is_heard,
    no_long_silence,
    nothing_stale_is_spoken,
    nothing_is_said_twice,
    history_is_what_was_heard,
    one_language_at_a_time,
    unconfirmed_words_leave_no_trace,
    effects_run_once,
    always_closes,
    replays_the_same,
)


def _facts(record: Record, kind: type[E]) -> list[E]:
    return [decision.entry.event for decision in record.decisions if isinstance(decision.entry.event, kind)]


def _fold(record: Record) -> tuple[Session | None, str]:
    """The journal as it would be read from disk, folded again."""
    if record.fold is None:
        try:
            entries = [ev.decode_entry(ev.encode_entry(decision.entry)) for decision in record.decisions]
            record.fold = replay(entries), ""
        except ReplayDiverged as error:
            record.fold = None, str(error)
    return record.fold


def journal_json(record: Record) -> bytes:
    """The call's journal as JSON lines, as golden journals are kept."""
    return b"\n".join(msgspec.json.encode(decision.entry) for decision in record.decisions) + b"\n"
