"""See ``antiphon.facade.task_router``."""

from antiphon.facade.task_router import TaskRouter

__all__ = ["TaskRouter"]
