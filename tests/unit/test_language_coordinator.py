"""``LanguageCoordinator``: what is chosen, what is heard, and what it takes to change."""

from __future__ import annotations

import logging

import pytest

from antiphon.errors import ConfigError
from orchestrator import LanguageCoordinator

FOUR = {"te-IN": "Telugu", "hi-IN": "Hindi", "en-IN": "English", "gu-IN": "Gujarati"}


def test_a_new_one() -> None:
    coordinator = LanguageCoordinator()
    assert coordinator.selected_language == "en-IN"
    assert (coordinator.detected_language, coordinator.last_different_language) == (None, None)
    assert (coordinator.language_history, coordinator.history_size) == ([], 5)
    assert (coordinator.switch_threshold, coordinator.min_turns_before_switch) == (2, 1)
    assert (coordinator.consecutive_different_count, coordinator.turn_count) == (0, 0)
    assert LanguageCoordinator("te-IN").ensure_consistency() == "te-IN"


def test_a_choice_holds_at_once() -> None:
    coordinator = LanguageCoordinator()
    coordinator.set_language("gu-IN")
    assert coordinator.ensure_consistency() == coordinator.get_processing_language() == "gu-IN"
    assert coordinator.get_language_name() == "Gujarati"


def test_one_sentence_in_another_language_changes_nothing() -> None:
    coordinator = LanguageCoordinator()
    coordinator.set_detected_language("hi-IN")
    assert coordinator.selected_language == "en-IN"
    assert (coordinator.detected_language, coordinator.last_different_language) == ("hi-IN", "hi-IN")
    assert (coordinator.consecutive_different_count, coordinator.turn_count) == (1, 1)
    coordinator.set_detected_language("en-IN")
    assert coordinator.consecutive_different_count == 0
    coordinator.set_detected_language("hi-IN")
    assert coordinator.selected_language == "en-IN"


def test_two_in_a_row_do(caplog: pytest.LogCaptureFixture) -> None:
    coordinator = LanguageCoordinator(call_id="CA1")
    with caplog.at_level(logging.INFO):
        coordinator.set_detected_language("hi-IN")
        coordinator.set_detected_language("hi-IN")
    assert coordinator.selected_language == "hi-IN"
    assert coordinator.consecutive_different_count == 0
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("INFO", "AUTO-SWITCHED: en-IN -> hi-IN")
    assert record.__dict__["call"] == "CA1"


def test_two_different_others_do_not() -> None:
    coordinator = LanguageCoordinator()
    for heard in ("hi-IN", "te-IN", "hi-IN", "te-IN"):
        coordinator.set_detected_language(heard)
        assert coordinator.consecutive_different_count == 1
    assert coordinator.selected_language == "en-IN"


def test_the_thresholds_may_be_set() -> None:
    coordinator = LanguageCoordinator()
    coordinator.switch_threshold = 3
    coordinator.min_turns_before_switch = 4
    for _ in range(3):
        coordinator.set_detected_language("te-IN")
    assert not coordinator.get_switch_status()["can_switch"]
    assert coordinator.selected_language == "en-IN"
    coordinator.set_detected_language("te-IN")
    assert coordinator.selected_language == "te-IN"


def test_the_first_turn_may_switch_where_one_is_enough() -> None:
    coordinator = LanguageCoordinator(switch_threshold=1)
    coordinator.set_detected_language("te-IN")
    assert coordinator.selected_language == "te-IN"


def test_what_the_caller_chose_is_left_for_two_in_a_row_even_then() -> None:
    coordinator = LanguageCoordinator(switch_threshold=1)
    coordinator.set_language("hi-IN")
    coordinator.set_detected_language("te-IN")
    assert coordinator.selected_language == "hi-IN"
    coordinator.set_detected_language("te-IN")
    assert coordinator.selected_language == "te-IN"


def test_the_history_is_the_last_five() -> None:
    coordinator = LanguageCoordinator()
    for heard in ("en-IN", "hi-IN", "en-IN", "gu-IN", "en-IN", "te-IN", "en-IN"):
        coordinator.set_detected_language(heard)
    assert coordinator.language_history == ["en-IN", "gu-IN", "en-IN", "te-IN", "en-IN"]


def test_the_status() -> None:
    coordinator = LanguageCoordinator()
    coordinator.set_detected_language("hi-IN")
    assert coordinator.get_switch_status() == {
        "selected_language": "en-IN",
        "detected_language": "hi-IN",
        "consecutive_different_count": 1,
        "switch_threshold": 2,
        "can_switch": True,
        "recent_history": ["hi-IN"],
    }


def test_four_languages_and_their_names() -> None:
    coordinator = LanguageCoordinator()
    assert coordinator.languages == FOUR
    assert {tag: coordinator.get_language_name(tag) for tag in FOUR} == FOUR


@pytest.mark.parametrize("written", ["te-IN", "te", "TE-in", "te_IN"])
def test_a_tag_may_be_written_otherwise(written: str) -> None:
    coordinator = LanguageCoordinator()
    coordinator.set_language(written)
    assert coordinator.selected_language == "te-IN"


@pytest.mark.parametrize("unknown", ["ta-IN", "te-US", "", "unknown"])
def test_a_language_that_is_not_offered(unknown: str) -> None:
    coordinator = LanguageCoordinator()
    with pytest.raises(ConfigError, match=r"language\.not_offered"):
        coordinator.set_language(unknown)
    for _ in range(3):
        coordinator.set_detected_language(unknown)
    assert (coordinator.selected_language, coordinator.language_history) == ("en-IN", [])


def test_more_languages_by_setting() -> None:
    coordinator = LanguageCoordinator("ta-IN", languages=["en-IN", "ta-IN", "xx"])
    assert coordinator.languages == {"en-IN": "English", "ta-IN": "Tamil", "xx": "xx"}
    assert coordinator.get_language_name() == "Tamil"
    with pytest.raises(ConfigError, match="hi-IN"):
        LanguageCoordinator("hi-IN", languages=["en-IN"])


def test_selecting_directly_does_not_lock() -> None:
    coordinator = LanguageCoordinator(switch_threshold=1)
    coordinator.selected_language = "hi-IN"
    coordinator.turn_count = 7
    coordinator.set_detected_language("te-IN")
    assert (coordinator.selected_language, coordinator.turn_count) == ("te-IN", 8)
