"""Stages that are services elsewhere: an address in the environment chooses them (contract rows B17 to B20)."""

from __future__ import annotations

from typing import Any

from antiphon.providers.service_wire import PLACES

KEPT = frozenset({"fallback", "limits", "voice", "voices", "knowledge"})
"""Of a stage's settings in the file: what holds whoever does the work. ``knowledge`` has the words of the greeting."""


def choose(tables: dict[str, dict[str, Any]], origins: dict[tuple[str, str], str], warnings: list[str]) -> None:
    """Gives a stage whose service's address the environment holds the provider ``http``.

    What the file says of another provider is left out. A provider that the environment or the command line names
    itself wins over the address, and whoever has set both is told.
    """
    for stage, place in PLACES.items():
        table = tables.get(stage, {})
        if not origins.get((stage, "url"), "").endswith(place.variable):
            continue
        named = origins.get((stage, "provider"))
        if named is not None and table["provider"] != "http":
            del table["url"], origins[stage, "url"]
            warnings.append(f"{place.variable} is not used: the {named} chooses {table['provider']}")
            continue
        if table.get("provider") != "http":
            for key in [key for key in table if key not in KEPT and (stage, key) not in origins]:
                del table[key]
        table["provider"] = "http"
