"""What ``antiphon doctor`` finds of keys: which are set, which are needed and not set. Never what they are."""

from __future__ import annotations

from typing import get_args

from antiphon.cli.doctor_report import Finding
from antiphon.cli.doctor_settings import built
from antiphon.config import Settings
from antiphon.errors import AntiphonError
from antiphon.providers.endpoints import MissingKey
from antiphon.providers.registry import Kind
from antiphon.secret import lookup

KEYS = {
    "SARVAM_API_KEY": "stt sarvam, tts sarvam, llm openai with preset sarvam",
    "OPENAI_API_KEY": "llm openai, stt whisper",
    "GEMINI_API_KEY": "llm gemini, llm openai with preset gemini",
    "GROQ_API_KEY": "stt whisper with preset groq",
    "ELEVENLABS_API_KEY": "tts elevenlabs",
}
"""The variables, and who needs them. A LiveKit plugin looks for one that is named after its vendor."""


async def keys(settings: Settings) -> list[Finding]:
    missing = _missing(settings)
    found = [name for name in KEYS if lookup(name)]
    findings = [Finding(area="keys", status="ok", text=f"set: {', '.join(found)}")] if found else []
    for error, users in missing.values():
        text = f"{error.variable} is not set, {' and '.join(users)} need{'s' if len(users) == 1 else ''} it"
        findings.append(Finding(area="keys", status="missing", text=text, fix=error.command))
    absent = [f"{name} ({users})" for name, users in KEYS.items() if name not in found and name not in missing]
    if absent:
        text = f"not set, not needed as configured: {'; '.join(absent)}"
        findings.append(Finding(area="keys", status="ok", text=text))
    return [*findings, *_twilio(settings)]


def _missing(settings: Settings) -> dict[str, tuple[MissingKey, list[str]]]:
    """By variable: the error, and the configured providers that it keeps from being built."""
    missing: dict[str, tuple[MissingKey, list[str]]] = {}
    for kind in get_args(Kind):
        for each in getattr(settings, kind).chain():
            try:
                built(kind, each.provider, each.settings, settings)
            except MissingKey as error:
                missing.setdefault(error.variable, (error, []))[1].append(f"{kind} {each.provider}")
            except AntiphonError:
                continue  # told as the provider's own
    return missing


def _twilio(settings: Settings) -> list[Finding]:
    if settings.twilio.auth_token:
        findings = [Finding(area="twilio", status="ok", text="TWILIO_AUTH_TOKEN is set")]
        if not settings.server.public_url:
            text = "server.public_url is not set: signatures of real calls cannot be checked without it"
            findings.append(
                Finding(area="twilio", status="note", text=text, fix="ANTIPHON_SERVER_PUBLIC_URL=https://...")
            )
        return findings
    text = "TWILIO_AUTH_TOKEN is not set: needed for calls from the telephone network only"
    return [Finding(area="twilio", status="note", text=text, fix="export TWILIO_AUTH_TOKEN=...")]
