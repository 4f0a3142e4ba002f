"""The lines of a call that goes on, from events written by hand."""

import io
import re

import pytest
from rich.console import Console
from sample_by_hand import FIRST, GREETING, INTERRUPTED, MURMUR, WHOLE, Script, folded, heard_out

from antiphon.cli.live_scene import Scene
from antiphon.kernel import events as ev
from antiphon.kernel.state import Floor


def shown(script: Script, *, moving: bool = False, width: int = 110) -> tuple[str, Scene]:
    """What is on the screen after these events, and the scene."""
    out = io.StringIO()
    scene = Scene(Console(file=out, width=width, color_system=None), moving=moving)
    for entry, commands in folded(script):
        scene.read(entry, commands)
    return out.getvalue(), scene


def told(text: str) -> list[str]:
    """The lines without their clock and floor."""
    return [line[28:].rstrip() for line in text.splitlines() if line.strip()]


def test_a_question_is_shown_with_its_intent_and_the_answer_with_its_source():
    text, scene = shown([*GREETING, *FIRST, *heard_out(2460, 2, 2)])
    lines = text.splitlines()
    asked = next(line for line in lines if "what is the fee " in line and "intent" in line)
    assert re.match(r"  0:02\.\d  THINKING   caller what is the fee  \(2 partials, intent question 0\.97\)", asked)
    said = [line for line in lines if " agent " in line]
    assert [line[28:] for line in said] == ["Hello.  (greeting)", "The fee is ten rupees.", "It is paid once."]
    assert "SPEAKING" in said[1]
    assert "-- answered from Fees, page 1" in text
    assert scene.floor is Floor.LISTENING


def test_the_parts_of_a_turns_latency_sum_to_its_total():
    text, _ = shown([*GREETING, *FIRST])
    parts = [int(ms) for ms in re.findall(r"(\d+) ms \|", text)]
    [total] = re.findall(r"to first audio +(\d+) ms", text)
    assert sum(parts) == int(total) == 460
    assert len(parts) > 3
    greeting_only, _ = shown(GREETING)
    assert "to first audio" not in greeting_only


def test_a_latency_is_told_once_and_while_the_agent_still_speaks():
    text, _ = shown([*GREETING, *FIRST])
    assert text.count("to first audio") == 1
    assert "answered from" not in text
    text, _ = shown([*GREETING, *FIRST, *heard_out(2460, 2, 2)])
    assert text.count("to first audio") == 1


def test_a_murmur_is_said_not_to_have_interrupted():
    text, _ = shown([*GREETING, *FIRST, *MURMUR])
    assert "-- the caller makes a sound: playback is paused" in text
    assert '-- backchannel "aha" did not interrupt: the agent goes on after 0.5 s' in text


def test_a_noise_is_said_not_to_have_interrupted():
    cough: Script = [(3000, ev.SpeechStarted(2950)), (3300, ev.SpeechStopped(3100, 200))]
    cough += [(3320, ev.TranscriptFinal(2, "", "en-IN"))]
    text, _ = shown([*GREETING, *FIRST, *cough])
    assert "-- a noise did not interrupt: the agent goes on after 0.3 s" in text
    assert "-- nothing was understood" in text


def test_an_interruption_says_after_what_and_what_was_not_heard():
    text, scene = shown([*GREETING, *FIRST, *MURMUR, *heard_out(4000, 2, 2), *INTERRUPTED], moving=True)
    assert '-- interrupted after "The fee is" by "when does"' in text
    assert "The fee is [not heard: ten rupees.]" in text
    assert scene.floor is Floor.LISTENING


def test_an_interruption_before_the_first_word():
    script = [*GREETING, *FIRST, (2500, ev.SpeechStarted(2480)), (2700, ev.TranscriptPartial(2, "wait please"))]
    text, _ = shown([*script, (2701, ev.PlayoutStopped(2))])
    assert '-- interrupted before a word of it was heard by "wait please"' in text


def test_without_a_line_that_moves_what_is_spoken_stands_in_order_of_time():
    text, _ = shown(WHOLE)
    at = [float(m) + 60 * int(s) for s, m in re.findall(r"^ +(\d+):(\d+\.\d) ", text, re.MULTILINE)]
    assert at == sorted(at)
    assert "caller when does ..." in text, "partial transcripts are lines"
    assert text.count("agent  It is paid once.") == 1


def test_with_a_line_that_moves_only_what_is_finished_is_printed():
    text, _ = shown([*GREETING, *FIRST], moving=True)
    assert "..." not in text
    assert "The fee is ten rupees." not in text, "it is still being spoken"
    text, _ = shown([*GREETING, *FIRST, *heard_out(2460, 2, 2)], moving=True)
    assert "The fee is ten rupees." in text


def test_partial_lines_are_thinned():
    partials: Script = [(1000 + 20 * n, ev.TranscriptPartial(1, f"word{n}")) for n in range(50)]
    text, _ = shown([*GREETING, (900, ev.SpeechStarted(900)), *partials])
    assert 2 <= text.count("word") <= 4


def test_the_end_of_a_call():
    text, scene = shown(WHOLE)
    assert told(text)[-3:] == ["-- the agent hangs up", "-- the caller hangs up", "-- closed: agent"]
    assert scene.is_over
    assert not shown([*GREETING, *FIRST])[1].is_over


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([(700, ev.LineDropped("line.lost"))], "-- the line is lost: line.lost"),
        ([(700, ev.LineDropped("line.lost")), (900, ev.LineAttached("twilio", 2))], "-- the caller is back"),
        ([(700, ev.DigitPressed("5"))], "caller presses 5"),
        ([(1000, ev.SpeechStarted(900)), (1500, ev.TranscriptionFailed(1, "stt.gone"))], "!! stt failed: stt.gone"),
        ([*FIRST, (2600, ev.StageFailed(2, 1, "tts", "tts.gone", "espeak"))], "!! tts failed: tts.gone (espeak)"),
        ([*FIRST, (2600, ev.PlayoutStarved(2))], "-- the line ran dry: the reply is slower than its voice"),
    ],
)
def test_what_else_happens(script: Script, expected: str):
    text, _ = shown([*GREETING, *script])
    assert expected in text


def test_a_callers_words_cannot_steer_the_terminal():
    evil = "\x1b]0;owned\x07what \x1b[31mis\r\n it"
    script = [(at, ev.TranscriptFinal(1, evil, "en-IN") if isinstance(e, ev.TranscriptFinal) else e) for at, e in FIRST]
    script.insert(2, (1600, ev.TranscriptPartial(1, evil)))
    text, scene = shown([*GREETING, *sorted(script, key=lambda item: item[0])])
    assert not set(text) & {"\x1b", "\x07", "\r"}
    assert "\x1b" not in scene.status(2500).plain


# -- the line that moves ------------------------------------------------------------------------


def status(script: Script, at: int, width: int = 110) -> str:
    return shown(script, moving=True, width=width)[1].status(at).plain


def test_the_moving_line_shows_the_partial_transcript():
    assert status([*GREETING, *FIRST[:2]], 1600).rstrip().endswith("LISTENING  caller what is ...")
    assert status([*GREETING, *FIRST[:6]], 2440).rstrip().endswith("THINKING   agent  is about to answer ...")


def test_the_moving_line_shows_how_far_the_agent_is():
    _, scene = shown([*GREETING, *FIRST], moving=True)
    early, late = scene.status(2560), scene.status(3260)
    assert early.plain.rstrip().endswith("SPEAKING   agent  The fee is ten rupees.")

    def bright(line) -> str:
        [span] = [span for span in line.spans if span.style == "bold"]
        return line.plain[span.start : span.end]

    assert bright(early) == "T", "0.1 s at 15 characters a second"
    assert bright(late) == "The fee is t"
    assert late.plain == early.plain[:8].replace("0:02.5", "0:03.2") + early.plain[8:]


def test_the_moving_line_stands_still_while_playback_is_paused():
    _, scene = shown([*GREETING, *FIRST, *MURMUR[:2]], moving=True)
    before, after = scene.status(3300), scene.status(3450)
    assert "INTERRUPT" in before.plain
    assert "aha ... paused: The fee is ten rupees." in before.plain
    assert before.spans == after.spans
    _, scene = shown([*GREETING, *FIRST, *MURMUR], moving=True)
    bold = next(span for span in scene.status(3520).spans if span.style == "bold")
    assert bold.end - bold.start == 8, "540 ms were heard before the pause; it goes on from there"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_moving_line_is_one_line(width: int):
    long = [*GREETING, *FIRST]
    long[-2:] = [(2459, ev.ReplyGenerated(2, 1, 2)), (2460, ev.SegmentStarted(2, 0))]
    for at in range(2460, 6000, 500):
        assert len(status(long, at, width)) < width
