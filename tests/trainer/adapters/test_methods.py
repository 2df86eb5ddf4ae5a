"""Every adapter method of the catalogue on tiny real models: two steps, a resume, a file, and what it draws."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import make_pictures, make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.__main__ import main
from trainer.adapters.adapter import Adapter
from trainer.adapters.read import read_adapter
from trainer.contract.catalog import ADAPTERS, resolve
from trainer.contract.compose import compose
from trainer.contract.config import AdapterSection, ModelSection
from trainer.contract.rundir import RunDir, State, create_run
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.preview.mixer import Mixer
from trainer.protocols import Family
from trainer.state import load_latest

ENGINE = Engine(torch.device("cpu"), torch.float32, 1)
OPTIONS = {"rank": 4, "text_encoder": True, "targets": "everything"}
BASES = {"sd1": make_tiny_sd, "sdxl": make_tiny_sdxl}
NAMES = {  # a tensor of each method that clients look for
    "lora": "lora_up.weight",
    "dora": "dora_scale",
    "loha": "hada_w1_a",
    "lokr": "lokr_w1",
    "oft": "oft_blocks",
}


@dataclass
class Case:
    method: str
    base: Path
    run: RunDir


@pytest.fixture(scope="module", params=BASES)
def base(request, tmp_path_factory):
    return BASES[request.param](tmp_path_factory.mktemp("base") / request.param)


@pytest.fixture(scope="module", params=ADAPTERS)
def case(request, base, tmp_path_factory) -> Case:
    """A run of two steps on a base, finished."""
    home = tmp_path_factory.mktemp("home")
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(make_pictures(home / "set", 2))},
        "adapter": {"method": request.param, **OPTIONS},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"name": "constant", "warmup": 0},
        "training": {"steps": 2, "batch_size": 2, "save_every": "1", "threads": 1},
        "sampling": {"every": "never"},
        "export": {"dtype": "fp32"},
    }
    run = create_run(home, "run", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    return Case(request.param, base, run)


def opened(base: Path) -> Family:
    family = load_family(ModelSection(base=str(base)), ENGINE)
    assert family.parts
    return family


def adapted(case: Case, family: Family) -> Adapter:
    options = AdapterSection(method=case.method, **OPTIONS)
    targets = family.targets(options.targets, True)
    return resolve(ADAPTERS[case.method])(targets, family.parts, options, 0)


@torch.no_grad()
def answer(family: Family, rows: int = 1) -> torch.Tensor:
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).expand(rows, -1, -1, -1)
    text = family.encode_tokens(family.tokenize(["a cat"] * rows))
    return family.predict(noisy, torch.tensor(500), text, torch.full((rows, 6), 64.0))


def test_it_starts_as_the_base_and_every_part_learns(case):
    family = opened(case.base)
    before = answer(family)
    adapter = adapted(case, family)
    torch.testing.assert_close(answer(family), before, rtol=1e-4, atol=1e-5)
    text = family.encode_tokens(family.tokenize(["a cat"]))
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    family.predict(noisy, torch.tensor([500]), text, torch.full((1, 6), 64.0)).square().sum().backward()
    moved = {name for name in adapter.arena.parameters if adapter.arena.view(adapter.arena.added, name).any()}
    layers = {str(target) for target in adapter.layers}
    pooled = "text_encoder_2" in family.encoders  # its last layers' answers are not all read
    still = {layer for layer in layers if not any(name.startswith(f"{layer}.") for name in moved)}
    assert not still or (pooled and all(layer.startswith("text_encoder.") for layer in still))
    assert {part for part, _, _ in (layer.partition(".") for layer in layers)} == {"unet", *family.encoders}


def test_a_run_that_was_resumed_gives_the_same_file(case, tmp_path):
    shutil.copytree(case.run.path, tmp_path / "run")
    again = RunDir(tmp_path / "run")
    shutil.rmtree(again.checkpoints / "step-000002")
    again.adapter_file.unlink()
    again.write_status(State.STOPPED, step=1)
    assert main(["train", str(again.path)]) == 0
    assert again.adapter_file.read_bytes() == case.run.adapter_file.read_bytes()


def test_its_file_holds_every_layer_under_names_that_clients_read(case):
    tensors = load_file(case.run.adapter_file)
    family = opened(case.base)
    stems = {name.partition(".")[0] for name in tensors}
    assert len(stems) == len(family.targets("everything", True))
    assert all(stem.startswith(("lora_unet_", "lora_te")) for stem in stems)
    assert any(name.endswith(NAMES[case.method]) for name in tensors)
    assert all(f"{stem}.alpha" in tensors for stem in stems)
    found = read_adapter(case.run.adapter_file, family.parts)
    assert found.unmatched == () and len(found.updates) == len(stems)


def test_the_file_draws_what_was_trained_and_merges_to_the_same(case):
    family = opened(case.base)
    base = answer(family)
    found = read_adapter(case.run.adapter_file, family.parts)
    mixer = Mixer(family.parts)
    mixer.load((found,))
    mixer.set([[1.0], [0.0]], torch.device("cpu"))
    drawn = answer(family, 2)
    torch.testing.assert_close(drawn[1:], base, rtol=1e-4, atol=1e-5)
    assert (drawn[0] - base).abs().max() > 1e-3, "the adapter changes nothing, so equality would prove nothing"
    mixer.load(())
    for target, update in found.updates.items():
        weight = family.parts[target.part].get_submodule(target.path).weight
        weight.data += (update.up.flatten(1) @ update.down.flatten(1)).view_as(weight)
    torch.testing.assert_close(answer(family), drawn[:1], rtol=1e-3, atol=1e-4)
    trained = opened(case.base)
    adapter = adapted(case, trained)
    _, saved = load_latest(case.run)
    adapter.arena.master.copy_(saved["master"])
    torch.testing.assert_close(answer(trained), drawn[:1], rtol=1e-3, atol=1e-4)
