"""Listings of captions in every form that is about."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.pictures.samples import captions, picture
from trainer.pictures.album import open_album
from trainer.pictures.captions import MOST_LETTERS
from trainer.pictures.importing import import_pictures
from trainer.pictures.listings import Line, read_listing


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "head", [("file_name", "text"), ("File", "Caption"), ("image", "prompt"), ("FileName", "TEXT")]
)
def test_columns_are_found_by_their_names(delimiter, head):
    rows = [head, ("a.png", f'"a cat{delimiter} asleep"'), (), ("b.png", '"two\nlines"')]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert read_listing("captions.csv", text.encode("utf-8-sig")) == [
        Line(2, "a.png", (f"a cat{delimiter} asleep".replace("\t", ""),)),
        Line(5, "b.png", ("two lines",)),
    ]


def test_other_columns_do_not_matter_and_broken_rows_are_told():
    text = "id;caption;width;file\n1;a cat;512;a.png\n2;\n3;a dog;5;;\n"
    assert read_listing("metadata.csv", text.encode("utf-16")) == [
        Line(2, "a.png", ("a cat",)),
        Line(3, None),
        Line(4, None),
    ]


def test_a_table_without_a_head_is_known_by_its_first_file():
    assert read_listing("x.tsv", b"a.png\ta cat\nb.png\ta dog") == [
        Line(1, "a.png", ("a cat",)),
        Line(2, "b.png", ("a dog",)),
    ]
    assert read_listing("prices.csv", b"item,price\ncat,3\n") == []


def test_json_lines_may_hold_several_captions():
    lines = [{"file_name": "a.png", "text": ["one", "two"]}, {"image": "b.png", "caption": "x \ud800 y\0z"}, [1], "a"]
    found = read_listing("metadata.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert found == [Line(1, "a.png", ("one", "two")), Line(2, "b.png", ("x ? y z",)), Line(3, None), Line(4, None)]


@given(st.binary(max_size=200), st.sampled_from(["metadata.jsonl", "captions.csv", "x.tsv"]))
def test_no_bytes_are_too_odd(data, name):
    for line in read_listing(name, data):
        assert line.file is None or "".join(line.captions).encode() is not None


def test_captions_reach_sub_folders_and_bare_names_and_a_text_beside_wins(tmp_path):
    for name, colour in (("sub/a.png", "red"), ("b.png", "blue"), ("images/C.PNG", "lime"), ("x/t.png", "black")):
        picture(tmp_path / "in" / name, colour)
    picture(tmp_path / "in" / "y" / "t.png", "white")
    lines = [{"file_name": "sub\\a.png", "text": "listed a"}, {"file_name": "b.png", "text": "listed b"}]
    (tmp_path / "in" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "in" / "captions.csv").write_text("image,caption\nC.PNG,first\nC.PNG,second\nt.png,which?\nno.png,x\n")
    (tmp_path / "in" / "b.txt").write_text("beside b")
    (tmp_path / "in" / "metadata.csv").write_text("this,that\n1,2\n")
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert captions(tmp_path / "out") == {
        "sub/a.png": ("listed a",),
        "b.png": ("beside b",),
        "images/C.PNG": ("first", "second"),
        "x/t.png": (),
        "y/t.png": (),
    }
    told = "\n".join(report.notes)
    assert "2 of its lines are about pictures that are not there" in told
    assert "metadata.csv was not used" in told
    assert (report.seen, report.others) == (5, 4)


def test_a_plain_folder_is_read_as_it_would_be_imported(tmp_path):
    for number, name in enumerate(("a.png", "sub/b.png", "UP.PNG", "shot-masklabel.jpg", "c.png", "c-masklabel.png")):
        picture(tmp_path / "in" / name, (40 * number, 0, 0))
    (tmp_path / "in" / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "listed a"}')
    (tmp_path / "in" / "captions.csv").write_text("file,caption\nsub/b.png,listed b\n")
    (tmp_path / "in" / "up.TXT").write_text("beside up")
    import_pictures([tmp_path / "in"], tmp_path / "out")
    assert captions(tmp_path / "in") == captions(tmp_path / "out")
    assert captions(tmp_path / "in") == {
        "a.png": ("listed a",), "sub/b.png": ("listed b",), "UP.PNG": ("beside up",), "c.png": (),
        "shot-masklabel.jpg": (),
    }  # fmt: skip
    assert [entry.mask for entry in open_album(tmp_path / "in").entries if entry.mask] == ["c-masklabel.png"]


@pytest.mark.parametrize(
    "text", ["0.png,sks dog, sitting, outside", "file,caption\n0.png,sks dog, sitting, outside,,\n"]
)
def test_a_caption_in_the_last_column_keeps_its_commas(text):
    (line,) = read_listing("captions.csv", text.encode())
    assert line[1:] == ("0.png", ("sks dog, sitting, outside",))


def test_surplus_cells_behind_another_column_are_told():
    assert read_listing("captions.csv", b"caption,file\na dog, sitting,0.png\na cat,1.png\n") == [
        Line(2, None),
        Line(3, "1.png", ("a cat",)),
    ]


@pytest.mark.parametrize("filler", ["", "x" * 140_000])
def test_a_quote_that_is_not_closed_costs_no_other_row(filler):
    text = f'file,caption\na.png,"a cat, asleep\nb.png,a dog\nc.png,"a {filler}bird"\n'
    found = read_listing("captions.csv", text.encode())
    assert found[:2] == [Line(2, "a.png", ("a cat, asleep",)), Line(3, "b.png", ("a dog",))]
    assert len(found) == 3


def test_only_ends_of_lines_end_a_line():
    text = json.dumps({"file": "a.png", "text": "one\u2028still one"}, ensure_ascii=False)
    assert read_listing("metadata.jsonl", text.encode()) == [Line(1, "a.png", ("one still one",))]


def test_a_listing_speaks_of_its_own_folder_only_and_twice_is_once(tmp_path):
    for name, colour in (("one/a.png", "red"), ("two/b.png", "blue"), ("two/deep/c.png", "lime")):
        picture(tmp_path / "in" / name, colour)
    for name in ("captions.csv", "metadata.csv"):
        (tmp_path / "in" / "two" / name).write_text("file,caption\na.png,not mine\nb.png,mine\nc.png,below\n")
    import_pictures([tmp_path / "in"], tmp_path / "out")
    assert captions(tmp_path / "out") == {"one/a.png": (), "two/b.png": ("mine",), "two/deep/c.png": ("below",)}


def test_texts_that_are_not_utf_8_are_named_with_what_they_were_read_as(tmp_path):
    for name, colour, data in (
        ("a", "red", "caf\xe9".encode("cp1252")),
        ("b", "blue", "a dog, sitting".encode("utf-16-le")),
        ("c", "lime", "a dog, asleep".encode("utf-16-be")),
        ("d", "black", b"plain"),
    ):
        picture(tmp_path / "in" / f"{name}.png", colour)
        (tmp_path / "in" / f"{name}.txt").write_bytes(data)
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    found = captions(tmp_path / "out")
    assert (found["a.png"], found["b.png"], found["c.png"]) == (("caf\xe9",), ("a dog, sitting",), ("a dog, asleep",))
    assert [note.partition(": ")[2] for note in report.notes] == [
        "1 file not in UTF-8 read as cp1252: a.txt",
        "1 file not in UTF-8 read as utf-16-le: b.txt",
        "1 file not in UTF-8 read as utf-16-be: c.txt",
    ]


def test_a_list_of_objects_and_one_over_several_lines_are_read():
    data = b'[{"file_name": "a.png",\n "text": "one"}, 7, {"file_name": "b.png", "text": ["two", "three"]}]'
    assert read_listing("metadata.jsonl", data) == [
        (1, "a.png", ("one",)),
        (2, None, ()),
        (3, "b.png", ("two", "three")),
    ]
    assert read_listing("metadata.jsonl", b'{\n"file_name": "a.png",\n"text": "one"\n}\n') == [(1, "a.png", ("one",))]


def test_many_empty_cells_take_no_time():
    began = time.monotonic()
    assert read_listing("captions.csv", b"file,caption\na.png,x" + b"," * 2**18)[0].captions == ("x",)
    assert time.monotonic() - began < 10  # by the square of them it would be a minute


def test_lines_that_say_nothing_are_one_notice_and_long_captions_are_cut(tmp_path):
    picture(tmp_path / "in" / "a.png")
    line = json.dumps({"file_name": "a.png", "text": "x" * (MOST_LETTERS + 1)})
    (tmp_path / "in" / "metadata.jsonl").write_text("junk\n" * 9000 + line)
    report = import_pictures([tmp_path / "in"], tmp_path / "out")
    assert captions(tmp_path / "out") == {"a.png": ("x" * MOST_LETTERS,)}
    assert len(report.notes) == 2
    assert "line 1, 2, 3, 4, 5, ...: no file name" in "".join(report.notes) and "cut" in "".join(report.notes)
