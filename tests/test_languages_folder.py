"""``[languages] folder``: corrected and further language files reach every part that speaks or listens."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from antiphon import languages as data
from antiphon.assembly import _informed, _languages
from antiphon.config import load
from antiphon.errors import ConfigError


def folder_with(path: Path, name: str, old: str, new: str) -> Path:
    text = (data.BUILT_IN / name).read_text(encoding="utf-8")
    assert old in text
    (path / name).write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_a_corrected_copy_is_what_is_spoken(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "te-IN.toml", "ఒక్క క్షణం ఆగండి.", "కొంచెం ఆగండి.")
    settings = load(environ={}, overrides={"languages.folder": str(folder)})
    assert "కొంచెం ఆగండి." in _languages(settings)["te-IN"].phrases["filler"]
    assert _informed("extractive", {}, settings)["languages"] == str(folder)
    assert _informed("minilm", {"languages": "x"}, settings)["languages"] == "x", "a part's own wins"
    assert "languages" not in _informed("lexical", {}, settings)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    settings = load(environ={}, overrides={"languages.folder": str(tmp_path / "nowhere")})
    with pytest.raises(ConfigError, match="is no folder"):
        _languages(settings)


def test_a_language_without_a_file_is_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = load(environ={}, overrides={"languages.offered": ("en-IN", "fr-FR")})
    with caplog.at_level(logging.WARNING):
        _languages(settings)
    assert "fr-FR has no language file" in caplog.text
