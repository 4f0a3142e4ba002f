"""Which language a conversation is held in: a façade over ``antiphon.kernel.language``, where the rule is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import Any

from antiphon.errors import ConfigError
from antiphon.kernel import language as rule
from antiphon.kernel.policy import Policy
from antiphon.languages import DEFAULT_LANGUAGE, load_languages
from antiphon.providers.llm.prompt import language_name

LANGUAGES = ("te-IN", "hi-IN", "en-IN", "gu-IN")
"""Those that are offered unless others are named (A41)."""

_POLICY = Policy()

log = logging.getLogger("antiphon.orchestrator")


class LanguageCoordinator:
    """One conversation's language. ``languages`` are the BCP 47 tags offered, ``LANGUAGES`` if none are named.

    A tag is also found by its first part: ``te`` means ``te-IN``. What ``set_language`` chose is left only for
    detections in a row that confirm each other (X42). Raises ``ConfigError`` (``language.not_offered``) for a
    ``default_language`` that is not offered and for ``languages`` that are no list of tags.
    """

    def __init__(
        self,
        default_language: str = DEFAULT_LANGUAGE,
        *,
        languages: Iterable[str] | None = None,
        switch_threshold: int = _POLICY.language_switches,
        min_turns_before_switch: int = _POLICY.language_min_turns,
        call_id: str = "",
    ) -> None:
        self.languages: dict[str, str] = {tag: _name(tag) for tag in _tags(languages)}
        """Tag to English name."""
        self.switch_threshold = switch_threshold
        """Detections in a row that change the language."""
        self.min_turns_before_switch = min_turns_before_switch
        self.history_size = rule.HISTORY
        self._told = {"call": call_id}
        self._tongue = rule.Tongue(selected=self.offered(default_language))

    # -- what happens -----------------------------------------------------------------------------

    def set_language(self, language_code: str) -> None:
        """The caller's own choice, in a menu or in words: holds at once. Raises ``ConfigError`` as above."""
        rule.choose(self._tongue, self.offered(language_code))

    def set_detected_language(self, language_code: str) -> None:
        """What the caller was heard to speak in one turn; enough of it in a row changes the language (A38).

        A language that is not offered says nothing.
        """
        language = self._find(language_code)
        if not language:
            log.debug("%r was heard, which is not offered", language_code, extra=self._told)
            return
        switch = rule.detect(
            self._tongue,
            language,
            switches=self.switch_threshold,
            min_turns=self.min_turns_before_switch,
            unlock=_POLICY.language_unlock,
        )
        if switch is not None:
            log.info("AUTO-SWITCHED: %s -> %s", switch.previous, switch.language, extra=self._told)

    # -- what holds -------------------------------------------------------------------------------

    def ensure_consistency(self) -> str:
        """The one language that hearing, answering and speaking use now."""
        return self._tongue.selected

    def get_processing_language(self) -> str:
        """The same as ``ensure_consistency``."""
        return self._tongue.selected

    def get_language_name(self, language_code: str | None = None) -> str:
        """The English name of a language, of the present one if none is named."""
        tag = language_code or self._tongue.selected
        return self.languages.get(self._find(tag)) or _name(tag)

    def get_switch_status(self) -> dict[str, Any]:
        """What speaks for another language, for showing (A20)."""
        return {
            "selected_language": self.selected_language,
            "detected_language": self.detected_language,
            "consecutive_different_count": self.consecutive_different_count,
            "switch_threshold": self.switch_threshold,
            "can_switch": self.turn_count >= self.min_turns_before_switch,
            "recent_history": [*self.language_history],
        }

    def offered(self, language_code: str) -> str:
        """The tag as it is offered. Raises ``ConfigError`` (``language.not_offered``)."""
        found = self._find(language_code)
        if not found:
            raise ConfigError(
                f"the language {language_code!r} is not offered: take one of {', '.join(self.languages)}, "
                "or name more in `languages`",
                code="language.not_offered",
            )
        return found

    def _find(self, language_code: str) -> str:
        """The tag as it is offered; "" if it is not."""
        wanted = str(language_code or "").replace("_", "-").lower()
        tags = [*self.languages]
        exact = [tag for tag in tags if tag.lower() == wanted]
        near = [tag for tag in tags if "-" not in wanted and tag.lower().partition("-")[0] == wanted]
        return (exact or near or [""])[0]

    # -- the rule's own figures, by the names they have here (A36) ------------------------------------

    @property
    def selected_language(self) -> str:
        return self._tongue.selected

    @selected_language.setter
    def selected_language(self, language_code: str) -> None:
        """Without the lock that comes with the caller's own choice."""
        self._tongue.selected = self.offered(language_code)

    @property
    def detected_language(self) -> str | None:
        """What was heard last."""
        return self._tongue.detected or None

    @property
    def language_history(self) -> list[str]:
        """What was heard in the last ``history_size`` turns, the newest last."""
        return self._tongue.history

    @property
    def last_different_language(self) -> str | None:
        return self._tongue.different or None

    @property
    def consecutive_different_count(self) -> int:
        return self._tongue.in_a_row

    @property
    def turn_count(self) -> int:
        """Turns in which a language was heard."""
        return self._tongue.turns

    @turn_count.setter
    def turn_count(self, turns: int) -> None:
        self._tongue.turns = turns


def _tags(languages: Iterable[str] | None) -> tuple[str, ...]:
    tags = LANGUAGES if languages is None else (languages,) if isinstance(languages, str) else tuple(languages)
    if not tags or not all(isinstance(tag, str) and tag for tag in tags):
        text = f'languages is {languages!r}: name at least one tag, such as ["en-IN", "hi-IN"]'
        raise ConfigError(text, code="language.not_offered")
    return tags


@cache
def _names() -> dict[str, str]:
    return {tag: language.english_name for tag, language in load_languages().items()}


def _name(tag: str) -> str:
    return _names().get(tag) or language_name(tag)
