"""What ``antiphon doctor`` finds in the settings without starting anything: knowledge base, providers, files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from antiphon.cli.doctor_report import Finding
from antiphon.cli.hearing import deafness
from antiphon.config import Settings
from antiphon.errors import AntiphonError, MissingExtra
from antiphon.knowledge import DEMO, load_knowledge
from antiphon.providers.endpoints import MissingKey
from antiphon.providers.registry import Kind, load
from antiphon.providers.wiring import transcriber_settings


async def knowledge(settings: Settings) -> list[Finding]:
    """The file that ``[retrieval] knowledge`` names is there and can be used. Raises ``ConfigError``."""
    place = str(settings.retrieval.settings.get("knowledge") or "")
    found = load_knowledge(place or None)
    languages = ", ".join((found.language, *sorted(found.translations)))
    count = f"{len(found.entries)} {'entry' if len(found.entries) == 1 else 'entries'}"
    text = f"{place or 'the demo'}: {count} in {languages}"
    findings = [Finding(area="knowledge", status="ok", text=text)]
    drafts = sorted(found.drafts & set(settings.languages.offered))
    if drafts and Path(found.path) != DEMO:
        note = f"no native speaker has reviewed {', '.join(drafts)} (draft = true)"
        findings.append(Finding(area="knowledge", status="note", text=note))
    return findings


async def providers(settings: Settings) -> list[Finding]:
    """Every configured provider exists and takes its settings. For a quick look: a trial finds out more."""
    named: list[str] = []
    failed: list[Finding] = []
    for kind in get_args(Kind):
        for each in getattr(settings, kind).chain():
            try:
                built(kind, each.provider, each.settings, settings)
                named.append(f"{kind} {each.provider}")
            except AntiphonError as error:
                if not _is_told_elsewhere(error):
                    failed.append(Finding(area="providers", status="missing", text=f"[{kind}] {error}"))
    return [*([Finding(area="providers", status="ok", text=", ".join(named))] if named else []), *failed]


async def languages(settings: Settings) -> list[Finding]:
    """What is offered can be heard."""
    transcribers: list[Any] = []
    for each in settings.stt.chain():
        with contextlib.suppress(AntiphonError):  # told as a provider's own
            transcribers.append(built("stt", each.provider, each.settings, settings))
    lost = deafness(transcribers, settings)
    return [Finding(area="languages", status="note", text=str(lost), fix=lost.fix)] if lost else []


def _is_told_elsewhere(error: AntiphonError) -> bool:
    """Under "packages" or "keys" with the command, or under "knowledge"."""
    return isinstance(error, MissingExtra | MissingKey) or error.code.startswith("knowledge.")


def built(kind: Kind, name: str, own: dict[str, Any], settings: Settings) -> Any:
    if kind == "stt":
        return load(kind, name, transcriber_settings(name, own, settings.retrieval.settings))
    return load(kind, name, own)


async def policy(settings: Settings) -> list[Finding]:
    """``[policy]`` is one that the turn machine takes. Raises ``ConfigError``."""
    from antiphon.assembly import policy_of
    from antiphon.languages import load_languages

    policy_of(settings, dict(load_languages(settings.languages.folder or None)))
    changed = ", ".join(sorted(settings.policy))
    return [Finding(area="policy", status="ok", text=f"changed: {changed}" if changed else "the defaults")]


async def address(settings: Settings) -> list[Finding]:
    """What the carrier calls. Raises ``ConfigError`` for a ``public_url`` that cannot be one."""
    from antiphon.transports.twilio_settings import PhoneSettings

    phone = PhoneSettings(public_url=settings.server.public_url)
    voice = phone.http_url(phone.voice_path)
    path = urlsplit(phone.public_url).path.rstrip("/")
    if path:
        text = f"[server] public_url has the path {path}: the proxy must pass {voice} on as {phone.voice_path}"
        return [
            Finding(area="address", status="note", text=text, fix="leave the path out, or have the proxy take it away")
        ]
    return [Finding(area="address", status="ok", text=f"calls come in at {voice}")] if phone.public_url else []


async def files(settings: Settings) -> list[Finding]:
    """The TLS files can be read, if there are any."""
    findings = []
    for key in ("tls_cert", "tls_key"):
        place = getattr(settings.server, key)
        if place and not os.access(place, os.R_OK):
            text = f"[server] {key}: {place} cannot be read"
            findings.append(Finding(area="tls", status="missing", text=text, fix=f"ls -l {place}"))
    return findings
