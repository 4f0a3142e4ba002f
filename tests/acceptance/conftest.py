"""Lets the tests of this folder import what they share by name."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "providers"))
sys.path.insert(0, str(Path(__file__).parents[1] / "stores"))

pytest.register_assert_rewrite("alive", "resilience_hearing", "resilience_models", "resilience_voices")
