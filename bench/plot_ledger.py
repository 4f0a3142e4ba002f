"""The ledger as a picture: a bar for each way to go about a turn, from the end of speech to the first sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from bench.ledger import TOTAL_MS, Row
from bench.plot import FAINT, FONT, INK, PAPER, text

COLOURS = {
    "stt": "#2f6f8f",
    "endpointing": "#c9c4b8",
    "understanding": "#6b4c9a",
    "first_text": "#b5562f",
    "synthesis": "#3d7a4e",
    "antiphon": "#1f2933",
}
NAMES = {
    "stt": "recogniser",
    "endpointing": "endpointing",
    "understanding": "intent and retrieval",
    "first_text": "model to first token",
    "synthesis": "voice to first chunk",
    "antiphon": "Antiphon and the line",
}
LEFT, TOP, BAR, STEP, WIDTH = 190.0, 66.0, 24.0, 40.0, 1080
SCALE = 1.5
"""Pixels a ms."""


def draw(rows: Sequence[Row], at: str) -> str:
    """The picture. What Antiphon and the line take is at the end of each bar, wherever in the turn it was spent."""
    height = TOP + STEP * len(rows) + 66
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" font-family="{FONT}" '
        f'font-size="13">',
        f"<title>{escape(f'Where the milliseconds of a turn go, {at[:10]}')}</title>",
        f'<rect width="{WIDTH}" height="{height:g}" rx="14" fill="{PAPER}"/>',
        text(LEFT, 30, "from the end of speech to the first sound, ms: medians, and p99 as a line", weight="700"),
        *_scale(len(rows)),
    ]
    for place, row in enumerate(rows):
        parts += _bar(row, TOP + STEP * place)
    return "\n".join([*parts, *_legend(height - 22), "</svg>\n"])


def _scale(rows: int) -> Iterator[str]:
    bottom = TOP + STEP * rows
    for ms in (0, 100, 200, 300, 400, 500):
        x = LEFT + SCALE * ms
        yield f'<path d="M{x:.1f} {TOP - 14:g}V{bottom:g}" stroke="{FAINT}"/>'
        yield text(x, TOP - 18, f"{ms}", anchor="middle", size=11)
    x = LEFT + SCALE * TOTAL_MS
    yield f'<path d="M{x:.1f} {TOP - 14:g}V{bottom:g}" stroke="{INK}" stroke-dasharray="4 4"/>'
    yield text(x, bottom + 14, f"budget {TOTAL_MS}", anchor="middle", size=11)


def spans(row: Row) -> dict[str, float]:
    """The bar's pieces, ms; their sum is the median of the whole.

    An answer begun ahead takes its time while the turn's end is waited for: then the server's ledger shows what of it
    was left.
    """
    shown = {name: row.lines[name].p50 for name in COLOURS if name in row.lines and name != "antiphon"}
    return {**shown, "antiphon": max(0.0, row.visits.waits.p50 - sum(shown.values()))}


def _bar(row: Row, y: float) -> list[str]:
    x = LEFT
    sessions = row.visits.sessions
    drawn = [
        text(LEFT - 12, y + 17, f"{row.way}, {sessions} session{'s' * (sessions > 1)}", anchor="end", size=12),
    ]
    for name, ms in spans(row).items():
        width = SCALE * ms
        drawn.append(f'<rect x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{BAR:g}" fill="{COLOURS[name]}"/>')
        x += width
    late = LEFT + SCALE * row.visits.waits.p99
    drawn.append(f'<path d="M{x:.1f} {y + BAR / 2:g}H{late:.1f}M{late:.1f} {y + 6:g}v{BAR - 12:g}" stroke="{INK}"/>')
    drawn.append(text(max(x, late) + 8, y + 17, f"{row.visits.waits.p50:.0f}", weight="700"))
    return drawn


def _legend(y: float) -> Iterator[str]:
    x = LEFT
    for name, said in NAMES.items():
        yield f'<rect x="{x:.1f}" y="{y - 10:g}" width="11" height="11" rx="2" fill="{COLOURS[name]}"/>'
        yield text(x + 16, y, said, size=12)
        x += 36 + 6.3 * len(said)
