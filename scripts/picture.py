"""Draws ``docs/architecture.svg``: one call, its kernel, and the journal that holds both together."""

from __future__ import annotations

from xml.sax.saxutils import escape

WIDTH, HEIGHT = 960, 520
INK, SOFT, PAPER = "#1f2933", "#5b6770", "#fbfaf7"
EAR, MIND, MOUTH, TAPE = "#2f6f8f", "#6b4c9a", "#b5562f", "#3d7a4e"
"""What comes from the caller, what decides, what goes to the caller, what is kept."""

ENTRIES = (
    ("SpeechStarted", EAR),
    ("TranscriptFinal", EAR),
    ("PassagesReady", MIND),
    ("SegmentStarted", MOUTH),
    ("SpeechStarted", EAR),
    ("PlayoutStopped", MOUTH),
)


def draw() -> str:
    """The picture as SVG text. Its own paper lies under it, so that it reads on light and dark pages."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif" font-size="15">',
        "<title>How a call runs through Antiphon</title>",
        # A tip for each colour: taking it from the line (context-stroke) is not understood everywhere.
        *(
            f'<defs><marker id="{_tip(colour)}" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto-start-reverse">'
            f'<path d="M0 0.8 9 5 0 9.2z" fill="{colour}"/></marker></defs>'
            for colour in (EAR, MIND, MOUTH, TAPE)
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="{PAPER}"/>',
        *_caller(),
        *_hearing(),
        *_deciding(),
        *_speaking(),
        *_journal(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _caller() -> list[str]:
    return [
        _box(28, 62, 116, 246, SOFT, "Caller", ("telephone", "(Twilio Media", "Streams), or", "antiphon call")),
        *(_wave(86, 205 + 26 * index, colour) for index, colour in ((0, EAR), (2, MOUTH))),
    ]


def _hearing() -> list[str]:
    return [
        _label(204, 44, "what the caller says", EAR),
        _box(204, 62, 170, 72, EAR, "Line, voice gate", ("decode, 20 ms frames,", "speech or not")),
        _box(440, 62, 170, 72, EAR, "Speech to text", ("partial and final words",)),
        _arrow((144, 98), (204, 98), EAR),
        _arrow((374, 98), (440, 98), EAR),
        _arrow((525, 134), (525, 172), EAR, "events", (535, 158)),
        _path("M289 134 V196 H392", EAR),
    ]


def _deciding() -> list[str]:
    return [
        f'<rect x="392" y="172" width="266" height="88" rx="12" fill="{MIND}"/>',
        _text(525, 199, "Kernel", "#fff", weight=700, size=17, anchor="middle"),
        _text(525, 221, "who has the floor? no clock, no I/O", "#f3eefa", size=12.5, anchor="middle"),
        _text(525, 244, "receive(event, now) \u2192 commands", "#fff", size=13, anchor="middle", mono=True),
        _arrow((658, 216), (734, 216), MIND, "commands", (663, 205)),
        _box(734, 62, 198, 72, MIND, "Intent, knowledge", ("side by side, on a deadline",)),
        _box(734, 180, 198, 72, MIND, "Runtime", ("carries commands out,", "reports what came of them")),
        _arrow((833, 180), (833, 134), MIND, both=True),
        _arrow((833, 252), (833, 298), MOUTH),
    ]


def _speaking() -> list[str]:
    return [
        _label(204, 392, "what the caller hears", MOUTH),
        _box(734, 298, 198, 72, MOUTH, "Responder", ("knowledge base, or any", "OpenAI-compatible model")),
        _box(440, 298, 228, 72, MOUTH, "Text to speech", ("clause by clause, as it is written",)),
        _box(204, 298, 170, 72, MOUTH, "Playout", ("paced; pauses at once,", "knows what was heard")),
        _arrow((734, 334), (668, 334), MOUTH),
        _arrow((440, 334), (374, 334), MOUTH),
        _path("M204 334 H172 V272 H144", MOUTH),
        _path("M289 298 V238 H392", MOUTH),
    ]


def _journal() -> list[str]:
    parts = [
        f'<rect x="28" y="420" width="904" height="76" rx="12" fill="none" stroke="{TAPE}" stroke-width="1.6"/>',
        _text(46, 447, "Journal", TAPE, weight=700, size=16),
        _text(46, 468, "every event, in order;", SOFT, size=12.5),
        _text(46, 484, "SQLite", SOFT, size=12.5),
        _text(690, 447, "folded again:", SOFT, size=12.5),
        _text(690, 466, "show, replay, recovery,", INK, size=13),
        _text(690, 484, "latency ledger, simulation", INK, size=13),
        f'<path d="M407 260 V420" stroke="{TAPE}" stroke-width="1.8" stroke-dasharray="5 4" marker-end="{_end(TAPE)}" '
        'fill="none"/>',
    ]
    for index, (name, colour) in enumerate(ENTRIES):
        x, y = 196 + 156 * (index % 3), 434 + 27 * (index // 3)
        parts.append(f'<rect x="{x}" y="{y}" width="148" height="22" rx="4" fill="{colour}" fill-opacity="0.14"/>')
        parts.append(_text(x + 8, y + 15.5, f"{index + 1}  {name}", colour, size=12.5, mono=True))
    return parts


def _box(x: int, y: int, width: int, height: int, colour: str, title: str, lines: tuple[str, ...]) -> str:
    middle = x + width / 2
    top = y + 27 if len(lines) > 1 else y + 34
    told = [_text(middle, top, title, INK, weight=700, anchor="middle")]
    told += [_text(middle, top + 20 + 17 * i, line, SOFT, size=12.5, anchor="middle") for i, line in enumerate(lines)]
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="#fff" stroke="{colour}" '
    return frame + 'stroke-width="1.8"/>' + "".join(told)


def _text(x: float, y: float, text: str, colour: str, **style: object) -> str:
    names = {"weight": "font-weight", "size": "font-size", "anchor": "text-anchor"}
    given = "".join(f' {names[key]}="{value}"' for key, value in style.items() if key in names)
    mono = ' font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"' if style.get("mono") else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}"{given}{mono}>{escape(text)}</text>'


def _label(x: int, y: int, text: str, colour: str) -> str:
    return _text(x, y, text, colour, size=13.5, weight=600)


def _arrow(
    start: tuple[int, int],
    end: tuple[int, int],
    colour: str,
    label: str = "",
    at: tuple[int, int] = (0, 0),
    *,
    both: bool = False,
) -> str:
    tips = f'marker-end="{_end(colour)}"' + (f' marker-start="{_end(colour)}"' if both else "")
    line = f'<path d="M{start[0]} {start[1]} L{end[0]} {end[1]}" stroke="{colour}" stroke-width="1.8" {tips}/>'
    return line + (_text(*at, label, colour, size=12.5) if label else "")


def _path(data: str, colour: str) -> str:
    return f'<path d="{data}" fill="none" stroke="{colour}" stroke-width="1.8" marker-end="{_end(colour)}"/>'


def _tip(colour: str) -> str:
    return f"tip-{colour.lstrip('#')}"


def _end(colour: str) -> str:
    return f"url(#{_tip(colour)})"


def _wave(x: int, y: int, colour: str) -> str:
    heights = (5, 11, 18, 9, 22, 14, 7, 16, 6)
    bars = (
        f'<rect x="{x - 40 + 9 * i}" y="{y - h / 2:g}" width="4" height="{h}" rx="2" fill="{colour}"/>'
        for i, h in enumerate(heights)
    )
    return "".join(bars)
