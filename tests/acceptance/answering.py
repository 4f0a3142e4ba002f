"""A language model on this machine that answers in the language its instructions name, as a real one does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from loopback_openai import Loopback

from antiphon.providers.llm.prompt import language_instruction

TOLD = re.compile(r"Answer in \w+ \(([\w-]+)\)")


class Polyglot(Loopback):
    """``replies`` by BCP 47 tag. Of a request for another language it knows nothing to say."""

    def __init__(self, replies: Mapping[str, str]) -> None:
        super().__init__()
        self.replies = dict(replies)
        assert all(TOLD.search(language_instruction(tag)) for tag in replies)

    def _pieces(self, body: Any, fault: str) -> Iterator[bytes]:
        self.reply = self.replies[language_told(body)]  # nobody else runs before it is cut into pieces
        yield from super()._pieces(body, fault)


def language_told(body: Any) -> str:
    """The tag that a request's system prompt names."""
    found = TOLD.search(body["messages"][0]["content"])
    assert found is not None, "the prompt names no language"
    return found[1]
