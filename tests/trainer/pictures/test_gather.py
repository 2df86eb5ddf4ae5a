"""What a run trains on: its sets with their words, repeats and flips; and what is refused before anything loads."""

import io

import pytest
from PIL import Image

from tests.tiny import make_pictures
from trainer.contract.compose import compose, parse_assignments
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Concept, change, create_album, read_folder
from trainer.pictures.decode import decode_picture
from trainer.pictures.gather import check_run, gather
from trainer.pictures.measure import Unusable, is_clear, measure_all, upright_size
from trainer.pictures.wording import word


def dataset(folder, *assignments, **values):
    return compose([{"dataset": {"path": str(folder), **values}}, parse_assignments(assignments)]).dataset


def said(picture) -> str:
    return word(picture.entry.captions, picture.wording, 0, picture.key, 0)


def test_pictures_without_captions_are_the_trigger_and_the_class_word(tmp_path):
    folder = make_pictures(tmp_path / "set", 2)
    (folder / "1.txt").unlink()
    before = sorted(path.name for path in folder.iterdir())
    pictures, _ = gather(dataset(folder, trigger="zubo", class_word="dog"))
    assert [said(picture) for picture in pictures] == ["zubo, a picture number 0", "zubo dog"]
    assert sorted(path.name for path in folder.iterdir()) == before, "the user's files are as they were"


def test_every_set_has_its_own_words_repeats_and_flips(tmp_path):
    first, second = make_pictures(tmp_path / "first", 1), make_pictures(tmp_path / "second", 1)
    third = make_pictures(tmp_path / "third" / "3_nix hat", 1).parent
    for path in (second / "0.txt", third / "3_nix hat" / "0.txt"):
        path.unlink()
    concepts = [
        {"path": str(second), "trigger": "rull", "class_word": "cat", "repeats": 4, "flip": False},
        {"path": str(third), "repeats": 2, "trigger": "unused"},
    ]
    pictures, _ = gather(dataset(first, trigger="zubo", flip=True, concepts=concepts))
    assert [said(picture) for picture in pictures] == ["zubo, a picture number 0", "rull cat", "nix hat"]
    assert [picture.repeats for picture in pictures] == [1, 4, 6]
    assert [picture.flip for picture in pictures] == [True, False, True]
    assert len({picture.key for picture in pictures}) == 3


def test_a_set_of_the_users_own_is_read_through_its_file(tmp_path):
    folder = make_pictures(tmp_path / "set", 3)
    create_album(folder, read_folder(folder))

    def edit(album: Album) -> Album:
        one, two, three = album.entries
        entries = (one, two.model_copy(update={"excluded": True}), three.model_copy(update={"concept": "hat"}))
        hat = Concept(trigger="nix", repeats=3, flip=True)
        return album.model_copy(update={"entries": entries, "concepts": {"hat": hat}, "trigger": "own"})

    change(folder, "edit", edit)
    pictures, _ = gather(dataset(folder))
    assert [picture.entry.name for picture in pictures] == ["0.png", "2.png"]
    assert [picture.wording.trigger for picture in pictures] == ["own", "nix"]
    assert [picture.repeats for picture in pictures] == [1, 3] and [p.flip for p in pictures] == [False, True]
    assert gather(dataset(folder, trigger="zubo"))[0][0].wording.trigger == "zubo", "the run's word counts more"


def test_concepts_can_be_given_as_a_flag(tmp_path):
    first, second = make_pictures(tmp_path / "first", 1), make_pictures(tmp_path / "second", 2)
    pictures, _ = gather(dataset(first, f'dataset.concepts=[{{path="{second}", repeats=2}}]'))
    assert [picture.repeats for picture in pictures] == [1, 2, 2]


def test_a_concept_has_caption_settings_of_its_own(tmp_path):
    folders = [make_pictures(tmp_path / name, 1) for name in ("first", "second", "third")]
    own = {"caption_prefix": "photo of", "caption_suffix": "", "shuffle": "off", "keep_tokens": 2, "tag_dropout": 0.5}
    (folders[1] / "0.txt").write_text("one, two, three, four")
    concepts = [{"path": str(folders[1]), **own}, {"path": str(folders[2])}]
    pictures, _ = gather(dataset(folders[0], caption_prefix="art,", caption_suffix=", ink", concepts=concepts))
    first, second, third = (picture.wording for picture in pictures)
    assert (first.prefix, first.suffix, first.shuffle, first.keep) == ("art,", ", ink", "auto", 0) and third == first
    assert (second.prefix, second.suffix, second.shuffle, second.keep) == ("photo of", "", "off", 2)
    assert (first.tag_dropout, second.tag_dropout) == (0.0, 0.5)
    assert said(pictures[1]).startswith("photo of one, two")


def test_groups_of_a_set_have_caption_settings_and_shares_of_their_own(tmp_path):
    folder = make_pictures(tmp_path / "set", 3)
    other = make_pictures(tmp_path / "other", 2)
    create_album(folder, read_folder(folder))

    def edit(album: Album) -> Album:
        entries = tuple(one.model_copy(update={"concept": "hat"}) for one in album.entries[:1]) + album.entries[1:]
        hat = Concept(caption_suffix="on a head", share=0.25)
        return album.model_copy(update={"entries": entries, "concepts": {"hat": hat}})

    change(folder, "edit", edit)
    pictures, _ = gather(dataset(folder, concepts=[{"path": str(other), "share": 0.5}], caption_suffix="indoors"))
    assert [picture.wording.suffix for picture in pictures] == ["on a head", *["indoors"] * 4]
    assert [picture.share and picture.share.part for picture in pictures] == [0.25, None, None, 0.5, 0.5]
    assert len({picture.share for picture in pictures}) == 3
    nested, _ = gather(dataset(other, concepts=[{"path": str(folder), "share": 0.5}]))
    assert [one.share and one.share.part for one in nested] == [None, None, 0.25, 0.5, 0.5], "the nearest counts"


def test_regularisation_pictures_of_a_set_with_a_share_have_none(tmp_path):
    make_pictures(tmp_path / "other" / "reg" / "1_dog", 1)
    make_pictures(tmp_path / "other" / "1_sks", 1)
    concepts = [{"path": str(tmp_path / "other"), "share": 0.5}]
    pictures, _ = gather(dataset(make_pictures(tmp_path / "set", 1), concepts=concepts))
    assert {(picture.prior, picture.share is not None) for picture in pictures[1:]} == {(True, False), (False, True)}


@pytest.mark.parametrize(
    ("concepts", "words"),
    [
        ([{"share": 0.3, "repeats": 4}], "set repeats to 1, or leave share out"),
        ([{"share": 0.3, "regularisation": True}], "regularisation_weight"),
        ([{"share": 0}], "share"),
        ([{"share": 1.2}], "share"),
        ([{"share": 1}], "nothing for the other pictures"),
        ([{"share": 0.7}, {"share": 0.4}], "more than 1: 0.7 [+] 0.4"),
    ],
)
def test_shares_that_cannot_be_are_refused(tmp_path, concepts, words):
    folder = make_pictures(tmp_path / "set", 2)
    places = [str(make_pictures(tmp_path / str(number), 1)) for number in range(len(concepts))]
    with pytest.raises(UserError, match=words):
        gather(dataset(folder, concepts=[{"path": p, **one} for p, one in zip(places, concepts, strict=True)]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"regularisation_weight": 0.5}, "regularisation"),
        ({"tag_dropout": 0.5}, "tags"),
        ({"keep_tokens": 2, "shuffle": "off"}, "keep_tokens"),
        ({"masks": False, "mask_floor": 0.3}, "mask_floor"),
        ({"concepts": [{"path": "nowhere/at/all"}]}, "no such folder"),
        ({"resolution": []}, "resolution"),
        ({"concepts": [{"path": "x", "triger": "y"}]}, "triger"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, values, words):
    folder = make_pictures(tmp_path / "set", 2)
    with pytest.raises(UserError, match=words):
        gather(dataset(folder, **values))


def test_a_run_of_regularisation_pictures_alone_is_refused(tmp_path):
    make_pictures(tmp_path / "reg" / "1_dog", 2)
    with pytest.raises(UserError, match="nothing to learn"):
        gather(dataset(tmp_path))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_told_as_it_will_be_decoded(kind, orientation):
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    more = {"exif": exif} if kind not in ("BMP", "GIF") else {}
    Image.new("RGB", (30, 20), "red").save(buffer, kind, **more)
    assert upright_size(buffer.getvalue(), "x") == decode_picture(buffer.getvalue(), "x").size


def test_only_what_is_partly_clear_has_an_alpha_mask():
    for colour, clear in (((1, 2, 3, 255), False), ((1, 2, 3, 254), True)):
        buffer = io.BytesIO()
        Image.new("RGBA", (4, 4), colour).save(buffer, "PNG")
        assert is_clear(buffer.getvalue(), "x") is clear


def test_what_cannot_be_measured_is_said(tmp_path):
    folder = make_pictures(tmp_path / "set", 3)
    (folder / "0.png").write_bytes(b"no picture")
    (folder / "1-masklabel.png").write_bytes(b"")
    pictures, _ = gather(dataset(folder))
    (folder / "2.png").unlink()
    found = measure_all(pictures, masks=True)
    assert [isinstance(one, Unusable) for one in found] == [True, False, True]
    assert found[1].mask_digest == "" and "1-masklabel.png" in found[1].mask_trouble


@pytest.mark.parametrize("key", ["every", "stop_after"])
def test_measuring_what_is_not_held_out_is_refused(tmp_path, key):
    folder = make_pictures(tmp_path / "set", 3)
    section = {"dataset": {"path": str(folder)}}
    with pytest.raises(UserError, match="none is held out") as caught:
        check_run(compose([section, {"validation": {key: "2" if key == "every" else 2}}]))
    assert "validation.share=0.1" in caught.value.fix
    check_run(compose([section, {"validation": {key: "2" if key == "every" else 2, "share": 0.4}}]))
