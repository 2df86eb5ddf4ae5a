"""Which base stands in Train for a set: none is assumed for one's own pictures."""

from pathlib import Path

from app.settings import change_settings
from app.tabs.train import filling
from app.tabs.train.questions import base_for
from app.views import bases
from tests.tiny_checkpoints import tiny_checkpoint
from trainer.contract.compose import setting_names
from trainer.contract.home import demo_folder, find_home

SAMPLE, MINE = str(demo_folder() / "style"), "/somewhere/my-pictures"


def test_samples_have_the_practice_base_and_own_pictures_the_last_real_one(tmp_path: Path) -> None:
    home = find_home(tmp_path / "home")
    assert base_for(home, SAMPLE, "demo", "demo") == "demo"
    assert base_for(home, MINE, "demo", "demo") == "", "nothing is assumed"
    assert base_for(home, MINE, "demo", "") == "demo", "chosen by hand"
    assert base_for(home, SAMPLE, "", "") == "demo"
    change_settings(home, own_base="owner/model", base="demo")
    assert base_for(home, MINE, "demo", "demo") == "owner/model"
    assert base_for(home, SAMPLE, "owner/model", "owner/model") == "demo"
    assert base_for(home, SAMPLE, "owner/other", "owner/model") == "owner/other", "chosen by hand"


def test_named_folders_are_looked_through_and_what_is_no_base_is_left_out(tmp_path: Path) -> None:
    home, place = find_home(tmp_path / "home"), tmp_path / "models"
    place.mkdir()
    file = tiny_checkpoint("sdxl").write(place / "mine.safetensors")
    (place / "broken.safetensors").write_bytes(b"\0" * 64)
    change_settings(home, bases=(str(place),))
    found = {base: title for title, base in bases.choices(home)}
    assert found["demo"] == "Practice base: its files work only here"
    assert "Stable Diffusion XL" in found[str(file)] and len(found) == 2 + len(bases.OFFERED)
    assert not bases.wanting(str(file)) and bases.wanting(bases.OFFERED[0].id)


def test_no_event_writes_more_than_what_presets_say() -> None:
    assert set(filling.said_by_lengths()) <= set(filling.said_by_presets()) < set(setting_names())
    assert "objective.weighting" in filling.said_by_presets(), "it follows from what presets say of its gamma"
    assert "optimizer.learning_rate" in filling.said_by_lengths()
    assert len(filling.said_by_lengths()) < 5 and len(filling.said_by_presets()) < 25


def test_one_setting_goes_back_to_the_preset() -> None:
    fields = ["adapter.rank", "adapter.alpha"]
    rank, alpha = filling.put_back(("demo", "style", "good"), "adapter.rank", fields)
    assert rank == 16 and alpha != "auto"
