"""The Library's cards: read once, found by words, kept notes; into the trash and back; other programs' beside ours."""

import time
from pathlib import Path

import pytest

from app import owners
from app.settings import change_settings
from app.views import adapters, bases, cards, headers, labels, removing, shelf
from app.views.shelf import Sought
from tests.app.programs import adapter, program
from tests.app.saved_run import saved_run
from tests.tiny_checkpoints import tiny_checkpoint
from trainer.contract.errors import UserError
from trainer.contract.home import find_home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = find_home(tmp_path / "home")
    saved_run(home)
    adapter(home / "library" / "clay.safetensors", 2048, **{"modelspec.trigger_phrase": "zq clay"})
    forge = program(tmp_path / "forge", "forge")
    adapter(forge / "models/Lora/people/sailor.safetensors")
    tiny_checkpoint("sd1").write(forge / "models/Stable-diffusion/real.safetensors")
    invoke = program(tmp_path / "invoke", "invokeai")
    adapter(invoke / "models/0a1b/inked.safetensors")
    tiny_checkpoint("sdxl").write(invoke / "models/2c3d/xl.safetensors")
    change_settings(
        home, clients=[{"kind": "forge", "folder": str(forge)}, {"kind": "invokeai", "folder": str(invoke)}]
    )
    return home


def named(home: Path, **sought: str) -> list[str]:
    return [card.item.key for card in shelf.chosen(shelf.cards(home), Sought(**sought))]


def test_ours_and_other_programs_stand_together(home: Path) -> None:
    bases.choices(home)  # reads what lies among the models of InvokeAI
    invoke = home.parent / "invoke/models/0a1b/inked.safetensors"
    headers.read_one(home, headers.Wanted(invoke, headers.stamp(invoke)))
    assert named(home, order="name") == ["library/clay", "runs/fox", "invokeai/0a1b/inked", "forge/people/sailor"]
    assert named(home, place="forge") == ["forge/people/sailor"] and named(home, family="SDXL") == ["library/clay"]
    assert named(home, text="CLAY zq") == ["library/clay"] and named(home, text="no such") == []
    card = shelf.recall(home, "forge/people/sailor")
    assert card.whose == "Forge" and shelf.recall(home, card.item.id).item == card.item
    assert "?run=fox" not in cards.card_html(card)
    with pytest.raises(UserError):
        shelf.recall(home, "../settings")


def test_their_bases_are_offered(home: Path) -> None:
    offered = dict(bases.choices(home))
    assert [title for title in offered if "Forge" in title] == ["real (Forge, Stable Diffusion 1.x)"]
    assert any(title.startswith("2c3d/xl (InvokeAI") for title in offered) and "demo" in offered.values()
    assert not any("inked" in title for title in offered)
    with owners.seen_by(owners.Viewer("ada", False, home)):
        assert not any(
            "Forge" in title or "InvokeAI" in title for title, _ in bases.choices(home)
        ) and "forge/people/sailor" not in named(home)


def test_headers_are_read_once_and_kept_between_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(shelf.AT_ONCE + 5):
        adapter(home / "library" / f"many{number}.safetensors")
    assert shelf.cards(home)[0].seen is None or shelf.reading(home).total in (0, shelf.AT_ONCE + 8)
    limit = time.monotonic() + 30
    while shelf.reading(home).total and time.monotonic() < limit:
        time.sleep(0.02)
    assert all(card.seen for card in shelf.cards(home))
    headers._memory.cache_clear()  # as a new start
    read: list[Path] = []
    monkeypatch.setattr(headers, "glance", lambda path, beside: read.append(path))
    assert all(card.seen for card in shelf.cards(home)) and read == []
    (home / ".cache" / "headers.json").write_text('{"form": 1, "files": {"x": 3}}')
    headers._memory.cache_clear()
    assert headers.known(home, home / "library/clay.safetensors", (0.0, 0)) is None, "a damaged memory is passed over"


def test_tags_and_notes_lie_beside_the_file(home: Path) -> None:
    item = adapters.find(home, str(home / "library/clay.safetensors"))
    labels.write(item, " soft,  warm light ,soft", "use with <b>care</b>")
    assert (home / "library/clay.notes.json").is_file() and named(home, tag="warm light") == ["library/clay"]
    assert named(home, text="care") == ["library/clay"]
    html = cards.card_html(shelf.recall(home, "library/clay"))
    assert '<span class="tag">soft</span>' in html
    labels.write(item, "", "")
    assert not (home / "library/clay.notes.json").exists()
    theirs = shelf.recall(home, "forge/people/sailor").item
    labels.write(theirs, "x", "y")
    assert [path.name for path in theirs.path.parent.iterdir()] == ["sailor.safetensors"], "their folders are only read"


def test_into_the_trash_and_back(home: Path) -> None:
    item = adapters.find(home, str(home / "library/clay.safetensors"))
    labels.write(item, "soft", "")
    content = item.path.read_bytes()
    place = removing.remove(home, item)
    assert "library/clay" not in named(home) and not list((home / "library").iterdir())
    assert removing.restore(home, place).read_bytes() == content and labels.read(item).tags == ("soft",)
    step = shelf.recall(home, "runs/fox").item
    place = removing.remove(home, step)
    assert named(home, place="runs") == ["runs/fox-s000200"], "the run has others"
    step.path.write_bytes(b"another")
    with pytest.raises(UserError, match="cannot be brought back"):
        removing.restore(home, place)
    assert step.path.read_bytes() == b"another"
    with pytest.raises(UserError, match="only read here"):
        removing.remove(home, shelf.recall(home, "forge/people/sailor").item)


@pytest.mark.parametrize("place", ["../../etc", "/etc", "library/../../x", "runs/../../x/export"])
def test_nothing_comes_back_to_somewhere_else(home: Path, place: str) -> None:
    item = adapters.find(home, str(home / "library/clay.safetensors"))
    trashed = removing.remove(home, item)
    (trashed / removing.PLACE).write_text(place)
    with pytest.raises(UserError):
        removing.restore(home, trashed)
    with pytest.raises(UserError):
        removing.restore(home, home / "runs" / "fox")
    with owners.seen_by(owners.Viewer("ada", False, home)), pytest.raises(UserError):
        removing.restore(home, trashed)
