"""What a caller hears when a provider fails: the next one, or a phrase, and never a dead line (A14, A24 to A28, A49 to
A53; X8, X19 to X22).

The stories stand in ``resilience_hearing``, ``resilience_models`` and ``resilience_voices``, and are told side by side.
"""

from __future__ import annotations

from typing import Any

import pytest
import resilience_hearing
import resilience_models
import resilience_voices
from calling import Stories, chosen

stories = Stories(resilience_hearing.stories, resilience_models.stories, resilience_voices.stories)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return stories.together(tmp_path_factory.mktemp("resilience"), chosen(request))


@pytest.mark.parametrize("name", stories.names)
def test_the_caller_hears_no_fault(outcomes: dict[str, Any], name: str) -> None:
    if outcomes[name] is not None:
        raise outcomes[name]
