"""The names that code written against ``orchestrator`` imports; they live in ``antiphon``. README.md explains them."""

from antiphon.facade.agent_orchestrator import AgentOrchestrator
from antiphon.facade.context_manager import ContextManager
from antiphon.facade.language_coordinator import LanguageCoordinator
from antiphon.facade.metrics import MetricsCollector, TurnMetrics
from antiphon.facade.task_router import TaskRouter
from antiphon.runtime.breaker import CircuitBreaker, CircuitBreakerOpen

__all__ = [
    "AgentOrchestrator",
    "CircuitBreaker",
    "CircuitBreakerOpen",
    "ContextManager",
    "LanguageCoordinator",
    "MetricsCollector",
    "TaskRouter",
    "TurnMetrics",
]
