"""Importing into a set: what is stored, what is said of it, and what an accident leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from tests.trainer.pictures.samples import captions, encoded, picture, read_all, tree, zipped
from trainer.contract.errors import UserError
from trainer.pictures import album as albums
from trainer.pictures.album import Concept, identity, locate, open_album
from trainer.pictures.captions import MOST_LETTERS
from trainer.pictures.exporting import export_pictures
from trainer.pictures.importing import ImportOptions, import_pictures


def stored(folder, name):
    """The picture of a set that the user called so."""
    entry = next(entry for entry in open_album(folder).entries if entry.name == name)
    return Image.open(locate(folder, entry.file))


def test_equal_names_in_different_folders_both_arrive(tmp_path):
    picture(tmp_path / "in" / "a" / "1.png", "red")
    picture(tmp_path / "in" / "b" / "1.jpg", "green")
    (tmp_path / "in" / "a" / "1.txt").write_text("from a\nor from a\n")
    (tmp_path / "in" / "b" / "1.caption").write_text("from b")
    seen, before = [], tree(tmp_path / "in")
    report = import_pictures(
        [tmp_path / "in"], tmp_path / "out", on_progress=lambda done, total: seen.append((done, total))
    )
    assert report.accepted == ("a/1.png", "b/1.jpg")
    assert captions(tmp_path / "out") == {"a/1.png": ("from a", "or from a"), "b/1.jpg": ("from b",)}
    assert seen == [(1, 2), (2, 2)]
    assert tree(tmp_path / "in") == before
    assert (report.seen, report.others, report.notes) == (2, 2, ())


def test_copies_lie_under_the_names_of_their_content_and_can_be_trained_on(tmp_path):
    picture(tmp_path / "in" / "a.png", "red")
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    (entry,) = open_album(tmp_path / "out").entries
    data = (tmp_path / "out" / entry.file).read_bytes()
    assert entry.id == identity(data) == report.ids[0]
    assert entry.file == f"pictures/{entry.id[:2]}/{entry.id}.png"
    assert (entry.size, entry.mask, entry.concept) == ((8, 4), None, "")
    assert read_all(tmp_path / "out") == [tmp_path / "out" / entry.file]


def test_a_zip_gives_the_same_as_its_folder(tmp_path):
    members = {
        "deep/10.png": encoded("red"),
        "deep/2.png": encoded("green"),
        "deep/2.txt": "two",
        "deep/metadata.jsonl": json.dumps({"file_name": "10.png", "text": "ten"}) + "\n\nnot json\n",
        "__MACOSX/deep/._2.png": b"rubbish",
        "deep/.hidden.png": encoded("blue"),
        "deep/.DS_Store": b"\0",
    }
    archive = zipped(tmp_path / "in.zip", members)
    for name, data in members.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    for source in (tmp_path / "in", archive):
        report = import_pictures([source], tmp_path / f"out-{source.name}")
        assert report.accepted == ("deep/2.png", "deep/10.png")
        assert captions(tmp_path / f"out-{source.name}") == {"deep/2.png": ("two",), "deep/10.png": ("ten",)}
        assert len(report.notes) == 1
        assert "line 3" in report.notes[0]


def test_single_files_take_captions_beside_them_or_given_along(tmp_path):
    beside = picture(tmp_path / "x" / "a.png", "red")
    (tmp_path / "x" / "a.txt").write_text("beside")
    uploaded = picture(tmp_path / "y" / "b.jpg", "blue")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "b.txt").write_text("along")
    (tmp_path / "z" / "alone.txt").write_text("of no picture")
    given = [beside, tmp_path / "z" / "b.txt", uploaded, tmp_path / "z" / "alone.txt"]
    report = import_pictures(given, tmp_path / "out")
    assert report.seen == 2
    assert captions(tmp_path / "out") == {"a.png": ("beside",), "b.jpg": ("along",)}
    assert "alone.txt" in report.notes[0]


def test_pixels_arrive_upright_in_srgb_without_metadata(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 3
    exif[270] = "where I live"
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png", exif=exif)
    Image.fromarray(pixels).resize((64, 64)).save(tmp_path / "in" / "b.jpg", exif=exif, quality=90)
    exif[274] = 1
    Image.fromarray(pixels).save(tmp_path / "in" / "c.jpg", exif=exif, comment=b"where I live", quality=50)
    import_pictures([tmp_path / "in"], tmp_path / "out")
    assert np.array_equal(np.asarray(stored(tmp_path / "out", "a.png")), pixels[::-1, ::-1])
    copy = stored(tmp_path / "out", "c.jpg")
    assert np.array_equal(np.asarray(copy), np.asarray(Image.open(tmp_path / "in" / "c.jpg")))
    assert Path(copy.filename).stat().st_size < (tmp_path / "in" / "c.jpg").stat().st_size, "it was coded again"
    for path in (tmp_path / "out" / "pictures").glob("*/*"):
        assert b"where I live" not in path.read_bytes()


def test_transparency_becomes_a_mask_before_the_chosen_colour(tmp_path):
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 2, 4))
    (tmp_path / "in").mkdir()
    clear.save(tmp_path / "in" / "a.png")
    Image.new("RGBA", (4, 4), (9, 9, 9, 255)).save(tmp_path / "in" / "opaque.png")
    import_pictures([tmp_path / "in"], tmp_path / "out", options=ImportOptions(background="#00FF00"))
    entries = {entry.name: entry for entry in open_album(tmp_path / "out").entries}
    assert stored(tmp_path / "out", "a.png").getpixel((0, 0)) == (0, 255, 0)
    assert stored(tmp_path / "out", "a.png").getpixel((3, 0)) == (255, 0, 0)
    mask = Image.open(tmp_path / "out" / entries["a.png"].mask)
    assert (mask.mode, mask.getpixel((0, 0)), mask.getpixel((3, 3))) == ("L", 0, 255)
    assert entries["opaque.png"].mask is None
    assert open_album(tmp_path / "out").background == "#00ff00"
    with pytest.raises(UserError, match="no colour"):
        import_pictures([tmp_path / "in"], tmp_path / "out", options=ImportOptions(background="green"))


def test_a_mask_beside_its_picture_goes_with_it(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / "in" / f"{name}.png", name.replace("a", "red").replace("b", "blue").replace("c", "lime"))
    Image.new("L", (16, 8), 128).save(tmp_path / "in" / "a-masklabel.png")
    Image.new("L", (8, 8), 128).save(tmp_path / "in" / "b-masklabel.png")
    (tmp_path / "in" / "c-masklabel.png").write_bytes(b"no picture")
    Image.new("L", (8, 8)).save(tmp_path / "in" / "nobody-masklabel.png")
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    masks = {entry.name: entry.mask for entry in open_album(tmp_path / "out").entries}
    assert masks["b.png"] is masks["c.png"] is None
    mask = Image.open(tmp_path / "out" / masks["a.png"])
    assert (mask.size, mask.getpixel((0, 0))) == ((8, 4), 128)
    assert (report.seen, report.others) == (3, 4)
    told = "\n".join(report.notes)
    assert "8 x 8 is not the picture's shape" in told
    assert "c.png: Its mask was not used. The file is not a picture" in told
    assert "nobody-masklabel.png" in told


def test_every_file_is_accounted_for(tmp_path):
    picture(tmp_path / "in" / "a.png", "red")
    picture(tmp_path / "in" / "same.bmp", "red")
    (tmp_path / "in" / "broken.png").write_bytes(encoded()[:-30])
    (tmp_path / "in" / "wrong.png").write_bytes(encoded("blue", "JPEG"))
    (tmp_path / "in" / "without_suffix").write_bytes(encoded("lime", "WEBP", lossless=True))
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere")
    picture(tmp_path / "elsewhere" / "b.png", "blue")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    for name in ("raw.dng", "inner.zip", "notes.json", ".DS_Store", "orphan.txt"):
        (tmp_path / "in" / name).touch()
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert report.accepted == ("a.png", "without_suffix", "wrong.png")
    assert [(item.source, item.same_as) for item in report.duplicates] == [(str(tmp_path / "in" / "same.bmp"), "a.png")]
    names = {Path(item.source).name: item.reason for item in report.rejected}
    assert set(names) == {"broken.png", "raw.dng", "inner.zip", "gone.png"}
    assert "leads nowhere" in names["gone.png"]
    assert (report.seen, report.others) == (8, 3)
    assert "not followed" in report.notes[0]
    assert "orphan.txt" in report.notes[1] and "notes.json" in report.notes[2]


def test_importing_again_adds_nothing_but_captions_that_were_missing(tmp_path):
    picture(tmp_path / "in" / "a.png", "red")
    picture(tmp_path / "in" / "b.jpg", "green")
    first = import_pictures([tmp_path / "in"], tmp_path / "out")
    again = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert first.accepted == ("a.png", "b.jpg")
    assert (again.accepted, len(again.duplicates)) == ((), 2)
    (tmp_path / "in" / "a.txt").write_text("late")
    third = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert len(third.duplicates) == 2 and "got one" in third.notes[0]
    assert captions(tmp_path / "out") == {"a.png": ("late",), "b.jpg": ()}
    assert albums.undo(tmp_path / "out") and albums.undo(tmp_path / "out") == "Import of 2 pictures"
    assert open_album(tmp_path / "out").entries == ()


def test_folders_of_kohya_become_concepts(tmp_path):
    picture(tmp_path / "in" / "10_sks dog" / "1.png", "red")
    picture(tmp_path / "in" / "reg" / "1_dog" / "1.png", "blue")
    picture(tmp_path / "20_ohwx cat" / "1.png", "lime")
    report = import_pictures([tmp_path / "in", tmp_path / "20_ohwx cat"], tmp_path / "out")
    album = open_album(tmp_path / "out")
    assert album.concepts == {
        "10_sks dog": Concept(trigger="sks dog", repeats=10),
        "reg/1_dog": Concept(class_word="dog", regularisation=True),
        "20_ohwx cat": Concept(trigger="ohwx cat", repeats=20),
    }
    assert {entry.concept for entry in album.entries} == set(album.concepts)
    assert any("10_sks dog" in note and "10 times" in note for note in report.notes)
    picture(tmp_path / "more" / "5_other" / "2.png", "black")
    import_pictures([tmp_path / "more"], tmp_path / "out", options=ImportOptions(concept="mine"))
    assert open_album(tmp_path / "out").concepts["mine"] == Concept()
    assert "5_other" not in open_album(tmp_path / "out").concepts


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("00010_a b", Concept(trigger="a b", repeats=10)),
        (" 7_ a ", Concept(trigger="a", repeats=7)),
        ("10_", Concept(repeats=10)),
        ("_x", None),
        ("2023_summer", None),  # a year
        ("10-x", None),
    ],
)
def test_a_folder_of_kohya_is_known_by_its_number(name, concept):
    assert albums.concept_of_folder(PurePosixPath(name, "1.png"))[1] == concept


def test_references_leave_pictures_where_they_are(tmp_path):
    path = picture(tmp_path / "in" / "a.png", "red")
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "in" / "clear.png")
    (tmp_path / "in" / "broken.png").touch()
    (tmp_path / "in" / "a.txt").write_text("said")
    before = tree(tmp_path / "in")
    reference = ImportOptions(reference=True)
    report = import_pictures([tmp_path / "in"], tmp_path / "out", options=reference)
    entries = open_album(tmp_path / "out").entries
    assert (entries[0].file, entries[0].id, entries[0].captions) == (str(path), identity(str(path)), ("said",))
    assert (report.accepted, len(report.rejected)) == (("a.png", "clear.png"), 1)
    assert entries[1].mask is None, "training reads the transparency that is there then"
    assert not (tmp_path / "out" / "pictures").exists()
    assert tree(tmp_path / "in") == before
    assert len(import_pictures([tmp_path / "in"], tmp_path / "out", options=reference).duplicates) == 2
    archive = zipped(tmp_path / "in.zip", {"a.png": encoded()})
    with pytest.raises(UserError, match="zip cannot stay"):
        import_pictures([archive], tmp_path / "out", options=reference)


def test_a_name_that_is_no_text_is_copied_but_not_referred_to(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded())
    report = import_pictures([tmp_path / "in"], tmp_path / "out", options=ImportOptions(reference=True))
    assert "no valid text" in report.rejected[0].reason
    json.dumps(report.rejected, ensure_ascii=False).encode()
    assert import_pictures([tmp_path / "in"], tmp_path / "out").accepted == ("caf?.png",)


def test_a_source_around_the_destination_does_not_eat_itself(tmp_path):
    picture(tmp_path / "a.png", "red")
    picture(tmp_path / "out" / "old.png", "blue")
    report = import_pictures([tmp_path], tmp_path / "out")
    assert report.seen == 1
    with pytest.raises(UserError, match="into itself"):
        import_pictures([tmp_path / "out"], tmp_path / "out")
    with pytest.raises(UserError, match="no such"):
        import_pictures([tmp_path / "gone"], tmp_path / "out")


def test_a_plain_folder_that_is_imported_into_keeps_its_pictures(tmp_path):
    for name, colour in (("old.png", "blue"), ("twin.png", "blue")):
        picture(tmp_path / "out" / name, colour, compress_level=3)
    (tmp_path / "out" / "old.txt").write_text("as before")
    picture(tmp_path / "in" / "new.png", "red")
    picture(tmp_path / "in" / "known.png", "blue")
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert captions(tmp_path / "out") == {"new.png": (), "old.png": ("as before",), "twin.png": ()}
    assert len(read_all(tmp_path / "out")) == 3
    assert report.accepted == ("new.png",) and len(report.duplicates) == 1


def test_an_import_that_was_killed_shows_nothing_and_is_done_again(tmp_path):
    for index in range(60):
        noise = np.random.default_rng(index).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "in" / f"{index}.png")
    code = f"""
import time
from pathlib import Path
from trainer.pictures.importing import import_pictures
def slowly(done, total):
    print(done, flush=True)
    time.sleep(0.05)
import_pictures([Path({str(tmp_path / "in")!r})], Path({str(tmp_path / "out")!r}), on_progress=slowly)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 10:
                process.send_signal(signal.SIGKILL)
                break
    copies = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pictures").glob("*/*.png")}
    assert len(copies) >= 10 and open_album(tmp_path / "out").entries == ()
    torn = next(iter(copies)).with_name(".half.png.999999999.tmp")  # no process has this number
    torn.write_bytes(b"half")
    time.sleep(0.5)  # the workers end by themselves
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert len(report.accepted) == len(read_all(tmp_path / "out")) == 60
    assert all(path.stat().st_mtime_ns == when for path, when in copies.items()), "a copy was written twice"
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_full_disk_ends_the_import_with_a_sentence(tmp_path):
    picture(tmp_path / "in" / "a.png")
    import_pictures([tmp_path / "in"], tmp_path / "out")
    picture(tmp_path / "in" / "b.png", "blue")
    (tmp_path / "limited.py").write_text(f"""
import resource, signal
from pathlib import Path
from trainer.contract.errors import UserError
from trainer.pictures.importing import import_pictures
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write that goes too far is an error; the workers inherit both
resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))
try:
    import_pictures([Path({str(tmp_path / "in")!r})], Path({str(tmp_path / "out")!r}))
except UserError as error:
    print(error)
""")
    done = subprocess.run([sys.executable, tmp_path / "limited.py"], capture_output=True, text=True, check=False)
    assert "import again" in done.stdout, done.stderr
    assert len(open_album(tmp_path / "out").entries) == 1


def test_films_give_their_first_frame_and_one_notice_for_all(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(5):
        frames = [Image.new("RGB", (8, 8), (index, shade, 0)) for shade in (255, 0)]
        frames[0].save(tmp_path / "in" / f"{index}.webp", save_all=True, append_images=frames[1:], lossless=True)
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert len(report.accepted) == 5 and len(report.notes) == 1
    assert "2 other pictures: Only the first of its frames" in report.notes[0]
    assert stored(tmp_path / "out", "3.webp").getpixel((0, 0)) == (3, 255, 0)


def test_pictures_that_differ_in_transparency_only_are_all_kept(tmp_path):
    (tmp_path / "in").mkdir()
    for name, alpha in (("a", 255), ("b", 0), ("c", 128)):
        clear = Image.new("RGBA", (8, 4), (255, 255, 255, 255))
        clear.paste((255, 255, 255, alpha), (0, 0, 4, 4))
        clear.save(tmp_path / "in" / f"{name}.png")
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert report.accepted == ("a.png", "b.png", "c.png")
    export_pictures(tmp_path / "out", tmp_path / "out.zip")
    assert len(import_pictures([tmp_path / "out.zip"], tmp_path / "out").duplicates) == 3
    assert len(import_pictures([tmp_path / "in"], tmp_path / "out").duplicates) == 3


def test_duplicates_bring_what_was_missing_and_the_rest_is_told(tmp_path):
    picture(tmp_path / "in" / "a.png", "red")
    import_pictures([tmp_path / "in"], tmp_path / "out")
    Image.new("L", (8, 4), 128).save(tmp_path / "in" / "a-masklabel.png")
    assert (
        "1 pictures that were there without a mask got one."
        in import_pictures([tmp_path / "in"], tmp_path / "out").notes
    )
    (before,) = open_album(tmp_path / "out").entries
    assert before.mask
    picture(tmp_path / "more" / "5_dog" / "b.png", "red")
    (tmp_path / "in" / "a.txt").write_text("said")
    import_pictures([tmp_path / "in"], tmp_path / "out")
    (tmp_path / "more" / "5_dog" / "b.txt").write_text("said otherwise")
    Image.new("L", (8, 4), 7).save(tmp_path / "more" / "5_dog" / "b-masklabel.png")
    told = "\n".join(import_pictures([tmp_path / "more"], tmp_path / "out").notes)
    assert "1 duplicates had other captions" in told and "1 duplicates had another mask" in told
    assert "1 duplicates were of another concept" in told
    assert open_album(tmp_path / "out").entries == (before.model_copy(update={"captions": ("said",)}),)


def test_a_set_of_which_nothing_comes_is_not_made(tmp_path):
    (tmp_path / "in").mkdir()
    assert import_pictures([tmp_path / "in"], tmp_path / "out").seen == 0
    (tmp_path / "in" / "broken.png").write_bytes(encoded()[:-30])
    assert len(import_pictures([tmp_path / "in"], tmp_path / "out").rejected) == 1
    picture(tmp_path / "in" / "a.png")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_pictures([tmp_path / "in"], tmp_path / "out", on_progress=stop)
    assert not (tmp_path / "out").exists()


def test_a_path_is_the_same_however_it_is_given(tmp_path):
    path = picture(tmp_path / "in" / "a.png")
    (tmp_path / "link.png").symlink_to(path)
    given = [path, path, tmp_path / "in" / ".." / "in" / "a.png", tmp_path / "link.png"]
    report = import_pictures(given, tmp_path / "out", options=ImportOptions(reference=True))
    assert (len(report.accepted), len(report.duplicates)) == (1, 3)


def test_captions_find_their_pictures_however_accents_are_written(tmp_path):
    for form, colour in (("NFC", "red"), ("NFD", "blue")):
        name = unicodedata.normalize(form, f"é-{form}")
        picture(tmp_path / "in" / f"{name}.png", colour)
        (tmp_path / "in" / f"{unicodedata.normalize('NFC' if form == 'NFD' else 'NFD', name)}.txt").write_text(form)
    import_pictures([tmp_path / "in"], tmp_path / "out")
    assert sorted(captions(tmp_path / "out").values()) == [("NFC",), ("NFD",)]


def test_texts_that_say_nothing_or_too_much_cost_no_picture(tmp_path):
    for name, text, other in (("empty", "", "said"), ("book", "word " * 2**19, ""), ("long", "y" * 20_000, "")):
        picture(tmp_path / "in" / f"{name}.png", {"empty": "red", "book": "blue", "long": "lime"}[name])
        (tmp_path / "in" / f"{name}.txt").write_text(text)
        (tmp_path / "in" / f"{name}.caption").write_text(other)
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    found = captions(tmp_path / "out")
    assert (found["empty.png"], found["book.png"]) == (("said",), ())
    assert found["long.png"] == ("y" * MOST_LETTERS,)
    assert "book.txt was not used: The file has 2 MiB" in "".join(report.notes) and "long.txt" in "".join(report.notes)


def test_names_cannot_write_to_the_terminal(tmp_path):
    members = {"\x1b[2Jgood.png": encoded("red"), "\x1b]0;bad\x07.png": "no picture", "\x9bnote\r.txt": "alone"}
    report = import_pictures([zipped(tmp_path / "in.zip", members)], tmp_path / "out")
    assert report.accepted == ("?[2Jgood.png",) and report.rejected[0].source.endswith("/?]0;bad?.png")
    said = "".join((*report.notes, *captions(tmp_path / "out"), *report.rejected[0]))
    assert "?note?.txt" in said and not set(said) & {"\x1b", "\x07", "\r", "\x9b"}
