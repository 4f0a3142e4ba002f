"""What ``antiphon doctor`` finds of keys: which are set, which are needed and not set. Never what they are."""

from __future__ import annotations

from typing import get_args

from antiphon.cli.doctor_report import Finding
from antiphon.cli.doctor_settings import built
from antiphon.config import Settings
from antiphon.errors import AntiphonError
from antiphon.providers.endpoints import MissingKey
from antiphon.providers.registry import Kind
from antiphon.secret import listed, lookup

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
    return [*findings, *_exposure(settings), *_twilio(settings)]


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


def _exposure(settings: Settings) -> list[Finding]:
    """Who may begin and read sessions, and whether that is what one wants."""
    from antiphon.server.access import openness
    from antiphon.server.api_keys import ApiKeys
    from antiphon.server.tokens import SessionTokens
    from antiphon.transports.twilio_auth import is_loopback

    server = settings.server
    try:
        ApiKeys(server.api_keys)
        if server.token_secret:
            SessionTokens(listed(server.token_secret), ttl_s=server.token_ttl_s)
    except AntiphonError as error:
        return [Finding(area="access", status="missing", text=str(error), fix="antiphon keys new")]
    who = openness(server)
    if who == "everybody":
        text = f"{server.host or 'every address'} is open: whoever reaches the port may read every call"
        return [Finding(area="access", status="note", text=text, fix="antiphon keys new")]
    if who == "this_machine":
        text = "sessions are open to this machine alone; no API key is set, none is needed"
        return [Finding(area="access", status="ok", text=text)]
    if not server.api_keys:
        text = "no API key is set: beyond the phone nobody can begin or read a session, not even from this machine"
        return [Finding(area="access", status="note", text=text, fix="antiphon keys new")]
    findings = [Finding(area="access", status="ok", text="sessions need an API key or their token")]
    if settings.journal.url and not server.token_secret:
        text = "no token secret is set: a token that one server gives is refused by the others on this journal"
        findings.append(Finding(area="access", status="note", text=text, fix="antiphon keys new"))
    if not server.tls_cert and not server.public_url.startswith("https://") and not is_loopback(server.host):
        text = "keys and tokens cross the network unencrypted: set tls_cert and tls_key, or have a proxy do it"
        findings.append(Finding(area="access", status="note", text=text, fix="ANTIPHON_SERVER_TLS_CERT=..."))
    return findings


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
