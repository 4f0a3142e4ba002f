"""Lets the tests of this folder import by name what they share, the golden journals, and a host on virtual time."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("journals", "runtime"))]
