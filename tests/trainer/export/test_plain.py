"""What a run of another method leaves beside its file: the same as a plain LoRA, as far off as is said."""

import json

import pytest
import torch

from tests.trainer.export.test_tools import apart, quiet
from trainer.__main__ import main
from trainer.adapters.read import read_adapter
from trainer.contract.compose import compose
from trainer.contract.rundir import create_run
from trainer.contract.tools import ConvertRequest, ResizeRequest
from trainer.export.converting import convert
from trainer.export.resizing import resize
from trainer.families.locate import find_source
from trainer.formats.header import read_header
from trainer.formats.inspect import inspect

METHODS = ("dora", "loha", "lokr", "oft")


def trained(home, base, pictures, method, **export):
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures)},
        "adapter": {"method": method, "rank": 4, "targets": "everything"},
        "optimizer": {"learning_rate": 2e-2},
        "training": {"steps": 4, "threads": 1},
        "sampling": {"every": "never"},
        "validation": {"share": 0},
        "export": {"dtype": "fp32", **export},
    }
    run = create_run(home, "run", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    return run


def changes(path, base):
    source = find_source(str(base))
    parts = {part: source.model(part, torch.float32) for part in ("unet", "text_encoder")}
    read = read_adapter(path, parts)
    assert not read.unmatched
    return {target: one.up.double().flatten(1) @ one.down.double().flatten(1) for target, one in read.updates.items()}


@pytest.fixture(scope="module", params=METHODS)
def run(request, tmp_path_factory, tiny_sd, tiny_set):
    return trained(tmp_path_factory.mktemp(request.param), tiny_sd, tiny_set, request.param)


def test_a_plain_lora_lies_beside_the_file(run, tiny_sd):
    before, after = changes(run.adapter_file, tiny_sd), changes(run.plain_file, tiny_sd)
    errors, overall = apart(after, before)
    told = json.loads(run.plain_file.with_suffix(".report.json").read_text())["plain"]
    assert told["error"] == pytest.approx(overall, rel=1e-2, abs=1e-6)
    assert told["largest_error"] == pytest.approx(max(errors.values()), rel=1e-2, abs=1e-6) and overall <= 0.05
    assert len(told["layers"]) == len(before)
    facts, metadata = inspect(run.plain_file), read_header(run.plain_file).metadata
    assert facts.method == "LoRA" and facts.hash_is_true and facts.format == "kohya"
    assert "lora_atelier.recipe" not in metadata and metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_steps"] == "4" and inspect(run.adapter_file).hash in metadata["lora_atelier.sources"]
    assert not any("plain LoRA of it" in event.get("text", "") for event in run.events())


def test_the_tools_take_the_methods_too(run, tiny_sd, tmp_path):
    before = changes(run.adapter_file, tiny_sd)
    source, base = str(run.adapter_file), str(tiny_sd)
    out = tmp_path / "lora.safetensors"
    done = convert(ConvertRequest(file=source, to="lora", rank=64, out=str(out), base=base), quiet)
    assert apart(changes(out, tiny_sd), before)[1] == pytest.approx(done.error, abs=1e-5) and done.error < 1e-4
    small = tmp_path / "small.safetensors"
    told = resize(ResizeRequest(file=source, rank=2, out=str(small), base=base), quiet)
    assert apart(changes(small, tiny_sd), before)[1] == pytest.approx(told.error, rel=1e-2)
    assert told.error > done.error and told.ranks == (2, 2)


def test_a_rank_that_is_too_small_is_told(tmp_path, tiny_sd, tiny_set):
    run = trained(tmp_path, tiny_sd, tiny_set, "loha", plain_rank=1)
    assert inspect(run.plain_file).ranks == (1,)
    assert any("the plain LoRA of it, is" in event.get("text", "") for event in run.events())


def test_it_can_be_left_out_and_a_lora_has_none(tmp_path, tiny_sd, tiny_set):
    assert not trained(tmp_path, tiny_sd, tiny_set, "lora").plain_file.exists()
    assert not trained(tmp_path, tiny_sd, tiny_set, "lokr", plain=False).plain_file.exists()
