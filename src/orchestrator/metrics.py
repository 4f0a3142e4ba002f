"""See ``antiphon.facade.metrics``."""

from antiphon.facade.metrics import MetricsCollector, TurnFailure, TurnMetrics

__all__ = ["MetricsCollector", "TurnFailure", "TurnMetrics"]
