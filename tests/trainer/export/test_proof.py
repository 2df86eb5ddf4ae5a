"""The round trip of an exported file, and what the report says of our own files of every family."""

import json
from dataclasses import replace

import pytest
import torch

from tests.trainer.export.test_kohya_export import FACTS
from trainer.export.kohya import export_adapter
from trainer.export.proof import prove, write_report
from trainer.formats.clients.models import SD1, SD2, SDXL, model_of
from trainer.formats.clients.report import report
from trainer.formats.clients.verdict import LOADS, LOSSES
from trainer.protocols import Target

VERSIONS = {SD1: "sd_v1", SD2: "sd_v2_v", SDXL: "sdxl_base_v1-0"}
TRAINED = {  # a few layers of each family, in full size
    SD1: ("down_blocks.0.attentions.0.proj_in", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"),
    SD2: ("down_blocks.0.attentions.0.proj_in", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"),
    SDXL: ("down_blocks.1.attentions.0.proj_in", "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k"),
}
TEXT = tuple(f"text_model.encoder.layers.0.self_attn.{name}_proj" for name in ("q", "k", "v", "out"))


def layout_of(family):
    layout = {}
    for layer in model_of(family).layers:
        if not layer.norm:
            layout.setdefault(layer.part, []).append(layer.path)
    return layout


def adapter_of(family, text, size=0.05, rank=2):
    generator = torch.Generator().manual_seed(3)
    adapter = {}
    for layer in model_of(family).layers:
        if layer.path in TRAINED[family] or (text and layer.path in TEXT):
            height, width, *kernel = layer.shape
            adapter[Target(layer.part, layer.path)] = {
                "lora_down.weight": torch.randn(rank, width, *kernel, generator=generator) * size,
                "lora_up.weight": torch.randn(height, rank, *[1] * len(kernel), generator=generator) * size,
                "alpha": torch.tensor(1.0),
            }
    return adapter


def exported(tmp_path, family, text=False, dtype="fp16", **options):
    path, adapter, layout = tmp_path / "mine.safetensors", adapter_of(family, text, **options), layout_of(family)
    facts = replace(FACTS, base_version=VERSIONS[family], captions=("ohwx man, smile",), trigger="ohwx man")
    export_adapter(path, adapter, layout, facts, dtype)
    return path, adapter, layout


@pytest.mark.parametrize("text", [False, True], ids=["unet", "unet and text"])
@pytest.mark.parametrize("family", VERSIONS)
def test_our_own_files_load_in_every_client(tmp_path, family, text):
    path, adapter, layout = exported(tmp_path, family, text)
    said = write_report(path, adapter, layout)
    found = report(path)
    encoders = 0 if not text else 8 if family == SDXL else 4
    for verdict in found.verdicts:
        left = encoders if verdict.client == "SD.Next" else 0
        assert (verdict.applied, verdict.left_out) == (2 + encoders - left, left), verdict
        assert verdict.outcome == (LOSSES if left else LOADS), verdict
    assert len(said) == bool(text) and all(line.startswith("SD.Next") for line in said)
    assert found.verdicts[0].cover == "" and "ohwx man" in found.verdicts[0].triggers
    assert found.proof["round_trip"]["layers"] == 2 + encoders and found.proof["round_trip"]["missing"] == 0
    assert any("largest relative error" in line for line in found.measured())


@pytest.mark.parametrize(("dtype", "least", "most"), [("fp32", 0, 0), ("fp16", 1e-6, 1e-3), ("bf16", 1e-5, 1e-2)])
def test_the_error_is_that_of_the_type(tmp_path, dtype, least, most):
    proof = prove(*exported(tmp_path, SD1, dtype=dtype))
    assert least <= proof.largest <= most and (proof.layers, proof.missing, proof.flushed) == (2, 0, 0)
    assert list(proof.lines()) == []


def test_the_error_is_that_of_the_whole_update(tmp_path):
    path, adapter, layout = exported(tmp_path, SD1)
    target = next(iter(adapter))
    held = adapter[target]
    before = (held["lora_up.weight"].flatten(1) @ held["lora_down.weight"].flatten(1)).double()
    held["lora_up.weight"] = held["lora_up.weight"] + 0.01
    after = (held["lora_up.weight"].flatten(1) @ held["lora_down.weight"].flatten(1)).double()
    proof = prove(path, adapter, layout)
    assert proof.largest == pytest.approx(float((after - before).norm() / after.norm()), rel=1e-2)
    assert proof.at == f"{target.part} {target.path}" and "differs from the trained adapter" in next(proof.lines())


def test_numbers_that_fp16_cannot_hold_are_counted(tmp_path):
    path, adapter, layout = exported(tmp_path, SD1, size=1e-8)
    proof = prove(path, adapter, layout)
    assert proof.flushed > proof.values * 0.9 and any("too small" in line for line in proof.lines())
    assert "too small" in write_report(path, adapter, layout)[1]


def test_ranks_that_were_filled_up_are_compared_as_they_were_trained(tmp_path):
    adapter, layout = adapter_of(SD1, True), layout_of(SD1)
    wide = Target("unet", TRAINED[SD1][1])
    adapter[wide] = adapter_of(SD1, False, rank=5)[wide]
    adapter[Target("unet", wide.path.replace("to_k", "to_v"))] = adapter_of(SD1, False)[wide]
    path = tmp_path / "mine.safetensors"
    export_adapter(path, adapter, layout, FACTS, "fp32")
    proof = prove(path, adapter, layout)
    assert (proof.layers, proof.missing, proof.flushed) == (7, 0, 0) and proof.largest <= 1e-6
    assert proof.values == sum(tensor.numel() for held in adapter.values() for tensor in held.values()
                               if tensor.dim()) + 3 * (320 + 768), "zeros count too"  # fmt: skip


def test_a_layer_that_is_not_in_the_file_is_missed(tmp_path):
    path, adapter, layout = exported(tmp_path, SD1)
    adapter[Target("unet", "conv_in")] = adapter[next(iter(adapter))]
    assert prove(path, adapter, layout).missing == 1


def test_a_report_of_other_weights_is_not_believed(tmp_path):
    path, adapter, layout = exported(tmp_path, SD1)
    write_report(path, adapter, layout)
    beside = tmp_path / "mine.report.json"
    assert report(path).proof
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"hash": "0" * 64}))
    assert report(path).proof == {}
    beside.write_text("[not json")
    assert report(path).proof == {}
