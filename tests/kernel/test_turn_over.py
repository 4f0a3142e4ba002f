"""A caller's turn whose end is told from outside (B10): no silence is waited for, wherever the floor is."""

from __future__ import annotations

from by_hand import Play, greeted

from antiphon.kernel import events as ev

OVER = ev.SpeechStopped(turn_over=True)


def test_the_turn_ends_at_once() -> None:
    play = greeted()
    play.tell(ev.SpeechStarted())
    play.rows(
        (300, ev.TranscriptPartial(1, "what are the fees"), "LISTENING", []),
        (10, OVER, "LISTENING", ["FinishUtterance 1"]),
        (0, ev.TranscriptFinal(1, "what are the fees"), "THINKING", ["Classify 2", "Retrieve 2"]),
    )
    assert play.history[-1] == "user: what are the fees"


def test_unfinished_words_are_not_waited_for_either() -> None:
    play = greeted()
    play.tell(ev.SpeechStarted())
    play.tell(ev.TranscriptPartial(1, "what are the fees and"))
    play.tell(OVER)
    play.rows((0, ev.TranscriptFinal(1, "what are the fees and"), "THINKING", ["Classify 2", "Retrieve 2"]))


def interrupted() -> Play:
    play = greeted()
    play.answering("The fee is two lakh rupees.")
    play.rows((500, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 2"]))
    return play


def test_words_over_the_agent_are_a_turn_as_soon_as_they_are_over() -> None:
    play = interrupted()
    number = play.state.utterance
    play.rows(
        (100, OVER, "INTERRUPT", [f"FinishUtterance {number}"]),
        (50, ev.TranscriptFinal(number, "no, the hostel"), "LISTENING", ["CancelReply 2"]),
    )
    assert play.tell(ev.PlayoutStopped(2, 0, 5)) == []
    play.rows((0, None, "THINKING", ["Classify 3", "Retrieve 3"]))


def test_a_voice_without_words_gives_the_floor_back() -> None:
    play = interrupted()
    number = play.state.utterance
    play.rows(
        (100, OVER, "INTERRUPT", [f"FinishUtterance {number}"]),
        (50, ev.TranscriptFinal(number, ""), "SPEAKING", ["ResumePlayout 2"]),
    )


def test_the_next_turn_has_its_own_end() -> None:
    play = interrupted()
    play.tell(OVER)
    play.tell(ev.TranscriptFinal(play.state.awaited, "no, the hostel"))
    play.tell(ev.PlayoutStopped(2, 0, 5))
    play.wait(0)
    assert play.floor == "THINKING"
    play.rows((100, ev.SpeechStarted(), "INTERRUPT", ["PausePlayout 3"]))
    number = play.state.utterance
    play.rows(
        (500, ev.TranscriptPartial(number, "wait stop"), "LISTENING", ["CancelReply 3"]),
        (100, ev.SpeechStopped(hangover_ms=200), "LISTENING", []),
        (199, None, "LISTENING", []),
        (1, None, "LISTENING", [f"FinishUtterance {number}"]),
    )
