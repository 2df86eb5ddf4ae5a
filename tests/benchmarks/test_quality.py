"""The comparison with PEFT: its judge reads what PEFT wrote, its splits share nothing, its verdicts can fail."""

from itertools import islice

import pytest
import torch
from peft import LoraConfig

from benchmarks import plain_lora
from benchmarks.learned import BASE, EQUAL, GOOD, PLAIN, Learned, equal_words, good_words, section
from benchmarks.plain_lora import TARGETS, Judge, batches, open_base, save
from benchmarks.quality import SETTINGS, config_of, make_split, recipes
from presets.demo.make.samples import STYLED
from trainer.contract.home import demo_folder

STYLE = demo_folder() / "style"


def learned(name, losses, again=None):
    return [Learned(name, seed, (loss, loss), again or loss, "") for seed, loss in enumerate(losses)]


def test_the_judge_reads_every_layer_of_a_file_that_peft_wrote(tmp_path):
    judge, unet = Judge(STYLE, 1, seed=0), open_base().unet
    bare = judge.losses(None)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS))
    for name, weight in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(len(name)))
    found = judge.losses(save(unet, tmp_path))
    assert torch.equal(judge.losses(None), bare), "the next file does not see this one"
    judge.pipe.unet = unet
    torch.testing.assert_close(found, judge.losses(None), rtol=1e-4, atol=1e-5)
    assert (found - bare).abs().max() > 0.01


def test_the_plain_loop_learns(tmp_path):
    config = config_of([SETTINGS, {"training": {"steps": 6}}], seed=3)
    judge = Judge(STYLE, 1, seed=0)
    assert judge.losses(plain_lora.train(config, STYLE, tmp_path)).mean() < judge.losses(None).mean() - 0.02


def test_the_plain_loop_shows_every_picture_once_an_epoch():
    torch.manual_seed(0)
    shown = torch.cat(list(islice(batches(20, 4), 10)))
    assert [shown[:20].sort().values.tolist(), shown[20:].sort().values.tolist()] == [list(range(20))] * 2
    assert shown[:20].tolist() != shown[20:].tolist()


def test_no_thing_is_in_two_splits_or_in_the_style_set(tmp_path):
    things = [[path.stem[3:] for path in make_split(name, tmp_path).glob("*.png")] for name in ("verdict", "choice")]
    assert [len(names) for names in things] == [40, 40]
    styled = [name.replace(" ", "-") for name in STYLED]
    assert len({*things[0], *things[1], *styled}) == 80 + len(styled)


def test_ours_is_trained_with_the_settings_of_the_plain_loop():
    plain, ours = (config_of(recipes([])[name], 7) for name in (PLAIN, EQUAL))
    assert plain == ours and ours.training.steps == 300 and ours.training.seed == 7


@pytest.mark.parametrize(
    ("ours", "words"), [([0.10, 0.11], "within"), ([0.12, 0.13], "OUTSIDE"), ([0.08, 0.09], "OUTSIDE")]
)
def test_equal_is_within_the_spread_of_the_plain_loop_s_seeds(ours, words):
    assert words in equal_words([*learned(PLAIN, [0.10, 0.11]), *learned(EQUAL, ours)])


@pytest.mark.parametrize(
    ("ratios", "words"),
    [([0.97, 0.97, 0.97, 0.97, 1.1], "4 of 5 seeds: as it has"), ([0.97, 0.97, 0.97, 0.99, 0.99], "3 of 5 seeds: NOT")],
)
def test_good_has_to_be_better_on_four_of_five_seeds(ratios, words):
    plain = [0.1, 0.11, 0.12, 0.13, 0.14]
    good = [ratio * loss for ratio, loss in zip(ratios, plain, strict=True)]
    assert words in good_words([*learned(PLAIN, plain), *learned(GOOD, good)])


def test_the_section_tells_every_seed_and_what_the_noise_does():
    found = [*learned(BASE, [0.4]), *learned(PLAIN, [0.1, 0.12]), *learned(EQUAL, [0.11, 0.11])]
    found += learned(GOOD, [0.09, 0.09], again=0.0905)
    said = section(found, {}, "python -m benchmarks.quality", {"date": "today", "torch": "2"}, "verdict")
    for words in ("| 0 | 0.10000 | 0.11000 | +10.0% | 0.09000 | -10.0% |", "0.40000", "move by up to", "torch 2"):
        assert words in said
