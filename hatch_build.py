"""Compiles ``antiphon.lane`` while the wheel is built, where there is a C compiler; elsewhere the wheel goes without.

``ANTIPHON_LANE=no`` leaves it out on purpose, ``ANTIPHON_LANE=yes`` makes a failure an error. Why not setuptools: one
file and one command need no second build system beside hatchling, which keeps the rest of the project in one place.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src") / "antiphon" / "lane" / "native.c"
FLAGS = ("-O2", "-fPIC", "-shared", "-Wall")


class LaneBuildHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"
    made = ""
    """The folder that the wheel's copy is compiled in."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("ANTIPHON_LANE", "")
        if self.target_name != "wheel":
            return
        name = f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
        root = Path(self.root)
        # What runs from its sources needs it there; a wheel is given a copy, and the sources stay as they are.
        editable = version == "editable"
        if editable:
            target = root / SOURCE.parent / name
            target.unlink(missing_ok=True)
        if wanted == "no":
            return
        if not editable:
            self.made = tempfile.mkdtemp()
            target = Path(self.made) / name
        problem = compiled(root / SOURCE, target)
        if problem and wanted == "yes":
            raise RuntimeError(f"{SOURCE} cannot be compiled: {problem}")
        if problem:
            self.app.display_warning(f"without the fast path for phone lines ({SOURCE}): {problem}")
        elif not editable:
            build_data["force_include"][str(target)] = f"antiphon/lane/{name}"
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.made:
            shutil.rmtree(self.made, ignore_errors=True)


def compiled(source: Path, target: Path) -> str:
    """Compiles it; returns why it could not be done, or ""."""
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        return "it is for CPython on Linux"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    headers = sysconfig.get_paths()["include"]
    command = [*shlex.split(compiler), *FLAGS, f"-I{headers}", str(source), "-o", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as missing:
        return f"{missing} (a C compiler is needed: on Debian `apt install gcc python3-dev`)"
    return done.stderr.strip() if done.returncode else ""
