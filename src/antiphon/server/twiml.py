"""TwiML, Twilio's XML for what a call does next. Every value is escaped; nothing here decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape, quoteattr

CONTENT_TYPE = "text/xml; charset=utf-8"
MAX_PARAMETER = 500
"""Twilio refuses a ``<Parameter>`` whose name and value together are longer (characters)."""

HANGUP = "<Hangup/>"


def response(*verbs: str) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?><Response>' + "".join(verbs) + "</Response>"


def connect(*, stream: str, action: str, resume: str, status: str, parameters: Mapping[str, str]) -> tuple[str, str]:
    """``<Connect><Stream>``, and the ``<Redirect>`` that runs if Twilio goes on without having asked ``action``.

    ``stream`` may have no query string (error 31920), so all it is told travels in ``parameters``; empty ones, and
    those over Twilio's length, are left out.
    """
    inner = "".join(
        f"<Parameter name={_quoted(name)} value={_quoted(value)}/>"
        for name, value in parameters.items()
        if value and len(name) + len(value) <= MAX_PARAMETER
    )
    return (
        f"<Connect action={_quoted(action)}>"
        f"<Stream url={_quoted(stream)} statusCallback={_quoted(status)}>{inner}</Stream></Connect>",
        f"<Redirect>{_text(resume)}</Redirect>",
    )


def say(text: str, language: str, voice: str = "") -> str:
    """``voice``: one of Twilio's that speaks ``language``; "" is Twilio's own choice."""
    chosen = f" voice={_quoted(voice)}" if voice else ""
    return f"<Say language={_quoted(language)}{chosen}>{_text(text)}</Say>"


def gather(action: str, said: Iterable[str], *, hears: str = "", hints: Iterable[str] = ()) -> str:
    """Asks for one key, or for a few words, while the ``say`` verbs are said; without an answer the next verb runs.

    ``hears``: the language of the words, "" for keys alone; ``hints`` are what may be said. Twilio posts ``Digits`` or
    ``SpeechResult`` to ``action``. Source: Twilio, "TwiML Voice: <Gather>": the timeout of 5 s begins when all is said,
    a hint may hold no comma.
    """
    listens = ""
    if hears:
        expected = ",".join(hint.replace(",", " ") for hint in hints)
        listens = f' input="dtmf speech" language={_quoted(hears)} speechTimeout="auto"'
        listens += f" hints={_quoted(expected)}" if expected else ""
    return f'<Gather numDigits="1" timeout="5"{listens} action={_quoted(action)}>{"".join(said)}</Gather>'


def dial(target: str) -> str:
    """Hands the caller to a phone number, or to a SIP address that begins with ``sip:``."""
    return f"<Dial>{f'<Sip>{_text(target)}</Sip>' if target.startswith('sip:') else _text(target)}</Dial>"


def redirect(url: str) -> str:
    return f"<Redirect>{_text(url)}</Redirect>"


def reject() -> str:
    """The caller hears the busy tone, and nobody pays for the call."""
    return '<Reject reason="busy"/>'


def _clean(text: str) -> str:
    """XML 1.0 has no character for most of the control codes, not even escaped."""
    return "".join(
        letter
        for letter in text
        if letter >= " " and not "\ud800" <= letter <= "\udfff" and letter not in "\ufffe\uffff"
    )


def _text(text: str) -> str:
    return escape(_clean(text))


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))
