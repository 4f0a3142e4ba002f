"""Antiphon: an orchestrator for real-time conversations.

These names are the public ones; they are imported when they are first used, so that ``import antiphon`` costs
nothing and needs nothing. What is deeper (``antiphon.runtime.ports`` for those who write providers,
``antiphon.kernel.events`` for those who read journals) is imported by its own name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from antiphon._version import __version__

if TYPE_CHECKING:
    from antiphon.config import Settings
    from antiphon.errors import (
        AdmissionRefused,
        AntiphonError,
        BadFrame,
        ChartError,
        ConfigError,
        Forbidden,
        FrameTooLarge,
        MissingExtra,
        NotAllowed,
        PeerError,
        ProviderError,
        ProviderRefused,
        ProviderTimeout,
        ReplayDiverged,
        StaleWriter,
        StoreError,
        TooManyAttempts,
        UnknownSession,
    )
    from antiphon.facade.agent_orchestrator import AgentOrchestrator
    from antiphon.facade.context_manager import ContextManager
    from antiphon.facade.language_coordinator import LanguageCoordinator
    from antiphon.facade.metrics import MetricsCollector, TurnMetrics
    from antiphon.facade.task_router import TaskRouter
    from antiphon.kernel.events import Entry
    from antiphon.kernel.policy import Policy
    from antiphon.kernel.session import Session, replay
    from antiphon.kernel.state import Floor
    from antiphon.providers.sarvam_ai import SarvamAI
    from antiphon.runtime.breaker import CircuitBreaker, CircuitBreakerOpen

__all__ = [
    "AdmissionRefused",
    "AgentOrchestrator",
    "AntiphonError",
    "BadFrame",
    "ChartError",
    "CircuitBreaker",
    "CircuitBreakerOpen",
    "ConfigError",
    "ContextManager",
    "Entry",
    "Floor",
    "Forbidden",
    "FrameTooLarge",
    "LanguageCoordinator",
    "MetricsCollector",
    "MissingExtra",
    "NotAllowed",
    "PeerError",
    "Policy",
    "ProviderError",
    "ProviderRefused",
    "ProviderTimeout",
    "ReplayDiverged",
    "SarvamAI",
    "Session",
    "Settings",
    "StaleWriter",
    "StoreError",
    "TaskRouter",
    "TooManyAttempts",
    "TurnMetrics",
    "UnknownSession",
    "__version__",
    "replay",
]

_HOMES = {
    "AgentOrchestrator": "antiphon.facade.agent_orchestrator",
    "CircuitBreaker": "antiphon.runtime.breaker",
    "CircuitBreakerOpen": "antiphon.runtime.breaker",
    "ContextManager": "antiphon.facade.context_manager",
    "Entry": "antiphon.kernel.events",
    "Floor": "antiphon.kernel.state",
    "LanguageCoordinator": "antiphon.facade.language_coordinator",
    "MetricsCollector": "antiphon.facade.metrics",
    "Policy": "antiphon.kernel.policy",
    "SarvamAI": "antiphon.providers.sarvam_ai",
    "Session": "antiphon.kernel.session",
    "Settings": "antiphon.config",
    "TaskRouter": "antiphon.facade.task_router",
    "TurnMetrics": "antiphon.facade.metrics",
    "replay": "antiphon.kernel.session",
}
"""Where the names live; all others are errors."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'antiphon' has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES.get(name, "antiphon.errors")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
