"""What one worker makes of the settings and secrets that its supervisor gives it."""

import os
import subprocess
import sys
import textwrap

import pytest

from antiphon.cli.serve_worker import with_its_cores
from antiphon.config import Settings
from antiphon.config.sections import Provider, ProviderSettings


def chain(*options: dict[str, object]) -> Settings:
    first, *others = (Provider(provider="pocketsphinx", settings=dict(each)) for each in options)
    return Settings(stt=ProviderSettings(provider=first.provider, settings=first.settings, fallback=tuple(others)))


def recognisers(settings: Settings) -> list[object]:
    return [each.settings.get("workers") for each in settings.stt.chain()]


@pytest.mark.parametrize(("cores", "workers", "share"), [(8, 2, 4), (8, 8, 1), (2, 4, 1), (9, 2, 4)])
def test_workers_share_the_cores_for_their_recognisers(
    cores: int, workers: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert recognisers(with_its_cores(Settings(), workers)) == [share]
    several = chain({"workers": 0}, {"workers": "0"}, {"workers": 3})
    assert recognisers(with_its_cores(several, workers)) == [share, share, 3], "what is set stays"


def test_other_recognisers_are_left_as_they_are() -> None:
    settings = Settings(stt=ProviderSettings(provider="fake", fallback=(Provider(provider="sarvam"),)))
    assert with_its_cores(settings, 2) == settings


HOLDER = textwrap.dedent(
    """
    import os, subprocess, sys
    from antiphon import config
    from antiphon.secret import hold, lookup

    hold({"GEMINI_API_KEY": "of the file", "ANTIPHON_SERVER_TOKEN_SECRET": "s" * 40, "BOTH_API_KEY": "of the file"})
    print(lookup("GEMINI_API_KEY").reveal(), lookup("BOTH_API_KEY").reveal(), sep="|")
    print(config.load().server.token_secret.reveal() == "s" * 40)
    child = [sys.executable, "-c", "import os; print(sorted(name for name in os.environ if 'KEY' in name))"]
    print(subprocess.run(child, stdout=subprocess.PIPE, text=True).stdout, end="")
    """
)


def test_secrets_that_are_held_are_found_and_no_child_process_inherits_them(tmp_path: os.PathLike[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLDER],
        env={"PATH": os.environ["PATH"], "BOTH_API_KEY": "of the environment"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["of the file|of the environment", "True", "['BOTH_API_KEY']"]
