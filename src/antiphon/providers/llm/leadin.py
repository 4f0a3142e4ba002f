"""What a model writes before its answer and nobody should hear.

Reasoning models whose server does not split their reasoning off begin with ``<think> ... </think>``;
a model that is asked to go on from half an answer often begins by repeating that half.
"""

from __future__ import annotations

_OPEN = "<think>"
_CLOSE = "</think>"


class LeadIn:
    """Passes a stream of text on without a leading thought and without a leading repetition of ``said``."""

    __slots__ = ("_held", "_said", "_step", "repeated", "thinking")

    def __init__(self, said: str = "") -> None:
        self._said = said.strip()
        self._held = ""
        self._step = 0
        self.thinking = False
        """True while a thought is being left out: the model works, but nothing useful came yet."""
        self.repeated = False
        """True once all of ``said`` was left out: with nothing after it, the reply had been heard whole."""

    def feed(self, text: str) -> str:
        """What of the text so far may be spoken now; ``""`` while it cannot be told yet."""
        if self._step == 2:
            return text
        self._held += text
        if self._step == 0 and not self._thought():
            return ""
        return self._repetition()

    def end(self) -> str:
        """The stream is over: what was held back to see whether it would become a thought or a repetition."""
        held = "" if self.thinking else self._held
        repeated = self._said and held and self._said.startswith(held.strip())
        self._held = ""
        return "" if repeated else held

    def _thought(self) -> bool:
        """True once it is known that no thought, or the end of one, has been seen."""
        start = self._held.lstrip()
        if not self.thinking:
            if len(start) < len(_OPEN) and _OPEN.startswith(start):
                return False
            self.thinking = start.startswith(_OPEN)
        if self.thinking:
            _, closed, rest = start.partition(_CLOSE)
            if not closed:
                self._held = (
                    _OPEN + start[max(len(_OPEN), len(start) - len(_CLOSE)) :]
                )  # all that finding the end needs
                return False
            self.thinking = False
            self._held = rest.lstrip()
        self._step = 1
        return True

    def _repetition(self) -> str:
        start = self._held.lstrip()
        if not start or (len(start) < len(self._said) and self._said.startswith(start)):
            return ""
        self._step = 2
        self._held = ""
        self.repeated = bool(self._said) and start.startswith(self._said)
        return start.removeprefix(self._said)
