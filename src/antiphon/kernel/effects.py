"""The effect ledger: every act on the world is written down before it runs, and runs once per key.

The rule lives here: an effect is accepted only from the reply that is live, and only once; its
result is kept even if the reply that asked for it was interrupted.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class EffectKind(StrEnum):
    READ = "read"
    WRITE = "write"
    TERMINAL = "terminal"


class EffectStatus(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


class Effect(msgspec.Struct, array_like=True):
    """One act. ``outcome`` is its result, or the code of its failure."""

    key: str
    turn: int
    name: str
    kind: EffectKind
    arguments: str
    status: EffectStatus = EffectStatus.RUNNING
    outcome: str = ""


MAX_EFFECTS = 200
"""Effects per session; past it a request is refused with ``effect.too_many``."""


def settle(ledger: dict[str, Effect], key: str, status: EffectStatus, outcome: str) -> bool:
    """Books an outcome. False if the key is unknown or already settled: a second answer changes nothing."""
    effect = ledger.get(key)
    if effect is None or effect.status is not EffectStatus.RUNNING:
        return False
    effect.status = status
    effect.outcome = outcome
    return True


def unfinished(ledger: dict[str, Effect]) -> list[Effect]:
    return [effect for effect in ledger.values() if effect.status is EffectStatus.RUNNING]
