"""The Dataset tab below the page: captions are kept, imports told, fixes found again, concepts read, files served."""

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from app import routes
from app.tabs.dataset import bulk, concepts, crops, doctor, editor, importing
from app.tabs.dataset.background import beside
from app.tabs.dataset.desk import Desk, bound, of
from app.views import sets, uploads
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.pictures.album import Album, Concept, Entry, identity, next_undo, open_album
from trainer.pictures.importing import Duplicate, ImportReport, import_pictures
from trainer.pictures.shelves import Rejected


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return find_home(tmp_path / "home")


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """A set of three pictures with a caption each."""
    for number, caption in enumerate(("a cat, solo", "a dog", "a bird, solo")):
        draw(tmp_path / "mine" / f"{number}.png", 60 * number).with_suffix(".txt").write_text(caption)
    import_pictures([tmp_path / "mine"], home / "datasets" / "set")
    return home / "datasets" / "set"


def draw(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").rotate(shade).resize((64, 48)).convert("RGB").save(path)
    return path


def desk(home: Path) -> Desk:
    return Desk(SimpleNamespace(home=home), *[None] * 10)  # type: ignore[arg-type]


def test_a_caption_is_written_once_and_only_if_somebody_typed(home: Path, folder: Path) -> None:
    first, before = open_album(folder).entries[0], next_undo(folder)
    place = desk(home)
    read, other = map(editor.entry_stamp, open_album(folder).entries[:2])
    assert not editor.save_caption(place, str(folder), first.id, "a cat, solo", read)
    assert not editor.save_caption(place, str(folder), "f" * 32, "for one that is gone", "f" * 32)
    assert not editor.save_caption(place, str(folder), first.id, "typed over another picture's", other)
    assert next_undo(folder) == before
    assert editor.save_caption(place, str(folder), first.id, "one\n\n  two  words\n", read)
    assert open_album(folder).entries[0].captions == ("one", "two words")
    assert not editor.save_caption(place, str(folder), first.id, "one\n\n  two  words\n", read), "said again"
    with pytest.raises(editor.Overwritten, match="now it says: one / two words") as caught:
        editor.save_caption(place, str(folder), first.id, "of another tab", read)
    assert open_album(folder).entries[0].captions == ("one", "two words")
    assert editor.save_caption(place, str(folder), first.id, "of another tab", read, caught.value.now)
    assert open_album(folder).entries[0].captions == ("of another tab",)
    with pytest.raises(UserError, match="not one of yours"):
        editor.save_caption(place, str(home / "runs"), first.id, "x", read)


def test_an_edit_of_many_is_shown_as_it_is_made(home: Path, folder: Path) -> None:
    chosen = open_album(folder).entries[0].id
    selected = bound([str(folder)], chosen)
    asked = bulk._Asked(str(folder), "", "all", selected, "chosen", "remove", "solo", "", False, False)
    shown = bulk._preview_html(asked)
    assert "<b>1</b> of 1 picture would change" in shown and "<td>a cat, solo</td><td>a cat</td>" in shown
    bulk._apply(desk(home), asked)
    assert sets.captions(folder) == ["a cat", "a dog", "a bird, solo"]
    bulk._apply(desk(home), asked._replace(scope="shown", text="tag:solo"))
    assert sets.captions(folder) == ["a cat", "a dog", "a bird"]
    assert "regular expression" in bulk._preview_html(asked._replace(way="replace", first="(", pattern=True))
    with pytest.raises(UserError, match="nothing to do"):
        bulk._apply(desk(home), asked._replace(first=""))


@pytest.mark.parametrize("way", bulk.WAYS)
def test_every_way_to_change_captions_works(folder: Path, way: str) -> None:
    asked = bulk._Asked(str(folder), "", "all", "", "shown", way, "solo", "alone", False, False)
    assert "would change" in bulk._preview_html(asked)


def told(events: Any) -> list[Any]:
    """The reports of some events, which stand before word of a change."""
    return [event[-2] for event in events]


def test_a_folder_of_this_machine_is_copied_or_left_where_it_is(home: Path, tmp_path: Path) -> None:
    source = draw(tmp_path / "photos" / "a" / "1.png", 20)
    for name, leave in (("copied", False), ("left", True)):
        target = sets.create(home, name)
        said = told(importing._import_place(home, str(tmp_path / "photos"), leave, str(target)))
        assert "<b>1</b> added" in said[-1]
        (entry,) = open_album(target).entries
        assert (Path(entry.file) == source) is leave
    assert source.is_file()


def test_what_goes_wrong_with_an_import_is_said_and_leaves_no_set(home: Path, tmp_path: Path) -> None:
    outside, new = tmp_path / "elsewhere", home / "datasets" / "x"
    for text, into, words in (
        ("", new, "no folder is named"),
        (str(tmp_path / "none"), new, "no such file or folder"),
        (str(tmp_path / "none"), "", "no such file or folder"),
        ("/", outside, "not one of yours"),
    ):
        said = told(importing._import_place(home, text, False, str(into)))[-1]
        assert "Nothing was added" in said and words in said
    assert not outside.exists() and sets.own(home) == []


def broken(folder: Path) -> Path:
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_an_import_that_brings_nothing_leaves_no_set_and_a_page_goes_on_with_another(
    home: Path, tmp_path: Path
) -> None:
    events = list(importing._import_place(home, str(broken(tmp_path / "bad")), False, ""))
    opened = Path(events[0][0].value)
    assert opened.parent == home / "datasets" and "<b>1</b> not usable" in events[-1][1]
    assert sets.own(home) == [] and not opened.exists()
    assert importing._still_there(home, str(opened)).value is None
    mine = sets.create(home, "mine")
    assert importing._still_there(home, str(opened)).value == str(mine)
    assert "value" not in importing._still_there(home, str(mine))
    list(importing._import_place(home, str(tmp_path / "bad"), False, str(mine)))
    assert mine.is_dir(), "a set that somebody made stays, empty or not"


def test_what_chooses_a_set_says_nothing_else_of_it(home: Path, tmp_path: Path) -> None:
    """An answer without a value may take away the value that one just before it has put there."""
    opened = importing._open_sample(home, "subject")
    assert opened.value == str(sets.sample_copy(home, "subject"))
    told = list(importing._use_sample(home, "subject"))
    assert len(told[-1]) == 2 and "added" in told[-1][0]
    assert next(importing._use_sample(home, "subject"))[0] == "", "what is there already is not copied again"
    later = list(importing._import_place(home, str(broken(tmp_path / "bad")), False, ""))[1:]
    assert later and all(event[0] == gr.skip() for event in later)


def test_an_upload_of_which_nothing_arrived_leaves_no_set(home: Path) -> None:
    token, _ = uploads.begin(home, ["a.png"], [1])
    said = told(importing._import_upload(home, token, ""))
    assert "Nothing has arrived" in said[-1] and sets.own(home) == [] and not list(uploads.place(home).iterdir())
    assert "not known any more" in told(importing._import_upload(home, token, ""))[-1]


def test_a_page_that_is_loaded_again_shows_the_import_that_goes_on_and_then_what_came_of_it(
    home: Path, tmp_path: Path
) -> None:
    for number in range(30):
        draw(tmp_path / "photos" / f"{number}.png", 11 * number)
    page = importing._import_place(home, str(tmp_path / "photos"), False, "")
    assert next(page)[0].value == str(home / "datasets" / "my-pictures")
    page.close()  # the page is gone
    said = told(importing._again(home))[1:]
    assert "my-pictures: " in said[0] and "<progress" in said[0]
    assert "<b>30</b> added" in said[-1] and len(open_album(home / "datasets" / "my-pictures").entries) == 30
    assert told(importing._again(home))[-1] == said[-1], "also where it ended while no page was there"
    assert len(told(importing._again(tmp_path))) == 1, "of another data folder: nothing"


def test_reports_are_in_the_senders_names(tmp_path: Path) -> None:
    report = ImportReport(rejected=(Rejected(f"{tmp_path}/a/<b>.png", "Broken."),), notes=(f"{tmp_path}/x.txt: odd",
        f"{tmp_path}: nothing", f"{tmp_path}/%3Ci%3E.gif: %25"))  # fmt: skip
    shown = importing.report_html(importing._as_sent(report, tmp_path), "se<t")
    assert "se&lt;t: <b>0</b> added" in shown and "<li>what was sent: nothing</li>" in shown
    assert "<li>&lt;i&gt;.gif: %</li>" in shown, "a name is shown as it was sent"
    assert "a/&lt;b&gt;.png: Broken." in shown and "<li>x.txt: odd</li>" in shown and str(tmp_path) not in shown


def test_what_many_files_have_in_common_is_said_once() -> None:
    empty = tuple(Rejected(f"{number}.png", "Empty.") for number in range(1500))
    twins = tuple(Duplicate(f"{number}.jpg", "a.png") for number in range(2))
    shown = importing.report_html(ImportReport(("a.png",), twins, (*empty, Rejected("b.png", "Cut."))), "set")
    assert "<b>1</b> added · <b>2</b> there already · <b>1501</b> not usable" in shown
    assert shown.count("Empty.") == 1 and "<summary>1500 times: Empty.</summary>" in shown
    assert "<li>999.png</li><li>and 500 more</li>" in shown and "<li>b.png: Cut.</li>" in shown
    assert "<li>1.jpg is the same as a.png</li>" in shown


def test_work_beside_the_page_tells_and_fails() -> None:
    def work(tell: Any) -> str:
        tell(1, 2)
        return "done"

    def fail(tell: Any) -> str:
        raise UserError("it broke")

    assert list(beside(work))[-1] == "done"
    with pytest.raises(UserError, match="it broke"):
        list(beside(fail))


def test_what_the_doctor_offers_is_done_and_offered_again_when_taken_back(home: Path, folder: Path) -> None:
    visits = [number for _, number in doctor._examine(str(folder), "sdxl") if isinstance(number, str)]
    shown = doctor.cards_html(visits[-1])
    finding = next(
        place for place, one in enumerate(doctor._visits[visits[-1]].findings.findings) if one.kind == "small"
    )
    assert 'data-kind="small"' in shown and shown.count("data-out=") >= 3
    doctor._treat(desk(home), visits[-1], finding, 0, "")
    assert all(entry.excluded for entry in open_album(folder).entries)
    assert "✓ Leave the small pictures out" in doctor.cards_html(visits[-1])
    editor.change(folder, "back", lambda album: album.model_copy(
        update={"entries": tuple(one.model_copy(update={"excluded": False}) for one in album.entries)}))  # fmt: skip
    assert "✓ Leave the small pictures out" not in doctor.cards_html(visits[-1])
    with pytest.raises(UserError, match="not known any more"):
        doctor._treat(desk(home), "0", 0, 0, "")
    assert doctor.cards_html("0") == ""


def test_steps_are_those_of_repeats_and_shapes(home: Path, folder: Path) -> None:
    shown = crops.shapes_html(str(folder), "demo", 2)
    assert "<b>2</b> steps in an epoch of 3 pictures at batch size 2" in shown and "96 × 96" in shown
    ids = {entry.id for entry in open_album(folder).entries}
    editor.change(folder, "repeats", lambda album: concepts.moved(album, ids, "x").model_copy(
        update={"concepts": {"x": Concept(repeats=4)}}))  # fmt: skip
    assert "<b>6</b> steps" in crops.shapes_html(str(folder), "demo", 2)
    assert "No picture" in crops.shapes_html(str(sets.create(home, "empty")), "demo", 2)


def test_concepts_go_to_the_page_and_back() -> None:
    entry = Entry(id=identity("a"), file="a.png", name="a.png")
    album = concepts.moved(Album(entries=(entry,)), {entry.id}, "dogs")
    own = Concept(trigger="sks", class_word="dog", repeats=3, flip=False, regularisation=True)
    album = album.model_copy(update={"concepts": {"dogs": own}})
    (row,) = concepts.rows(album)
    assert row[:9] == ["dogs", 1, "+100%", "sks", "dog", 3, "", "no", True] and set(row[9:]) == {""}
    assert concepts.read_rows([row, [""] * len(row)]) == album.concepts
    assert concepts.moved(album, {entry.id}, "").concepts == {}, "one without a picture is dropped"


def test_every_setting_of_a_concept_goes_to_the_page_and_back() -> None:
    assert {column.field for column in concepts.COLUMNS} == set(Concept.model_fields)
    given = {"caption_prefix": "art of", "caption_suffix": "by me", "shuffle": "on", "keep_tokens": 0}
    own = Concept(share=0.25, flip=True, tag_dropout=0.1, **given)
    entries = tuple(Entry(id=identity(name), file=name, name=name, concept="dogs" * (name > "b")) for name in "abcd")
    album = Album(entries=entries, concepts={"dogs": own})
    (row,) = concepts.rows(album)
    assert row[2] == "25%" and concepts.read_rows([row]) == album.concepts


@pytest.mark.parametrize(
    ("header", "cell", "words"),
    [
        ("repeats", 0.5, "repeats"),
        ("repeats", 4, "share and repeats"),
        ("mirror", "perhaps", "as the run, yes, no"),
        ("share", "much", "share: 'much'"),
        ("share", "130%", "share: '1.3'"),
        ("shuffle", "wild", "'auto', 'on' or 'off'"),
        ("regularisation", True, "regularisation_weight"),
    ],
)
def test_what_cannot_be_read_of_a_concept_is_said(header: str, cell: Any, words: str) -> None:
    entry = Entry(id=identity("a"), file="a.png", name="a.png", concept="dogs")
    (row,) = concepts.rows(Album(entries=(entry,), concepts={"dogs": Concept(share=0.5)}))
    row[concepts.HEADERS.index(header)] = cell
    with pytest.raises(UserError, match=words):
        concepts.read_rows([row])


def test_what_each_concept_gets_of_an_epoch_is_shown() -> None:
    names = {"a": "", "b": "", "c": "", "d": "small", "e": "reg", "f": "small"}
    entries = tuple(
        Entry(id=identity(name), file=name, name=name, concept=concept, excluded=name == "f")
        for name, concept in names.items()
    )
    groups = {"small": Concept(share=0.5), "reg": Concept(regularisation=True)}
    album = Album(entries=entries, concepts=groups)
    assert concepts.parts(album) == pytest.approx({"": 0.5, "small": 0.5, "reg": 1 / 6})
    too_much = album.model_copy(update={"concepts": groups | {"small": Concept(share=1.0)}})
    with pytest.raises(UserError, match="nothing for the other pictures"):
        concepts.parts(too_much)
    assert concepts.rows(too_much)[0][2] == "", "the table is shown all the same"


def test_copies_and_the_whole_set_are_served_and_nothing_else(home: Path, folder: Path) -> None:
    app = FastAPI()
    routes.add(app, home)
    client = TestClient(app)
    entry = open_album(folder).entries[0]
    answer = client.get(f"/sets/set/{entry.id}/small")
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP" and "immutable" in answer.headers["cache-control"]
    for path in (f"set/{entry.id}/huge", f"other/{entry.id}/small", f"../{entry.id}/small", f"..%2f/{entry.id}/small"):
        assert client.get(f"/sets/{path}").status_code == 404
    assert "no-store" in client.get(f"/sets/set/{'0' * 32}/small").headers["cache-control"], "one that is gone is grey"
    whole = client.get("/sets/set/pictures.zip")
    with zipfile.ZipFile(io.BytesIO(whole.content)) as bundle:
        assert {bundle.read(name).decode().strip() for name in bundle.namelist() if name.endswith(".txt")} == {
            "a cat, solo", "a dog", "a bird, solo",
        }  # fmt: skip
    assert not list((home / ".cache").glob("*.zip*")), "what was sent is deleted"
    assert client.get("/sets/set/pictures.zip", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_a_selection_and_a_page_count_where_they_were_made_only() -> None:
    assert of(["a", "", "all"], bound(["a", "", "all"], "3")) == "3"
    assert of(["a", "cat", "all"], bound(["a", "", "all"], "3")) == ""
    assert of(["b"], bound(["a"], "x y")) == "" == of(["a"], "")
