"""Tests that need a program which is not installed are not run, and nobody can overlook that."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def services() -> ModuleType:
    spec = importlib.util.spec_from_file_location("services", ROOT / "scripts" / "services.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_report_ends_with_what_was_not_run() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/stores/test_redis_faults.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": ""}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr
    assert "NOT RUN" in done.stdout
    assert "the tests that need redis-server: it is not installed" in done.stdout


@pytest.mark.parametrize(("user", "helps", "status"), [(0, True, 0), (0, False, 1), (1000, True, 1)])
def test_root_gets_the_package_and_others_are_told_its_name(
    *,
    services: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    user: int,
    helps: bool,
    status: int,
) -> None:
    there = {"apt-get"}

    def install(packages: list[str]) -> None:
        assert packages == list(services.PACKAGES.values())
        there.update(packages if helps else ())

    monkeypatch.setattr(services, "install", install)
    monkeypatch.setattr(services.shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(services.os, "geteuid", lambda: user)
    assert services.main() == status
    assert ("will NOT be run" in capsys.readouterr().err) == bool(status)
