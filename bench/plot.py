"""The figures as a picture: an SVG written by hand, so that the benchmark needs no drawing library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise

import msgspec

from bench.report import Figure, Limit, Report, Summary

COLOURS = {
    "antiphon": "#b5562f",
    "livekit": "#2f6f8f",
    "livekit-vad": "#7fb0c8",
    "pipecat": "#6b4c9a",
    "pipecat-tuned": "#b09acb",
    "floor-c": "#3d7a4e",
    "floor-picows": "#9bbf8a",
}
INK, FAINT, PAPER = "#1f2933", "#d8d5cc", "#fbfaf7"
WIDTH, HEIGHT = 1080, 420
FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif"


class Panel(msgspec.Struct, frozen=True):
    """A chart's place in the picture, and the values at its edges; both axes are logarithmic."""

    x: float
    y: float
    width: float
    height: float
    across: tuple[float, float]
    up: tuple[float, float]

    def px(self, value: float) -> float:
        return self.x + self.width * _share(value, self.across)

    def py(self, value: float) -> float:
        return self.y + self.height * (1 - _share(value, self.up))


def _share(value: float, edges: tuple[float, float]) -> float:
    low, high = (math.log10(edge) for edge in edges)
    return min(1.0, max(0.0, (math.log10(max(value, 1e-9)) - low) / (high - low)))


def draw(report: Report) -> str:
    """The whole picture: cost and first audio over the number of calls, and the calls that a core carries."""
    loads = [s for s in report.summaries if s.part == "load"]
    title = f"Antiphon {report.antiphon} and its peers, {report.at[:10]}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="{FONT}" '
        f'font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="{PAPER}"/>',
        *_cost(loads),
        *_waits([s for s in loads if not s.contender.startswith("floor")]),
        *_limits(report.limits),
        *_legend(list(dict.fromkeys(s.contender for s in loads))),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _cost(loads: Sequence[Summary]) -> Iterator[str]:
    panel = Panel(70, 56, 300, 270, (1, 1000), (0.2, 200))
    yield from _frame(panel, "CPU, ms per call-second", (0.3, 1, 3, 10, 30, 100))
    yield from _lines(panel, loads, lambda s: s.cpu_ms)


def _waits(loads: Sequence[Summary]) -> Iterator[str]:
    panel = Panel(440, 56, 300, 270, (1, 1000), (10, 3000))
    yield from _frame(panel, "first audio p99 less endpointing, ms", (10, 30, 100, 300, 1000, 3000))
    yield from _lines(panel, loads, lambda s: s.added_p99)


def _frame(panel: Panel, title: str, ticks: Sequence[float]) -> Iterator[str]:
    yield text(panel.x, panel.y - 18, title, weight="700")
    for value in ticks:
        y = panel.py(value)
        yield f'<path d="M{panel.x} {y:.1f}h{panel.width}" stroke="{FAINT}"/>'
        yield text(panel.x - 8, y + 4, f"{value:g}", anchor="end", size=11)
    for calls in (1, 10, 100, 1000):
        x = panel.px(calls)
        yield f'<path d="M{x:.1f} {panel.y}v{panel.height}" stroke="{FAINT}"/>'
        yield text(x, panel.y + panel.height + 18, f"{calls}", anchor="middle", size=11)
    yield text(panel.x + panel.width / 2, panel.y + panel.height + 38, "concurrent calls", anchor="middle", size=11)


def _lines(panel: Panel, summaries: Sequence[Summary], value: Callable[[Summary], Figure]) -> Iterator[str]:
    """A line for each contender, with the spread of the rounds; hollow where it did not carry its calls."""
    for name in dict.fromkeys(s.contender for s in summaries):
        colour = COLOURS.get(name, INK)
        mine = [(s, value(s)) for s in summaries if s.contender == name]
        points = [(panel.px(s.calls), panel.py(v.median)) for s, v in mine]
        for (x1, y1), (x2, y2) in pairwise(points):
            yield f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}" stroke-width="2" fill="none"/>'
        for (s, v), (x, y) in zip(mine, points, strict=True):
            low, high = panel.py(v.low), panel.py(v.high)
            yield f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="1.2"/>'
            hollow = not (s.carried or name.startswith("floor"))
            fill = PAPER if hollow else colour
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'


def _limits(limits: Sequence[Limit]) -> Iterator[str]:
    left, top, width = 800.0, 56.0, 200.0
    if not limits:
        return
    yield text(left, top - 18, "calls that one core carries", weight="700")
    most = max((each.calls for each in limits), default=1) or 1
    for place, each in enumerate(limits):
        y = top + 8 + 52 * place
        length = width * each.calls / most
        colour = COLOURS.get(each.contender, INK)
        more = "" if each.broke_at else "+"
        yield text(left, y, each.contender, size=12)
        yield f'<rect x="{left}" y="{y + 7}" width="{max(length, 1):.1f}" height="18" rx="3" fill="{colour}"/>'
        yield text(left + length + 8, y + 21, f"{each.calls}{more}", weight="700")


def _legend(names: Sequence[str]) -> Iterator[str]:
    x = 70.0
    for name in names:
        yield f'<circle cx="{x}" cy="{HEIGHT - 24}" r="5" fill="{COLOURS.get(name, INK)}"/>'
        yield text(x + 10, HEIGHT - 20, name, size=12)
        x += 34 + 7.2 * len(name)


def text(x: float, y: float, said: str, *, anchor: str = "start", size: float = 13, weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" font-size="{size:g}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(said)}</text>'
    )
