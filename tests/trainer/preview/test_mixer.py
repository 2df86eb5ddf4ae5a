"""Any mix of adapters over one base: sums, per-picture strengths, exact zeros, exact return."""

import pytest
import torch

from trainer.adapters.read import AdapterFile, Update
from trainer.contract.config import ModelSection
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.preview.mixer import Mixer
from trainer.protocols import Target

ENGINE = Engine(torch.device("cpu"), torch.float32, 1)


@pytest.fixture(scope="module")
def family(tiny_sd):
    return load_family(ModelSection(base=str(tiny_sd)), ENGINE)


def random_adapter(family, rank: int, seed: int, endings=("to_q", "proj_in", "fc1")) -> AdapterFile:
    generator = torch.Generator().manual_seed(seed)
    updates = {}
    for target in family.targets("transformer", text_encoder=True):
        weight = family.parts[target.part].get_submodule(target.path).weight
        if target.path.endswith(endings):
            down = torch.randn(rank, *weight.shape[1:], generator=generator)
            up = torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2), generator=generator) * 0.2
            updates[target] = Update(down, up)
    return AdapterFile(f"{seed}.safetensors", updates, ())


@torch.no_grad()
def answer(family, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 4, 8, 8, generator=generator).expand(rows, -1, -1, -1)
    text = family.encode_tokens(family.tokenize(["a cat"] * rows))
    return family.predict(noisy, torch.tensor(500), text, torch.zeros(rows, 6))


def merged(family, pairs) -> torch.Tensor:
    """The same mix, by adding every update to the weights: slow, and what the mixer must equal."""
    changed: dict[Target, torch.Tensor] = {}
    for adapter, strength in pairs:
        for target, update in adapter.updates.items():
            weight = family.parts[target.part].get_submodule(target.path).weight
            changed.setdefault(target, weight.clone())
            weight += strength * (update.up.flatten(1) @ update.down.flatten(1)).view_as(weight)
    result = answer(family, 1)
    for target, weight in changed.items():
        family.parts[target.part].get_submodule(target.path).weight.copy_(weight)
    return result


@torch.no_grad()
def test_one_batch_holds_different_mixes(family):
    first, second = random_adapter(family, 3, 1), random_adapter(family, 5, 2, ("to_q", "ff.net.2", "q_proj"))
    base = answer(family, 1)
    mixes = [(0.0, 0.0), (1.0, 0.0), (0.0, 0.5), (0.7, -0.4)]
    wanted = [merged(family, [(first, a), (second, b)]) for a, b in mixes]
    mixer = Mixer(family.parts)
    mixer.load([first, second])
    mixer.set(mixes, ENGINE.device)
    got = answer(family, len(mixes))
    assert (wanted[3] - base).abs().max() > 0.01
    for row, expected in enumerate(wanted):
        torch.testing.assert_close(got[row : row + 1], expected, rtol=1e-4, atol=1e-4)
    mixer.load([])
    assert torch.equal(answer(family, 1), base), "the base comes back bit for bit"


@torch.no_grad()
def test_strength_zero_is_the_base_bit_for_bit_after_any_number_of_moves(family):
    base = answer(family, 1)
    mixer = Mixer(family.parts)
    mixer.load([random_adapter(family, 4, 3)])
    moved = []
    for strength in (1.0, -2.0, 0.3, 0.0):
        mixer.set([[strength]], ENGINE.device)
        moved.append(answer(family, 1))
    assert not torch.equal(moved[0], base)
    assert torch.equal(moved[-1], base)
    mixer.load([])
