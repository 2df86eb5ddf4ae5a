"""What the page remembers: kept, and no trouble when the file was edited by hand."""

from pathlib import Path

import pytest

from app.settings import Settings, change_settings, load_settings


def test_one_change_keeps_the_others(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()
    change_settings(tmp_path, theme="dark")
    change_settings(tmp_path, base="someone/model")
    assert load_settings(tmp_path) == Settings(theme="dark", base="someone/model")


@pytest.mark.parametrize("text", ["theme = 'loud'", "theme = ", "\xff"])
def test_a_file_that_makes_no_sense_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.toml").write_bytes(text.encode("latin-1"))
    assert load_settings(tmp_path) == Settings()
