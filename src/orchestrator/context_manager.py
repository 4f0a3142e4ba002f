"""See ``antiphon.facade.context_manager``."""

from antiphon.facade.context_manager import ContextManager

__all__ = ["ContextManager"]
