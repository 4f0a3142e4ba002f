"""The plan of one simulated call: everything that will happen to it, drawn from a seed beforehand.

A plan is data, so that a violation can be shrunk: leave things out while it still happens.
"""

from __future__ import annotations

from random import Random

import msgspec


class Act(msgspec.Struct, frozen=True):
    """One thing the caller does.

    ``kind``: ask (waits for quiet, says ``words`` words), split (the same with a pause of ``after_ms``
    in the middle), interrupt (speaks ``after_ms`` into the agent's speech), cough and backchannel (the
    same, without words of weight), digits (waits for quiet), key (presses some ``after_ms`` into the
    agent's speech), silence (for ``after_ms``), drop (the connection breaks and comes back ``after_ms``
    later, never if negative), second_line, crash (the process dies, the caller
    comes back to another one after ``after_ms``), hang_up.
    """

    kind: str
    words: int = 3
    after_ms: int = 0


class Plan(msgspec.Struct, frozen=True):
    """A call. Faults are looked up by how often a provider was asked; past the end all is well."""

    seed: int
    latency_ms: int = 40
    acts: tuple[Act, ...] = ()
    stt: tuple[str, ...] = ()
    intent: tuple[str, ...] = ()
    retrieval: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    tts: tuple[str, ...] = ()
    journal: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    """What the caller's utterances are in, by turns; "" tells nothing."""
    greeting: bool = True
    spares: int = 0
    """Healthy providers behind the first model and the first voice."""


STT = ("slow", "late", "hang", "fail", "blank", "twice", "no_partials")
UNDERSTANDING = ("slow", "hang", "fail", "twice")
LLM = (
    *("slow", "hang", "fail", "cut", "empty", "hang_middle", "raise", "stubborn"),
    *("effect", "effect", "effect_slow", "goodbye"),
)
TTS = ("slow", "hang", "fail", "cut", "empty", "hang_middle", "raise", "stubborn")
JOURNAL = ("slow", "fail")


def draw(seed: int, faults: bool) -> Plan:
    """The plan of that seed. Without ``faults`` providers are well and the line holds; callers are never tame."""
    random = Random(seed)  # noqa: S311 - a simulation has to be repeatable
    acts = [_act(random, faults) for _ in range(random.randint(1, 7))]
    if random.random() < 0.6:
        acts.append(Act("hang_up", after_ms=random.randint(0, 4000)))
    return Plan(
        seed=seed,
        latency_ms=random.choice((5, 20, 40, 80, 150)),
        acts=tuple(acts),
        stt=_faults(random, STT, faults),
        intent=_faults(random, UNDERSTANDING, faults),
        retrieval=_faults(random, UNDERSTANDING, faults),
        llm=_faults(random, LLM, faults) if faults else _faults(random, ("effect", "goodbye"), True),
        tts=_faults(random, TTS, faults),
        journal=_faults(random, JOURNAL, faults),
        greeting=random.random() < 0.8,
        languages=_languages(random),
        spares=random.choice((0, 0, 1)),
    )


def _act(random: Random, faults: bool) -> Act:
    kinds = (
        ["ask"] * 8
        + ["split"] * 3
        + ["interrupt"] * 5
        + ["cough"] * 3
        + ["backchannel"] * 3
        + ["digits", "key", "silence"]
    )
    if faults:
        kinds += ["drop", "drop", "second_line", "crash"]
    kind = random.choice(kinds)
    after = {
        "ask": random.randint(0, 2500),
        "split": random.choice((100, 250, 400, 600, 900, 1400)),
        "silence": random.choice((3000, 12_000, 40_000)),
        "drop": random.choice((-1, 200, 1500, 8000)),
        "crash": random.choice((20, 500, 4000)),
        "digits": random.randint(100, 1500),
    }.get(kind, random.choice((0, 50, 150, 300, 700, 1500, 3000)))
    return Act(kind, random.randint(1, 6), after)


def _languages(random: Random) -> tuple[str, ...]:
    """Most callers keep to one language; some change it, for good or for a sentence."""
    if random.random() < 0.6:
        return ()
    return tuple(random.choice(("", "en-IN", "te-IN", "te-IN", "te-IN", "hi-IN")) for _ in range(12))


def _faults(random: Random, kinds: tuple[str, ...], faults: bool) -> tuple[str, ...]:
    if not faults:
        return ()
    bad = random.choice((0.0, 0.0, 0.1, 0.3, 0.8))
    return tuple(random.choice(kinds) if random.random() < bad else "" for _ in range(12))


def smaller(plan: Plan) -> list[Plan]:
    """Plans with one thing less, for shrinking."""
    found = [
        msgspec.structs.replace(plan, acts=plan.acts[:index] + plan.acts[index + 1 :])
        for index in range(len(plan.acts))
    ]
    if plan.spares:
        found.append(msgspec.structs.replace(plan, spares=0))
    for stage in ("languages", "stt", "intent", "retrieval", "llm", "tts", "journal"):
        faults = getattr(plan, stage)
        if any(faults):
            found.append(msgspec.structs.replace(plan, **{stage: ()}))
        found += [
            msgspec.structs.replace(plan, **{stage: (*faults[:index], "", *faults[index + 1 :])})
            for index, fault in enumerate(faults)
            if fault
        ]
    return found
