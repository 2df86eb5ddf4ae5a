"""Every adapter method of the catalogue on tiny real models: two steps, a resume, a file, and what it draws."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import make_pictures, make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.__main__ import main
from trainer.adapters import dora, oft
from trainer.adapters.adapter import Adapter
from trainer.adapters.read import read_adapter
from trainer.adapters.starting import check_start, start_from
from trainer.contract.catalog import ADAPTERS, resolve
from trainer.contract.compose import compose
from trainer.contract.config import AdapterSection, ModelSection
from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir, State, create_run
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.formats.header import read_header
from trainer.formats.inspect import SD1, SDXL, inspect
from trainer.formats.kohya import module_names
from trainer.formats.sizes import Size
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


def test_its_file_is_told_from_those_of_other_methods(case):
    found = inspect(case.run.adapter_file)
    assert found.method == ADAPTERS[case.method].title and found.format == "kohya" and found.hash_is_true
    assert found.family == (SDXL if "sdxl" in case.base.name else SD1)
    assert found.unet_modules and found.text_encoder_modules and not found.other_modules
    assert max(found.ranks) == OPTIONS["rank"] and bool(found.factors) == (case.method == "lokr")
    assert found.alphas == (() if case.method == "oft" else (4.0,))
    assert not any("lack a part" in note or "no LoRA" in note or "not used" in note for note in found.notes)


def test_a_run_that_was_resumed_gives_the_same_file(case, tmp_path):
    shutil.copytree(case.run.path, tmp_path / "run")
    again = RunDir(tmp_path / "run")
    shutil.rmtree(again.checkpoints / "step-000002")
    again.adapter_file.unlink()
    again.write_status(State.STOPPED, step=1)
    assert main(["train", str(again.path)]) == 0
    assert again.adapter_file.read_bytes() == case.run.adapter_file.read_bytes()


def test_its_file_says_which_method_it_is(case):
    metadata = read_header(case.run.adapter_file).metadata
    own = {"lora": None, "dora": "locon"}.get(case.method, case.method)
    assert json.loads(metadata["ss_network_args"]).get("algo") == own
    assert metadata["ss_network_module"] == ("networks.lora" if case.method == "lora" else "lycoris.kohya")


def test_its_file_holds_every_layer_under_names_that_clients_read(case):
    tensors = load_file(case.run.adapter_file)
    family = opened(case.base)
    stems = {name.partition(".")[0] for name in tensors}
    assert len(stems) == len(family.targets("everything", True))
    assert all(stem.startswith(("lora_unet_", "lora_te")) for stem in stems)
    assert any(name.endswith(NAMES[case.method]) for name in tensors)
    assert {tensors[f"{stem}.alpha"].item() for stem in stems} == {1000.0 if case.method == "oft" else 4.0}
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
    saved = load_latest(case.run).tensors
    adapter.arena.master.copy_(saved["master"])
    torch.testing.assert_close(answer(trained), drawn[:1], rtol=1e-3, atol=1e-4)


def started(case: Case, file: Path, **options) -> tuple[Family, list[str]]:
    family = opened(case.base)
    settings = AdapterSection(**{"method": case.method, **OPTIONS, **options})
    targets = family.targets(settings.targets, settings.text_encoder)
    check_start(file, settings.method)
    adapter = resolve(ADAPTERS[case.method])(targets, family.parts, settings, 5)
    return family, start_from(file, adapter, family.layout())


def drawn_by(case: Case, file: Path) -> torch.Tensor:
    family = opened(case.base)
    mixer = Mixer(family.parts)
    mixer.load((read_adapter(file, family.parts),))
    mixer.set([[1.0]], torch.device("cpu"))
    return answer(family)


def test_a_run_that_starts_from_its_file_starts_with_its_picture(case):
    file = case.run.adapter_file
    family, said = started(case, file)
    assert said == []
    torch.testing.assert_close(answer(family), drawn_by(case, file), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["lora", "dora"], indirect=True)
def test_a_larger_rank_and_another_scale_start_with_the_same_picture(case):
    family, _ = started(case, case.run.adapter_file, rank=7, alpha=3.0)
    torch.testing.assert_close(answer(family), drawn_by(case, case.run.adapter_file), rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="larger one"):
        started(case, case.run.adapter_file, rank=2)


@pytest.mark.parametrize("case", ["lora", "lokr"], indirect=True)
def test_what_only_one_of_them_has_is_named_and_another_method_refused(case):
    _, said = started(case, case.run.adapter_file, targets="attention", text_encoder=False)
    assert len(said) == 1 and "are left out" in said[0] and ("conv" in said[0] or "text_encoder" in said[0])
    with pytest.raises(UserError, match=f"adapter.method={case.method}"):
        check_start(case.run.adapter_file, "loha")


@pytest.mark.parametrize("case", ["loha", "lokr", "oft"], indirect=True)
def test_lycoris_own_modules_read_a_layer_to_the_same_weight(case):
    from lycoris.modules import get_module, make_module  # noqa: PLC0415 - slow

    family = opened(case.base)
    found = read_adapter(case.run.adapter_file, family.parts)
    tensors, names = load_file(case.run.adapter_file), module_names(family.layout())
    for target, update in list(found.updates.items())[::7]:
        base = family.parts[target.part].get_submodule(target.path)
        stem = names[target.part, target.path]
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{stem}.")}
        kind, weights = get_module(own, stem)
        theirs = make_module(kind, weights, stem, base)
        whole = theirs.get_merged_weight(shape=base.weight.shape)[0].view_as(base.weight)
        mine = base.weight + (update.up.flatten(1) @ update.down.flatten(1)).view_as(base.weight)
        torch.testing.assert_close(mine, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("alpha", [0.0, 1e-3, 0.1, 1000.0])
def test_the_bound_of_another_s_oft_is_that_of_lycoris_own_module(alpha):
    from lycoris.modules.diag_oft import DiagOFTModule  # noqa: PLC0415 - slow

    torch.manual_seed(3)
    layer, blocks = torch.nn.Linear(12, 16), 0.3 * torch.randn(4, 4, 4)
    theirs = DiagOFTModule.make_module_from_state_dict("x", layer, blocks, None, torch.tensor(alpha))
    whole = theirs.get_merged_weight(shape=layer.weight.shape)[0]
    mine = layer.weight + oft.update(layer.weight, {"oft_blocks": blocks}, alpha)
    torch.testing.assert_close(mine, whole, rtol=1e-4, atol=1e-5)


def test_dora_is_the_formula_of_the_paper():
    """W' = m V / |V| over each input's column, V = W + BA (arXiv 2402.09353, equation 5), by hand."""
    weight = torch.tensor([[3.0, 0.0], [4.0, 2.0]])
    held = {"lora_down.weight": torch.tensor([[0.0, 1.0]]), "lora_up.weight": torch.tensor([[1.5], [0.0]])}
    held["dora_scale"] = torch.tensor([[10.0, 5.0]])
    # V = [[3, 1.5], [4, 2]]: columns of lengths 5 and 2.5
    wanted = torch.tensor([[6.0, 3.0], [8.0, 4.0]])
    torch.testing.assert_close(weight + dora.update(weight, held, 1.0), wanted)
    begin = dora.start(torch.Size((2, 2)), Size(1, 1.0), AdapterSection())
    assert not dora.update(weight, dora.trained(weight, begin), 1.0).any(), "exactly the base"
    there = dora.restored(weight, held)
    torch.testing.assert_close(dora.trained(weight, there)["dora_scale"], held["dora_scale"])


def test_dora_of_the_outputs_rows_is_read_as_lycoris_writes_it():
    """A length for each row is [O, 1]; each row is made that long."""
    weight = torch.tensor([[3.0, 0.0], [4.0, 2.0]])
    held = {"lora_down.weight": torch.tensor([[0.0, 1.0]]), "lora_up.weight": torch.tensor([[4.0], [1.0]])}
    held["dora_scale"] = torch.tensor([[10.0], [2.5]])
    # V = [[3, 4], [4, 3]]: rows of lengths 5 and 5
    torch.testing.assert_close(weight + dora.update(weight, held, 1.0), torch.tensor([[6.0, 8.0], [2.0, 1.5]]))


def test_a_column_of_zeros_is_taken_up_again():
    weight = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    begin = dora.start(torch.Size((2, 2)), Size(1, 1.0), AdapterSection())
    there = dora.restored(weight, dora.trained(weight, begin))
    assert torch.equal(there["dora_scale"], torch.zeros(1, 2)) and dora.update(weight, there, 1.0).isfinite().all()


@pytest.mark.parametrize("case", ["lora", "dora", "loha", "lokr"], indirect=True)
def test_a_file_without_alphas_has_a_scale_of_1_here_too(case, tmp_path):
    bare = tmp_path / "bare.safetensors"
    tensors = load_file(case.run.adapter_file)
    save_file({name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}, bare)
    family, _ = started(case, bare)
    torch.testing.assert_close(answer(family), drawn_by(case, bare), rtol=1e-3, atol=1e-4)
    if case.method in ("loha", "lokr"):
        with pytest.raises(UserError, match="alpha 4, its rank, in the file and 8 in this run"):
            started(case, bare, alpha=8.0)
    else:
        family, _ = started(case, bare, alpha=8.0)
        torch.testing.assert_close(answer(family), drawn_by(case, bare), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["lora"], indirect=True)
def test_a_run_goes_on_from_a_file_and_needs_it_no_more_once_it_has_saved(case, tmp_path):
    file = tmp_path / "before.safetensors"
    shutil.copy(case.run.adapter_file, file)
    told = {**case.run.config().model_dump(exclude_none=True), "optimizer": {"learning_rate": 1e-9}}
    told["adapter"] |= {"start": str(file), "rank": 6}
    run = create_run(tmp_path, "run", compose([told], "keep"))
    assert main(["train", str(run.path)]) == 0
    torch.testing.assert_close(drawn_by(case, run.adapter_file), drawn_by(case, file), rtol=1e-3, atol=1e-4)
    written = run.adapter_file.read_bytes()
    file.unlink()
    shutil.rmtree(run.checkpoints / "step-000002")
    run.write_status(State.STOPPED, step=1)
    assert main(["train", str(run.path)]) == 0
    assert run.adapter_file.read_bytes() == written
    for checkpoint in run.checkpoints.glob("step-*"):
        (checkpoint / "state.safetensors").write_bytes(b"torn")
    run.write_status(State.STOPPED, step=1)
    assert main(["train", str(run.path)]) == 2
    assert "there is no file" in run.status().message, "what is damaged does not stand for it"
    fresh = create_run(tmp_path, "fresh", compose([told], "keep"))
    assert main(["train", str(fresh.path)]) == 2
    assert "there is no file" in fresh.status().message


def test_without_lycoris_a_sentence_says_how_to_get_it():
    code = (
        "import sys; sys.modules['lycoris'] = None\n"
        "from trainer.contract.catalog import ADAPTERS, resolve\n"
        "from trainer.contract.errors import UserError\n"
        "resolve(ADAPTERS['lora'])\n"
        "try: resolve(ADAPTERS['loha'])\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install lycoris-lora" in done.stdout
