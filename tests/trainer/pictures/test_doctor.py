"""The doctor of sets: every illness is found, and its fix heals it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from tests.trainer.pictures.drawn import discs
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Concept, Entry, change, create_album, identity, open_album, undo
from trainer.pictures.doctor import apply, examine
from trainer.pictures.findings import Options
from trainer.pictures.remedies import even_out, shorten
from trainer.pictures.tags import is_tags, split_tags

OPTIONS = Options(resolution=256)
WORDS = ("river", "stone", "cloud", "ember", "lantern", "meadow", "harbour", "cedar", "violin", "marble")


def caption(number):
    return f"ohwx walks past the {WORDS[number % 10]} number {number}."


@pytest.fixture
def ill(tmp_path):
    """Make a set of the user's own: seven healthy pictures and whatever is given, by name."""

    def make(pictures=None, *, healthy=7, trigger="ohwx", **more):
        folder = tmp_path / "set"
        drawn = {f"{number}.png": discs(number) for number in range(healthy)} | (pictures or {})
        entries = []
        (folder / "pictures").mkdir(parents=True)
        for number, (name, image) in enumerate(drawn.items()):
            path = folder / "pictures" / name
            if isinstance(image, bytes):
                path.write_bytes(image)
            else:
                image.save(path)
            entry = Entry(id=identity(name), file=f"pictures/{name}", name=name, captions=(caption(number),))
            entries.append(entry.model_copy(update=more.get(name.partition(".")[0], {})))
        album = Album(entries=tuple(entries), trigger=trigger, **more.get("album", {}))
        create_album(folder, album)
        return folder

    return make


def names(folder, ids):
    called = {entry.id: entry.name for entry in open_album(folder).entries}
    return [called[each] for each in ids]


def kinds(folder, options=OPTIONS):
    return [finding.kind for finding in examine(folder, options).findings]


def heal(folder, kind, options=OPTIONS):
    apply(folder, examine(folder, options).of(kind).fixes[0])
    return kinds(folder, options)


def left_out(folder):
    return [entry.name for entry in open_album(folder).entries if entry.excluded]


def test_a_healthy_set_has_nothing(ill):
    seen = []
    found = examine(ill(), OPTIONS, lambda *at: seen.append(at))
    assert (found.pictures, found.excluded, found.findings) == (7, 0, ())
    assert set(found.sizes.values()) == {(256, 256)}
    assert seen == [(done, 7) for done in range(1, 8)]


def png(image, path):
    image.save(path)
    return path.read_bytes()


def test_the_same_file_twice_and_pictures_that_look_the_same(ill, tmp_path):
    same = png(discs(0), tmp_path / "same.png")
    folder = ill(
        {
            "again.png": same,
            "large.png": discs(1).resize((512, 512)),
            "turned.png": ImageOps.mirror(discs(2)),
        }
    )
    found = examine(folder, OPTIONS)
    assert [finding.kind for finding in found.findings] == ["duplicate", "near_duplicate"]
    exact, near = found.findings
    assert names(folder, exact.ids) == ["0.png", "again.png"]
    assert list(exact.value.values()) == ["the same file as again.png", "the same file as 0.png"]
    assert [names(folder, group) for group in near.groups] == [["large.png", "1.png"], ["2.png", "turned.png"]]
    assert near.value[identity("1.png")] == "looks like large.png"
    assert near.value[identity("turned.png")] == "looks like 2.png, mirrored"
    assert heal(folder, "duplicate") == ["near_duplicate"]
    assert heal(folder, "near_duplicate") == []
    assert left_out(folder) == ["1.png", "again.png", "turned.png"]
    assert examine(folder, OPTIONS).excluded == 3
    undo(folder)
    assert left_out(folder) == ["again.png"]


PICTURES = {
    "small": discs(90, (180, 160)),
    "blur": discs(90).filter(ImageFilter.GaussianBlur(3)),
    "aspect": discs(90, (840, 300)),
    "border": ImageOps.expand(discs(90), (0, 40), "black"),
    "unreadable": b"\x89PNG\r\n\x1a\n and no more",
}
SAID = {
    "small": "180 x 160, enlarged 1.5 times",
    "blur": "sharpness 0.",
    "aspect": "2.8 : 1, 29% is cut away",
    "border": "top 12%, bottom 12%",
    "unreadable": "The picture is damaged",
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_harms_is_found_and_left_out(ill, kind):
    folder = ill({"ill.png": PICTURES[kind]})
    found = examine(folder, OPTIONS)
    assert [finding.kind for finding in found.findings] == [kind]
    finding = found.of(kind)
    assert names(folder, finding.ids) == ["ill.png"]
    assert finding.value[finding.ids[0]].startswith(SAID[kind])
    assert heal(folder, kind) == []
    assert left_out(folder) == ["ill.png"]


def test_size_is_judged_by_what_the_set_is_for(ill):
    folder = ill()
    assert kinds(folder, Options(resolution=275)) == []
    assert kinds(folder, Options(resolution=512)) == ["small"]


def test_few_pictures(ill):
    assert kinds(ill(healthy=4)) == ["few"]


def test_captions_that_are_missing_or_empty(ill):
    none, blank = {"captions": ()}, {"captions": (" ",)}
    folder = ill(album={"class_word": "dog"}, **{"1": none, "2": blank})
    found = examine(folder, OPTIONS)
    assert [(finding.kind, names(folder, finding.ids)) for finding in found.findings] == [
        ("missing", ["1.png"]),
        ("empty", ["2.png"]),
    ]
    assert found.of("missing").severity == "note"
    assert found.of("missing").value[identity("1.png")] == "trained as “ohwx dog”"
    assert heal(folder, "empty") == ["missing"]
    assert heal(folder, "missing") == []
    assert [entry.captions for entry in open_album(folder).entries[1:3]] == [("ohwx dog",)] * 2


def test_nothing_to_say_about_a_picture_is_worse(ill):
    folder = ill(trigger="", **{"1": {"captions": ()}})
    finding = examine(folder, OPTIONS).of("missing")
    assert finding.severity == "warning" and finding.fixes == ()
    assert examine(folder, Options(resolution=256, trigger="ohwx")).of("missing").severity == "note"


def test_one_caption_for_many(ill):
    same = {"captions": ("A photo of ohwx",)}
    folder = ill(**{"1": same, "2": {"captions": ("a photo of OHWX",)}, "4": same})
    finding = examine(folder, OPTIONS).of("identical")
    assert names(folder, finding.ids) == ["1.png", "2.png", "4.png"]
    assert heal(folder, "identical") == ["missing"]


TAGS = ", ".join(f"ohwx {WORDS[n % 10]} {n}" for n in range(40))
PROSE = "ohwx " + " ".join(f"is a {WORDS[n % 10]}" for n in range(60))


def test_captions_beyond_clips_reach(ill):
    folder = ill(**{"1": {"captions": (TAGS, "short ohwx one")}, "2": {"captions": (PROSE,)}})
    finding = examine(folder, OPTIONS).of("long")
    assert names(folder, finding.ids) == ["1.png", "2.png"]
    assert heal(folder, "long") == []
    tags, prose = (open_album(folder).entries[place].captions for place in (1, 2))
    assert TAGS.startswith(tags[0] + ", ") and len(split_tags(tags[0])) > 10 and tags[1] == "short ohwx one"
    assert PROSE.startswith(prose[0]) and len(prose[0]) > 100
    assert kinds(folder, Options(resolution=256, tokens=40)) == ["long"]


def test_the_trigger_counts_as_tokens(ill):
    text = "walk " * 75
    folder = ill(**{"1": {"captions": (text,)}})
    assert kinds(folder) == ["long", "no_trigger"]
    assert heal(folder, "long") == ["no_trigger"]
    assert heal(folder, "no_trigger") == []  # 75 with it


def test_a_caption_is_cut_behind_a_tag_or_a_word():
    def count(text):
        return len(text.split())

    assert is_tags("red hat, blue coat, green shoe")
    assert shorten("red hat, blue coat, green shoe", 5, count) == "red hat, blue coat"
    assert shorten("The dog, a big one, runs.", 4, count) == "The dog, a big"
    assert shorten("one two", 2, count) == "one two"
    assert shorten("one {two|three} four", 2, count) == "one {two|three} four"


@given(st.text("ab ,.", max_size=60).map(str.split).map(" ".join), st.integers(0, 12))
def test_a_cut_caption_has_room_and_is_as_long_as_that_allows(text, room):
    def count(part):
        return len(part.split()) + part.count(",")

    kept = shorten(text, room, count)
    assert count(kept) <= room
    assert kept == text if count(text) <= room else len(kept) < len(text)


def test_captions_without_the_trigger(ill):
    folder = ill(**{"3": {"captions": ("a dog", "an OHWX dog")}, "4": {"captions": ("ohwxy",)}})
    finding = examine(folder, OPTIONS).of("no_trigger")
    assert names(folder, finding.ids) == ["3.png", "4.png"]
    assert heal(folder, "no_trigger") == []
    assert open_album(folder).entries[3].captions == ("ohwx, a dog", "an OHWX dog")


@pytest.mark.parametrize("trigger", ["dog", "Style", "red cat", "emma"])
def test_a_trigger_that_means_something_already(ill, trigger):
    finding = examine(ill(trigger=trigger), OPTIONS).of("common_trigger")
    assert finding.about == f"“{trigger}”" and finding.ids == ()


@pytest.mark.parametrize("trigger", ["", "sks", "ohwx", "ohwx dog", "zubo", "mycat"])
def test_a_rare_trigger_is_none(ill, trigger):
    assert examine(ill(trigger=trigger), OPTIONS).of("common_trigger") is None


def test_concepts_out_of_balance(ill):
    concepts = {"a": Concept(trigger="ohwx"), "b": Concept(trigger="ohwx"), "reg": Concept(regularisation=True)}
    places = {str(n): {"concept": "b" if n == 0 else "reg" if n == 1 else "a"} for n in range(8)}
    folder = ill(healthy=8, album={"concepts": concepts}, **places)
    finding = examine(folder, OPTIONS).of("balance")
    assert finding.about == "b 14%, a 86%"
    assert names(folder, finding.ids) == ["0.png"]
    assert heal(folder, "balance") == []
    repeats = {name: concept.repeats for name, concept in open_album(folder).concepts.items()}
    assert repeats == {"a": 1, "b": 6, "reg": 1}


def test_a_concept_with_a_share_is_as_large_as_it_was_meant_to_be(ill):
    places = {str(n): {"concept": "ab"[n == 0]} for n in range(8)}
    folder = ill(healthy=8, album={"concepts": {"a": Concept(), "b": Concept(share=0.1)}}, **places)
    assert examine(folder, OPTIONS).of("balance") is None
    change(folder, "even", even_out().how)
    assert open_album(folder).concepts["b"] == Concept(share=0.1)


def test_pictures_of_no_concept_are_evened_out_with(ill):
    places = {str(n): {"concept": "a" if n == 0 else ""} for n in range(8)}
    folder = ill(healthy=8, album={"concepts": {"a": Concept(trigger="ohwx")}}, **places)
    assert heal(folder, "balance") == []
    assert open_album(folder).concepts["a"].repeats == 7


def test_regularisation_pictures_need_no_trigger(ill):
    reg = {"concept": "reg", "captions": ("a photo of a dog",)}
    concepts = {"reg": Concept(regularisation=True, class_word="dog")}
    folder = ill(healthy=9, album={"concepts": concepts}, **{str(n): reg for n in range(4)})
    assert kinds(folder) == []


def test_a_plain_folder_is_examined_and_never_changed(tmp_path):
    for number in range(6):
        discs(number).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(caption(number))
    (tmp_path / "1.txt").write_bytes("ein ohwx für alle".encode("cp1252"))
    (tmp_path / "2.txt").write_bytes("ohwx zwei".encode("utf-16"))
    (tmp_path / "3.txt").write_text(" \n")
    (tmp_path / "4.txt").unlink()
    (tmp_path / "5.png").write_bytes(b"broken")
    before = state(tmp_path)
    found = examine(tmp_path, Options(resolution=256, trigger="ohwx"))
    said = {finding.kind: names(tmp_path, finding.ids) for finding in found.findings}
    assert said == {
        "unreadable": ["5.png"],
        "missing": ["4.png"],
        "empty": ["3.png"],
        "encoding": ["1.png", "2.png"],
    }
    assert list(found.of("encoding").value.values()) == ["read as cp1252", "read as utf-16"]
    with pytest.raises(UserError, match="plain folder"):
        apply(tmp_path, found.of("unreadable").fixes[0])
    assert state(tmp_path) == before


def state(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


def test_a_fix_passes_over_pictures_that_are_gone(ill):
    folder = ill({"ill.png": PICTURES["blur"], "gone.png": discs(91).filter(ImageFilter.GaussianBlur(4))})
    fix = examine(folder, OPTIONS).of("blur").fixes[0]
    album = open_album(folder)
    without = album.model_copy(update={"entries": album.entries[:-1]})
    assert [entry.name for entry in fix.how(without).entries if entry.excluded] == ["ill.png"]


def test_an_empty_set_is_no_fault_of_ours(tmp_path):
    create_album(tmp_path / "set")
    found = examine(tmp_path / "set")
    assert (found.pictures, found.findings) == (0, ())


def test_large_photos_keep_their_own_size(ill):
    folder = ill({"photo.png": discs(77, (1100, 1100))})
    Image.open(folder / "pictures/photo.png").save(folder / "pictures/photo.png", "JPEG", quality=95)
    assert examine(folder, OPTIONS).sizes[identity("photo.png")] == (1100, 1100)
