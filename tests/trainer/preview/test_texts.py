"""Texts of pictures: emphasis, long prompts at their own lengths, and a cache that knows what it was read with."""

import pytest
import torch

from tests.trainer.preview.test_mixer import ENGINE, random_adapter
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.requests import Picture, Strength
from trainer.families.clip import emphasised
from trainer.families.locate import load_family
from trainer.families.prompts import level
from trainer.preview.mixer import Mixer
from trainer.preview.texts import Texts
from trainer.sampling import encode_pairs


@pytest.fixture(scope="module")
def family(tiny_sd):
    return load_family(ModelSection(base=str(tiny_sd)), ENGINE)


def texts_of(family, *adapters) -> Texts:
    mixer = Mixer(family.parts)
    mixer.load(adapters)
    return Texts(family, mixer)


def test_emphasis_keeps_the_mean_of_a_chunk():
    hidden = torch.randn(2, 77, 8, generator=torch.Generator().manual_seed(1)) + 0.5
    weights = torch.ones(2, 77)
    weights[1, 5:9] = 1.6
    louder = emphasised(hidden, weights)
    assert torch.equal(louder[0], hidden[0]), "without weights nothing changes, not in the last bit"
    torch.testing.assert_close(louder[1].mean(), hidden[1].mean())
    ratio = louder[1] / hidden[1]
    torch.testing.assert_close(ratio[5:9] / ratio[0, 0], torch.full((4, 8), 1.6), rtol=1e-4, atol=1e-4)


def test_weights_and_chunks_reach_the_text(family):
    texts = texts_of(family)
    picture = Picture(prompt="x")
    plain, louder = texts.of("a cat", picture), texts.of("a (cat:1.5)", picture)
    assert torch.equal(texts.of("(a cat:1.0)", picture).hidden, plain.hidden)
    assert not torch.allclose(louder.hidden, plain.hidden)
    both = texts.of("a cat BREAK a dog", picture)
    torch.testing.assert_close(both.hidden[:, :77], plain.hidden)
    torch.testing.assert_close(both.hidden[:, 77:], texts.of("a dog", picture).hidden)
    with pytest.raises(UserError, match="chunks of 75 tokens"):
        texts.of("BREAK " * 20 + "x", picture)
    (long,) = encode_pairs(family, "", ["BREAK " * 20 + "x"])
    assert long[1].hidden.shape[1] == 16 * 77, "a run's own samples are cut instead: some prompts are captions"
    (tagged,) = encode_pairs(family, "", ["a (cat:1.5)<lora:ink:1>"])
    assert torch.equal(tagged[1].hidden, texts.of("a (cat:1.5)", picture).hidden)


@torch.no_grad()
def test_a_shorter_text_beside_a_longer_one_is_read_as_alone(family):
    texts, picture = texts_of(family), Picture(prompt="x")
    short, long = texts.of("a cat", picture), texts.of("a BREAK b BREAK c", picture)
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    alone = family.predict(noisy, torch.tensor(500), short, torch.zeros(1, 6))
    _, positive = level([(short, short), (long, texts.of("a BREAK b", picture))])
    beside = family.predict(noisy.expand(2, -1, -1, -1), torch.tensor(500), positive, torch.zeros(2, 6))
    assert positive.hidden.shape[1] == 6 * 77
    torch.testing.assert_close(beside[:1], alone, rtol=1e-5, atol=1e-5)


def test_a_text_is_encoded_once_for_what_reaches_the_encoder(family):
    adapter = random_adapter(family, 4, 1, ("to_q", "fc1"))
    texts = texts_of(family, adapter)

    def read(*strengths):
        return texts.of("a cat", Picture(prompt="a cat", strengths=strengths))

    base = read(0.0)
    assert read(Strength(unet=2.0, text_encoder=0.0)) is base, "a strength of the UNet alone encodes nothing anew"
    assert read(Strength(blocks=(("BASE", 0.0),))) is base
    full = read(1.0)
    assert not torch.allclose(full.hidden, base.hidden)
    assert read(Strength(unet=0.3, text_encoder=1.0)) is full and read(0.5) is not full
    family.skip_layers(2)
    assert not torch.allclose(read(0.0).hidden, base.hidden)
    family.skip_layers(None)
    assert read(0.0) is base
