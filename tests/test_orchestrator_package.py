"""What code written against ``orchestrator`` imports (A1 to A3)."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import antiphon
import orchestrator

HOME = Path(orchestrator.__file__).parent


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("agent_orchestrator", {"AgentOrchestrator"}),
        ("task_router", {"TaskRouter"}),
        ("context_manager", {"ContextManager"}),
        ("language_coordinator", {"LanguageCoordinator"}),
        ("metrics", {"MetricsCollector", "TurnMetrics"}),
        ("circuit_breaker", {"CircuitBreaker", "CircuitBreakerOpen"}),
    ],
)
def test_every_name_has_its_module_and_is_antiphons_own(module: str, names: set[str]) -> None:
    home = import_module(f"orchestrator.{module}")
    for name in names:
        assert getattr(home, name) is getattr(orchestrator, name) is getattr(antiphon, name)


def test_it_holds_nothing_but_names() -> None:
    """A second implementation would begin here."""
    for path in HOME.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            allowed = isinstance(node, ast.ImportFrom | ast.Assign) or (
                isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            )
            assert allowed, f"{path.name}:{node.lineno}"


def test_the_readme_describes_every_public_method() -> None:
    readme = (HOME / "README.md").read_text(encoding="utf-8")
    for name in orchestrator.__all__:
        value = getattr(orchestrator, name)
        assert f"`{name}" in readme, name
        for method, function in vars(value).items():
            if inspect.isfunction(function) and not method.startswith("_"):
                assert f"`{method}(" in readme, f"{name}.{method}"
