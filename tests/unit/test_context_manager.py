"""``ContextManager``: the window, the system's messages, what a model is told."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import ContextManager

SYSTEM = {"role": "system", "content": "Be brief."}


def filled(turns: int, max_history: int = 10) -> ContextManager:
    manager = ContextManager(max_history)
    for number in range(1, turns + 1):
        manager.add_turn(f"question {number}", f"answer {number}", "te-IN")
    return manager


def contents(manager: ContextManager) -> list[str]:
    return [message["content"] for message in manager.conversation_history]


def test_a_new_one_is_empty() -> None:
    manager = ContextManager()
    assert (manager.max_history, manager.conversation_history, manager.current_language) == (10, [], None)
    assert (manager.user_metadata, manager.session_context) == ({}, {})
    assert manager.get_turn_count() == 0
    assert manager.get_context() == []


def test_a_turn_is_two_messages() -> None:
    manager = ContextManager()
    before = datetime.now()
    manager.add_turn("fees?", "Ninety thousand.", "hi-IN")
    question, answer = manager.conversation_history
    assert set(question) == set(answer) == {"role", "content", "language", "timestamp"}
    assert (question["role"], question["content"], question["language"]) == ("user", "fees?", "hi-IN")
    assert (answer["role"], answer["content"], answer["language"]) == ("assistant", "Ninety thousand.", "hi-IN")
    assert before <= datetime.fromisoformat(question["timestamp"]) <= datetime.now()
    assert manager.current_language == "hi-IN"
    assert manager.get_turn_count() == 1


def test_the_window_is_twice_max_history_messages() -> None:
    assert contents(filled(4, max_history=2)) == ["question 3", "answer 3", "question 4", "answer 4"]
    assert filled(4, max_history=2).get_turn_count() == 2


def test_max_history_may_change_and_may_be_nothing() -> None:
    manager = filled(5)
    manager.max_history = 1
    manager.add_turn("last", "one", "en-IN")
    assert contents(manager) == ["last", "one"]
    assert filled(3, max_history=0).conversation_history == []
    with pytest.raises(ValueError, match="max_history is -1"):
        ContextManager(-1)


def test_messages_of_the_system_stay_and_are_never_doubled() -> None:
    manager = ContextManager(max_history=2)
    manager.conversation_history.append(SYSTEM)
    for number in range(5):
        manager.add_turn(f"q{number}", f"a{number}", "en-IN")
        assert [each for each in manager.conversation_history if each["role"] == "system"] == [SYSTEM]
    manager.conversation_history.append(dict(SYSTEM))
    manager.add_turn("q5", "a5", "en-IN")
    assert contents(manager) == ["Be brief.", "q4", "a4", "q5", "a5"]
    assert [each["role"] for each in manager.get_context()].count("system") == 1


@given(st.integers(1, 5), st.lists(st.sampled_from(["turn", "user", "assistant", "system"]), max_size=30))
def test_the_window_holds_whatever_is_in_it(max_history: int, steps: list[str]) -> None:
    manager = ContextManager(max_history)
    systems: set[str] = set()
    for number, step in enumerate([*steps, "turn"]):
        if step == "turn":
            manager.add_turn(f"q{number}", f"a{number}", "en-IN")
            recent = [each for each in manager.conversation_history if each["role"] != "system"]
            assert len(recent) <= max_history * 2
            assert [each["content"] for each in recent[-2:]] == [f"q{number}", f"a{number}"]
        else:
            manager.conversation_history.append({"role": step, "content": f"{step} {number}"})
            systems |= {f"{step} {number}"} if step == "system" else set()
    kept = [each["content"] for each in manager.conversation_history if each["role"] == "system"]
    assert sorted(kept) == sorted(systems)
    roles = [each["role"] for each in manager.get_context()]
    assert roles == sorted(roles, key=lambda role: role != "system"), "the system comes first"


def test_the_context_has_role_and_content_alone() -> None:
    assert filled(1).get_context("Be kind.") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "answer 1"},
    ]


def test_the_systems_message_of_the_history_wins() -> None:
    manager = filled(1)
    manager.conversation_history.append(SYSTEM)
    assert manager.get_context("Be kind.")[0] == SYSTEM
    assert len(manager.get_context("Be kind.")) == 3


def test_metadata_is_a_second_message_of_the_system() -> None:
    manager = filled(1)
    assert manager.get_context("Be kind.", include_metadata=True) == manager.get_context("Be kind.")
    manager.user_metadata["name"] = "రాధ"
    manager.session_context["since"] = datetime(2026, 1, 1)
    first, second, *_ = manager.get_context("Be kind.", include_metadata=True)
    assert first["content"] == "Be kind."
    assert second["role"] == "system"
    assert json.loads(second["content"].partition("\n")[2]) == {
        "user_metadata": {"name": "రాధ"},
        "session_context": {"since": "2026-01-01 00:00:00"},
    }
    assert "రాధ" not in str(manager.get_context("Be kind."))


def test_clearing_forgets_what_was_said_and_not_who_the_caller_is() -> None:
    manager = filled(3)
    manager.user_metadata["name"] = "Radha"
    manager.clear_history()
    assert (manager.conversation_history, manager.get_turn_count()) == ([], 0)
    assert manager.user_metadata == {"name": "Radha"}


def test_a_turn_can_be_taken_back_whole() -> None:
    manager = filled(2, max_history=2)
    before = contents(manager)
    manager.add_turn("never", "heard", "gu-IN")
    manager.take_back_turn()
    assert contents(manager) == before, "also what had left the window for it"
    assert manager.current_language == "te-IN"
    manager.take_back_turn()
    assert contents(manager) == before
