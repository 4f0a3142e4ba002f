"""See ``antiphon.facade.agent_orchestrator``."""

from antiphon.facade.agent_orchestrator import AgentOrchestrator

__all__ = ["AgentOrchestrator"]
