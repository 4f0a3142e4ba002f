"""How the result of a replay reads on a terminal."""

from __future__ import annotations

from typing import Any

from antiphon.observe.render import clean


def line_of(result: dict[str, Any]) -> str:
    head = clean(result["session"])
    if result["identical"]:
        return f"{head}: identical, {result['entries']} entries"
    if "error" in result:
        return f"{head}: cannot be replayed: {clean(result['error'])}"
    where = result["diverged"]
    decided = "\n".join(f"      {clean(command)}" for command in where["decided_now"]) or "      nothing"
    return (
        f"{head}: diverged at entry {where['seq']} of {result['entries']} ({where['at_ms']} ms, {where['floor']})\n"
        f"    event: {clean(where['event'])}\n"
        f"    decided then: digest {where['then']} (only the digest is kept)\n"
        f"    decides now: digest {where['now']}\n{decided}"
    )
