"""Every optimiser of the catalogue: trains, goes on from a save bit for bit, and leaves a file that can be read."""

import importlib.util

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_sdxl import make_tiny_sdxl
from trainer.__main__ import main
from trainer.adapters.read import read_adapter
from trainer.contract.catalog import OPTIMIZERS
from trainer.contract.compose import compose
from trainer.contract.config import ModelSection
from trainer.contract.rundir import RunDir, State, create_run, steps
from trainer.data.texts import encode_now
from trainer.device import choose_engine
from trainer.families.locate import load_family
from trainer.state import list_checkpoints

NAMES = [*OPTIMIZERS, "torch.optim.NAdam"]


def optimized(home, base, pictures, name, **sections) -> RunDir:
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures), "flip": True},
        "adapter": {"rank": 4, "dropout": 0.1, "text_encoder": True},
        "optimizer": {"name": name},
        "training": {"steps": 4, "batch_size": 2, "accumulation": 2, "save_every": "2", "threads": 1},
        "sampling": {"every": "never"},
    }
    return create_run(home, "run", compose([layer, sections]))


def stop_after(monkeypatch, count: int) -> None:
    """Every run of this process is asked to stop after that many steps."""
    monkeypatch.setattr("trainer.chores.REPORT_SECONDS", 0.0)
    asked = RunDir.asked
    monkeypatch.setattr(
        RunDir, "asked", lambda run, what: asked(run, what) or (what == "stop" and len(steps(run)) == count)
    )


def trained_through_and_in_two_parts(tmp_path, monkeypatch, count, *args, **sections) -> RunDir:
    whole, parts = (optimized(tmp_path / name, *args, **sections) for name in ("whole", "parts"))
    assert main(["train", str(whole.path)]) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, count)
        assert main(["train", str(parts.path)]) == 130
    assert (parts.status().state, parts.status().step) == (State.STOPPED, count)
    assert main(["train", str(parts.path)]) == 0
    assert parts.adapter_file.read_bytes() == whole.adapter_file.read_bytes()
    return whole


@pytest.mark.parametrize("name", NAMES)
def test_every_row_trains_goes_on_and_leaves_a_file(tmp_path, monkeypatch, tiny_sd, tiny_set, name):
    run = trained_through_and_in_two_parts(tmp_path, monkeypatch, 2, tiny_sd, tiny_set, name)
    config = run.config()
    family = load_family(ModelSection(base=str(tiny_sd)), choose_engine(config, run.engine()))
    found = read_adapter(run.adapter_file, family.parts)
    assert not found.unmatched
    assert all(update.up.isfinite().all() and update.up.abs().max() > 0 for update in found.updates.values())
    losses = [event["loss"] for event in steps(run).values()]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_text_encoder_that_stops_is_encoded_once_and_the_run_goes_on(tmp_path, monkeypatch, tiny_sd, tiny_set, stop):
    adapter = {"rank": 4, "dropout": 0.1, "text_encoder": True, "text_encoder_until": "3"}
    training = {"steps": 5, "batch_size": 2, "accumulation": 2, "save_every": "1", "threads": 1}
    sections = {"adapter": adapter, "training": training, "sampling": {"every": "2", "steps": 1, "prompts": ["a"]}}
    encoded = []
    monkeypatch.setattr("trainer.assemble.encode_now", lambda *given: encoded.append(1) or encode_now(*given))
    name = {2: "adamw", 3: "prodigy", 4: "schedulefree"}[stop]
    run = trained_through_and_in_two_parts(tmp_path, monkeypatch, stop, tiny_sd, tiny_set, name, **sections)
    assert len(encoded) == (2 if stop < 4 else 3), "once in the whole run, once in each part that comes to it"
    masters = {path.name: load_file(path / "state.safetensors")["master"] for path in list_checkpoints(run)}
    assert list(masters) == ["step-000003", "step-000004", "step-000005"]
    _, fourth, fifth = masters.values()
    same = fourth == fifth
    assert same[: same.numel() // 10].all(), "the text encoder's matrices come first, and stay"
    assert not same.all()


@pytest.mark.parametrize(("name", "ema"), [("adamw", 0.9), ("prodigy", 0.9), ("schedulefree", 0.0)])
def test_an_average_is_drawn_and_exported_and_the_run_is_not_disturbed(
    tmp_path, monkeypatch, tiny_sd, tiny_set, name, ema
):
    training = {"steps": 4, "batch_size": 2, "save_every": "1", "threads": 1, "ema": ema}
    adapter, export = {"rank": 4, "text_encoder": True}, {"ema": bool(ema), "dtype": "fp32"}
    sections = {"adapter": adapter, "training": training, "export": export}
    often = {"every": "1", "steps": 1, "prompts": ["a"]}
    run = trained_through_and_in_two_parts(
        tmp_path, monkeypatch, 2, tiny_sd, tiny_set, name, **sections, sampling=often
    )
    rare = optimized(tmp_path / "rare", tiny_sd, tiny_set, name, **sections)
    assert main(["train", str(rare.path)]) == 0
    mine, theirs = (load_file(one.adapter_file) for one in (run, rare))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs), "pictures change nothing"
    saved = load_file(list_checkpoints(run)[-1] / "state.safetensors")
    key = next(key for key in mine if key.endswith("to_q.lora_down.weight"))
    exported = mine[key].flatten()
    assert not _holds(saved["master"], exported), "not what was trained last"
    assert _holds(saved["average"], exported) if ema else "average" not in saved


def _holds(flat: torch.Tensor, part: torch.Tensor) -> bool:
    """Whether a file's matrix is among trained ones, but for the power of two that balances it with its other half."""
    windows = flat.unfold(0, len(part), 1)
    factors = (windows[:, 0] / part[0]).abs().log2()
    return any(torch.equal(windows[at], part * 2.0 ** factors[at]) for at in (factors % 1 == 0).nonzero().flatten())


def _unbalanced(file: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A file's LoRA with norms of down near those it began with: what the file balances by a power of two is undone."""
    found = dict(file)
    for name in [name for name in file if name.endswith("lora_down.weight")]:
        up = name.replace("lora_down", "lora_up")
        factor = 2.0 ** torch.round(
            torch.log2(file[name].square().mean().sqrt() * file[name].flatten(1).shape[1] ** 0.5)
        )
        found[name], found[up] = file[name] / factor, file[up] * factor
    return found


def test_what_a_rate_does_is_said_and_shown(tmp_path, tiny_sd, tiny_set):
    options = {"name": "prodigy", "learning_rate": 1e-4}
    run = optimized(tmp_path, tiny_sd, tiny_set, "prodigy", optimizer=options, schedule={"name": "constant"})
    assert main(["train", str(run.path)]) == 0
    notices = [event["text"] for event in run.events() if event["kind"] == "notice"]
    assert any("do nothing" in text and "Prodigy" in text for text in notices)


def test_a_missing_package_is_said_before_anything_is_loaded(tmp_path, tiny_sd, tiny_set, monkeypatch, capsys):
    run = optimized(tmp_path, tiny_sd, tiny_set, "prodigy")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prodigyopt" else find(name))
    monkeypatch.setattr("trainer.assemble.load_family", lambda *given: pytest.fail("a base was opened"))
    assert main(["train", str(run.path)]) == 2
    assert "python -m pip install prodigyopt" in capsys.readouterr().err
    assert run.status().state == State.FAILED and "prodigyopt" in run.status().fix


def test_each_text_encoder_of_sdxl_has_a_rate_of_its_own(tmp_path, tiny_set):
    base = make_tiny_sdxl(tmp_path / "sdxl")
    adapter, training = {"rank": 4, "text_encoder": True}, {"steps": 1, "batch_size": 2, "threads": 1}
    files = []
    for name, options in {
        "one": {},
        "two": {"text_encoder_2_learning_rate": 3e-4},
        "plus": {"lora_plus_ratio": 4},
    }.items():
        run = optimized(
            tmp_path / name, base, tiny_set, "adamw", adapter=adapter, training=training, optimizer=options,
            schedule={"name": "constant", "warmup": 0}, export={"dtype": "fp32"},
        )  # fmt: skip
        assert main(["train", str(run.path)]) == 0
        files.append(load_file(run.adapter_file))
    plain, second, plus = map(_unbalanced, files)
    changed = {name.partition("_text_model")[0] for name in plain if not torch.equal(plain[name], second[name])}
    assert changed == {"lora_te2"}
    for name in plain:
        if name.endswith("lora_up.weight"):  # AdamW's first step is the rate, whatever the gradient
            factor = 6 if name.startswith("lora_te2") else 1
            torch.testing.assert_close(second[name], factor * plain[name], rtol=1e-3, atol=1e-8)
            torch.testing.assert_close(plus[name], 4 * plain[name], rtol=1e-3, atol=1e-8)
        if name.endswith("lora_down.weight"):
            assert torch.equal(plus[name], plain[name])
