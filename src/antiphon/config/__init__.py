"""The settings: what there is (``sections``) and where it is read from (``loading``)."""

from __future__ import annotations

from antiphon.config.loading import DEFAULT_FILE, RESERVED, load
from antiphon.config.sections import (
    ENVIRONMENT,
    SECTIONS,
    JournalSettings,
    LanguageSettings,
    LineSettings,
    LogSettings,
    Provider,
    ProviderSettings,
    ServerSettings,
    Settings,
    SpeechSettings,
    TwilioSettings,
)

__all__ = [
    "DEFAULT_FILE",
    "ENVIRONMENT",
    "RESERVED",
    "SECTIONS",
    "JournalSettings",
    "LanguageSettings",
    "LineSettings",
    "LogSettings",
    "Provider",
    "ProviderSettings",
    "ServerSettings",
    "Settings",
    "SpeechSettings",
    "TwilioSettings",
    "load",
]
