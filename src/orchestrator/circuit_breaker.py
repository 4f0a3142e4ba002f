"""See ``antiphon.runtime.breaker``."""

from antiphon.runtime.breaker import BreakerState, CircuitBreaker, CircuitBreakerOpen, CircuitBreakerOpenError

__all__ = ["BreakerState", "CircuitBreaker", "CircuitBreakerOpen", "CircuitBreakerOpenError"]
