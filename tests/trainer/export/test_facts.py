"""What the exported file says of its run and its base is taken from them."""

import hashlib
import tomllib
from types import SimpleNamespace

import pytest

from trainer.contract.config import RunConfig
from trainer.data.views import CachedPicture
from trainer.export.facts import Moment, adapter_facts, fingerprint
from trainer.formats.metadata import Folder, adapter_metadata
from trainer.pictures.buckets import Bucket

AT = Moment("fox", 10, 20, 5.0, None)
RUN = SimpleNamespace(name="fox", engine=dict)


def row(key="0/a", texts=("a fox, snow",), **more) -> CachedPicture:
    about = {"digest": "aa", "size": (9, 9), "mask_file": "", "background": "", "resolution": 1024, "repeats": 1}
    about |= {"prior": False, "sides": 1, "views": (), "bucket": Bucket(1024, 960), **more}
    return CachedPicture(key=key, name="p", file="p.png", texts=texts, **about)


def cache_of(*rows):
    return SimpleNamespace(pictures=rows, originals=rows)


def config_of(**sections) -> RunConfig:
    dataset = {"path": "/home/anna/foxes", **sections.pop("dataset", {})}
    return RunConfig.model_validate({"training": {"steps": 20}, **sections, "dataset": dataset})


def facts_of(config, *rows, scheduler=None):
    family = SimpleNamespace(
        base_version="sdxl_base_v1-0", base_name="x", prediction="v_prediction", resolution=1024, clip_skip=1,
        scheduler=scheduler or {},
    )  # fmt: skip
    return adapter_facts(RUN, config, family, cache_of(*(rows or (row(),))), AT)


@pytest.mark.parametrize(("options", "terminal"), [({"rescale_betas_zero_snr": True}, True), ({}, False)])
def test_the_facts_of_the_base(options, terminal):
    facts = facts_of(config_of(), scheduler=options)
    assert (facts.base_version, facts.prediction_type, facts.resolution) == ("sdxl_base_v1-0", "v_prediction", 1024)
    assert facts.zero_terminal_snr is terminal
    assert (facts.base_sha256, facts.base_short_hash) == ("", ""), "a folder has no single hash"


def test_a_base_of_one_file_is_named_by_its_hashes(tmp_path):
    base = tmp_path / "base.safetensors"
    blob = bytes(range(256)) * 0x1200  # 0x120000 bytes: longer than where AutoV1 is read
    base.write_bytes(blob)
    facts = facts_of(config_of(model={"base": str(base)}))
    assert facts.base_sha256 == hashlib.sha256(blob).hexdigest()
    assert facts.base_short_hash == hashlib.sha256(blob[0x100000:0x110000]).hexdigest()[:8]


def test_steps_and_epochs_are_those_of_the_moment():
    facts = facts_of(config_of())
    assert (facts.steps, facts.epochs, facts.total_steps, facts.total_epochs) == (10, 2, 20, 4)


def test_every_set_is_a_folder_with_its_own_trigger_and_repeats():
    concepts = [{"path": "/home/anna/hats"}, {"path": "/home/anna/others", "regularisation": True}]
    rows = (
        row("0/a", ("ohwx, a fox",), trigger="ohwx"),
        row("2/c", ("a fox",), prior=True),
        row("0/b", ("ohwx, snow",), trigger="ohwx"),
        row("1/a", ("zkz, a hat",), trigger="zkz", repeats=3),
    )
    facts = facts_of(config_of(dataset={"concepts": concepts}), *rows)
    assert (facts.trigger, facts.pictures, facts.captions) == ("ohwx", 2, ("ohwx, a fox", "ohwx, snow"))
    assert facts.further == (
        Folder(trigger="zkz", pictures=1, repeats=3, captions=("zkz, a hat",), name="hats"),
        Folder(pictures=1, captions=("a fox",), name="others", regularisation=True),
    )


def test_with_privacy_no_caption_and_no_prompt_is_left_and_the_recipe_stays():
    secret = {"caption_prefix": "secretly", "concepts": [{"path": "/x/hats", "caption_suffix": "secretly"}]}
    config = config_of(
        dataset={"trigger": "ohwx", **secret},
        sampling={"prompts": ["ohwx secretly"], "negative": "secretly"},
        export={"captions": False},
    )
    written = adapter_metadata(facts_of(config, row(texts=("ohwx, secretly",), trigger="ohwx")))
    assert "secret" not in "".join(written.values()) and "anna" not in "".join(written.values())
    recipe = tomllib.loads(written["lora_atelier.recipe"])
    assert RunConfig.model_validate(recipe).training == config.training
    assert recipe["dataset"]["trigger"] == "ohwx" and recipe["dataset"]["path"] == "foxes"


def test_the_fingerprint_follows_pictures_and_words_only():
    one, other = row(digest="aa"), row("0/b", digest="bb")
    same = fingerprint([one, other])
    assert len(same) == 64 and same == fingerprint([other, row(digest="aa", key="0/z")])
    changed = [row(digest="cc"), row(digest="aa", texts=("a cat",)), row(digest="aa", mask_digest="m")]
    assert len({same, *(fingerprint([other, new]) for new in changed)}) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"conv_rank": 4, "conv_alpha": 2.0}, (4, 2.0)),
        ({"conv_rank": 4}, (4, 2.0)),  # as 8 is to 16
        ({"rslora": True, "conv_rank": 4, "conv_alpha": 2.0}, (4, 4.0)),  # scale 2 / sqrt(4)
        ({"rslora": True, "conv_rank": 4}, (4, 4.0)),
    ],
)
def test_conv_alpha_over_conv_dim_is_the_scale_that_was_trained(options, expected):
    adapter = {"rank": 16, "alpha": 8.0, "targets": "everything", **options}
    args = facts_of(config_of(adapter=adapter)).network_args
    assert (args["conv_dim"], args["conv_alpha"]) == expected


def test_the_running_average_is_recorded_where_it_is_what_is_written():
    training = {"steps": 20, "ema": 0.99}
    assert facts_of(config_of(training=training)).ema == 0
    assert facts_of(config_of(training=training, export={"ema": True})).ema == 0.99
