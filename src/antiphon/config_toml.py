"""The settings as a commented TOML file, from the same structs that read it."""

from __future__ import annotations

import datetime
import json
import typing
from collections.abc import Collection
from typing import Any

import msgspec

from antiphon.config import ENVIRONMENT, ProviderSettings, Settings
from antiphon.runtime.stages import OPTIONS
from antiphon.secret import Secret, is_secret_name, without_password

HEAD = """\
# Antiphon's settings, all of them, {what}. Every line may be left out.
# The environment overrides this file: ANTIPHON_<SECTION>_<KEY>, such as ANTIPHON_SERVER_PORT=9000.
# Secrets are not written here: set them in the environment, or in a file of KEY=VALUE lines that
# ANTIPHON_SECRETS_FILE names. `antiphon doctor` says what is missing.
"""

NOTES = {
    "stt": "speech to text: pocketsphinx (English, offline), sarvam, whisper, faster_whisper, livekit, fake",
    "llm": "answers: extractive (from the knowledge base, offline), openai (any such endpoint), gemini, livekit, fake",
    "tts": "text to speech: espeak (offline), piper (offline), sarvam, elevenlabs, livekit, fake",
    "intent": "what the caller wants: minilm (offline), none, fake",
    "retrieval": "the knowledge base: minilm (offline), lexical, none, fake",
    "policy": "how turns are taken; see `antiphon chart floor`",
}

EXAMPLES = {
    "stt": ['# fallback = [{ provider = "fake" }]  # tried in this order when the first fails'],
    "llm": [
        "# further keys go to the provider; for a model of your own through Ollama:",
        '# provider = "openai"',
        '# preset = "ollama"',
        '# model = "llama3.2"',
        '# fallback = [{ provider = "extractive" }]',
    ],
    "tts": ['# fallback = [{ provider = "fake" }]'],
}


def render(settings: Settings) -> str:
    """A file that ``config.load`` reads back as the same settings (secrets left out)."""
    lines = [HEAD.format(what="with their defaults" if settings == Settings() else "as they are in force")]
    for name in settings.__struct_fields__:
        if name in {"source", "warnings"}:
            continue
        section = getattr(settings, name)
        note = f"  # {NOTES[name]}" if name in NOTES else ""
        lines.append(f"[{name}]{note}")
        lines.extend(_free(section) if isinstance(section, dict) else _typed(name, section))
        lines.extend(EXAMPLES.get(name, ()))
        lines.append("")
        if isinstance(section, ProviderSettings):
            lines += [f"[{name}.limits]", *_typed(name, section.limits, OPTIONS[name]), ""]
    return "\n".join(lines)


def _typed(name: str, section: msgspec.Struct, only: Collection[str] = ()) -> list[str]:
    lines = []
    for field in msgspec.structs.fields(section):
        if only and field.name not in only:
            continue
        value = getattr(section, field.name)
        if field.name == "limits":
            continue  # a table of its own
        if isinstance(section, ProviderSettings) and field.name in {"settings", "fallback"}:
            lines.extend(_free(value) if field.name == "settings" else _fallbacks(section))
            continue
        comment = _comment(field.type)
        if isinstance(value, Secret):
            variable = next(variable for variable, at in ENVIRONMENT.items() if at == f"{name}.{field.name}")
            shown = f'{field.name} = "***"  #' if value else f"{field.name}:"
            lines.append(f"# {shown} {comment}; a secret, set {variable}")
        else:
            lines.append(f"{field.name} = {_value(value)}" + (f"  # {comment}" if comment else ""))
    return lines


def _free(table: dict[str, Any]) -> list[str]:
    return [
        f'# {_key(key)} = "***"' if _is_secret(key, value) else f"{_key(key)} = {_value(value)}"
        for key, value in table.items()
    ]


def _is_secret(key: str, value: Any) -> bool:
    """Also what came as text, within a table that the environment gave as JSON."""
    return isinstance(value, Secret) or (is_secret_name(key) and bool(value))


def _fallbacks(section: ProviderSettings) -> list[str]:
    entries = [{"provider": each.provider, **each.settings} for each in section.fallback]
    return [f"fallback = {_value(entries)}"] if entries else []


def _comment(kind: Any) -> str:
    """The field's description and its choices."""
    said = [meta.description for meta in getattr(kind, "__metadata__", ()) if getattr(meta, "description", None)]
    bare = typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    if typing.get_origin(bare) is typing.Literal:
        said.insert(0, " | ".join(typing.get_args(bare)))
    return "; ".join(said)


def _key(key: str) -> str:
    return key if key.replace("-", "_").isidentifier() and key.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if not _is_secret(k, v))
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)  # inf and nan are TOML's as they are Python's
    if isinstance(value, str):
        value = without_password(value)
    # JSON's numbers, booleans and escapes are TOML's too; only DEL must be escaped as well.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
