"""What the page tells of a base model: read once for each version of its file."""

import os
from pathlib import Path

import pytest

from app.views import bases
from tests.tiny_checkpoints import tiny_checkpoint
from trainer.contract.errors import UserError
from trainer.formats.bases import describe_base, preset_shelf


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every time a base is described, noted."""
    found: list[Path] = []
    monkeypatch.setattr(bases, "describe_base", lambda path: found.append(path) or describe_base(path))
    return found


def test_a_file_is_read_once_for_each_version_of_it(tmp_path: Path, read: list[Path]) -> None:
    file = tiny_checkpoint("sdxl").write(tmp_path / "base.safetensors")
    for _ in range(3):
        assert "Stable Diffusion XL" in bases.note_html(str(file))
        assert bases.shelf(str(file)) == "sdxl" == preset_shelf(str(file))
    assert read == [file]
    tiny_checkpoint("sd1").write(file)
    os.utime(file, ns=(1, 1))
    assert bases.shelf(str(file)) == "sd" and "Stable Diffusion 1" in bases.note_html(str(file))
    assert read == [file, file]


def test_a_file_that_is_none_is_refused_once_and_again(tmp_path: Path, read: list[Path]) -> None:
    file = tmp_path / "broken.safetensors"
    file.write_bytes(b"\x00" * 64)
    for _ in range(2):
        with pytest.raises(UserError):
            bases.facts(str(file))
        assert bases.shelf(str(file)) == "sd" and "not a sound safetensors file" in bases.note_html(str(file))
    assert read == [file]


@pytest.mark.parametrize("base", ["demo", "owner/some-xl-model", "owner/model", "no such thing", ""])
def test_other_bases_stand_on_the_shelf_they_stood_on(base: str) -> None:
    assert bases.shelf(base) == preset_shelf(base)
