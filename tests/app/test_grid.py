"""Tiles: what a filter lets through, pages, the neighbours of a picture; nothing of a user is read as HTML."""

from pathlib import Path

import pytest

from app.tabs.dataset import crops
from app.views import grid
from trainer.pictures.album import Album, Concept, Entry, identity


def entry(name: str, *captions: str, **more: object) -> Entry:
    return Entry(id=identity(name), file=f"pictures/{name}", name=name, captions=captions, **more)  # type: ignore[arg-type]


ALBUM = Album(
    concepts={"10_sks dog": Concept(trigger="sks dog", repeats=10)},
    entries=(
        entry("cats/1.png", "a cat, red hair, solo"),
        entry("cats/2.png", "a red hairpin", "second", size=(80, 40)),
        entry("dog.png", concept="10_sks dog", excluded=True, focus=(0.5, 0.5)),
    ),
)


@pytest.mark.parametrize(
    ("text", "kind", "names"),
    [
        ("", "all", ["cats/1.png", "cats/2.png", "dog.png"]),
        ("CATS/", "all", ["cats/1.png", "cats/2.png"]),
        ("red hair", "all", ["cats/1.png", "cats/2.png"]),
        ("tag:Red  hair", "all", ["cats/1.png"]),
        ("Second", "all", ["cats/2.png"]),
        ("", "bare", ["dog.png"]),
        ("", "several", ["cats/2.png"]),
        ("", "excluded", ["dog.png"]),
        ("", "focus", ["dog.png"]),
        ("", "mask", []),
        ("", "concept:10_sks dog", ["dog.png"]),
        ("cat", "concept:10_sks dog", []),
    ],
)
def test_a_filter(text: str, kind: str, names: list[str]) -> None:
    assert [one.name for one in grid.matching(ALBUM, text, kind)] == names


def test_every_kind_that_is_offered_is_known() -> None:
    for _, key in grid.kinds(ALBUM):
        grid.matching(ALBUM, "", key)
    assert ("concept: 10_sks dog", "concept:10_sks dog") in grid.kinds(ALBUM)


def test_pages_hold_every_picture_once(tmp_path: Path) -> None:
    found = [entry(f"{number}.png") for number in range(150)]
    shown = [grid.grid_html(tmp_path, found, 150, number) for number in range(grid.last_page(found) + 1)]
    assert [page.count('class="tile"') for page in shown] == [60, 60, 30]
    assert all(sum(f'data-id="{one.id}"' in page for page in shown) == 1 for one in found)
    assert grid.page_of(found, found[119].id) == 1 and grid.page_of(found, "none") is None


def test_neighbours_go_round() -> None:
    found = list(ALBUM.entries)
    assert grid.neighbour(found, found[2].id, 1) == found[0].id
    assert grid.neighbour(found, found[0].id, -1) == found[2].id
    assert grid.neighbour(found, "gone", 1) == found[0].id
    assert grid.neighbour([], "gone", 1) == ""
    assert grid.span(found, found[2].id, found[0].id) == [one.id for one in found]


def test_what_users_write_is_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    one = entry(f"{evil}.png", evil, concept=evil)
    told = grid.tile_html(tmp_path, one) + crops.stage_html(tmp_path, one, "demo")
    assert "<script" not in told
    assert grid.marks_html('"]{}</style><script>', ['x"] *']) == "<style></style>"


def test_the_part_that_is_kept_follows_the_focus_point(tmp_path: Path) -> None:
    wide = entry("wide.png", size=(400, 100))
    middle = crops.stage_html(tmp_path, wide, "demo")
    right = crops.stage_html(tmp_path, wide.model_copy(update={"focus": (0.9, 0.5)}), "demo")
    assert 'class="kept" x="116.67"' in middle and 'width="166.67"' in middle, "160 x 96 of 400 x 100"
    assert 'class="kept" x="233.33"' in right and 'cx="360.00"' in right
