"""The held-out sentences, and running them through a retriever."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antiphon.kernel.events import Passage
from antiphon.kernel.history import Message
from antiphon.knowledge import load_knowledge
from antiphon.runtime.ports import Retriever

PATH = Path(__file__).parents[1] / "data" / "knowledge" / "heldout.toml"
HELD_OUT: dict[str, Any] = tomllib.loads(PATH.read_text(encoding="utf-8"))
KNOWLEDGE = load_knowledge()

Pair = tuple[str, str]


def labelled(part: str) -> list[Pair]:
    """Entry id and sentence."""
    return [(id, text) for id, texts in HELD_OUT[part].items() for text in texts]


def answered_with(id: str) -> Message:
    return Message("assistant", KNOWLEDGE.entry(id).answer)


async def run(retriever: Retriever) -> dict[str, Any]:
    """Passages for everything held out: lists beside ``labelled``, out-of-domain ones, and threads."""

    async def ask(text: str, history: Sequence[Message] = ()) -> tuple[Passage, ...]:
        return await retriever.retrieve(text, language="en-IN", history=history)

    await retriever.start()
    try:
        found: dict[str, Any] = {
            part: await asyncio.gather(*(ask(text) for _, text in labelled(part)))
            for part in ("paraphrases", "mangled")
        }
        found["out_of_domain"] = await asyncio.gather(*(ask(text) for text in HELD_OUT["out_of_domain"]["sentences"]))
        found["threads"] = []
        for thread in HELD_OUT["thread"]:
            history: list[Message] = []
            for number, (text, id) in enumerate(thread["turns"]):
                passages = await ask(text, history)
                if number:
                    found["threads"].append((text, id, passages))
                history += [Message("user", text), answered_with(id)]
        return found
    finally:
        await retriever.close()


def recall(part: str, found: list[tuple[Passage, ...]], at: int) -> float:
    """The share of sentences whose entry is among the first ``at`` passages."""
    wanted = labelled(part)
    hits = sum(id in [p.id for p in passages[:at]] for (id, _), passages in zip(wanted, found, strict=True))
    return hits / len(wanted)
