"""The decoder's two files: made once, made again where the disk has damaged one, somewhere in any case."""

from __future__ import annotations

from pathlib import Path

import pocketsphinx
import pytest
from tests.damage import WAYS, damage

from antiphon.providers.stt import lexicon


def files(cache: Path) -> tuple[Path, Path]:
    model = Path(pocketsphinx.get_model_path("en-us"))
    return lexicon.files(["where is my order"], model=model, background_words=0, cache=str(cache))


def contents(cache: Path) -> list[bytes]:
    return [path.read_bytes() for path in files(cache)]


def test_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = files(tmp_path)
    assert set(tmp_path.iterdir()) == set(first)
    monkeypatch.setattr(lexicon, "_make", None)
    assert files(tmp_path) == first


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".lm", ".dict"])
def test_a_damaged_file_is_told_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, way: str
) -> None:
    first = contents(tmp_path)
    [path] = tmp_path.glob(f"*{suffix}")
    damage(path, way)
    assert contents(tmp_path) == first
    assert [str(path) in told and "made again" in told for told in warnings(caplog)] == [True]
    if way != "unreadable":  # nothing can be written in its place, either
        assert contents(tmp_path) == first
        assert len(warnings(caplog)) == 1


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without what is merely information, which other tests may have switched on."""
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


def test_a_place_that_takes_nothing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").write_text("")
    assert contents(tmp_path / "file" / "below") == contents(tmp_path / "good")
