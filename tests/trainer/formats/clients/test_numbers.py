"""What a file's numbers are like, read with numpy."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainer.formats.clients.numbers import measure
from trainer.formats.clients.report import report
from trainer.formats.clients.verdict import LOADS, LOSSES, NOTHING
from trainer.formats.header import read_header

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
TE = "lora_te_text_model_encoder_layers_0_self_attn_out_proj"
SAID = {"ss_base_model_version": "sd_v1", "modelspec.architecture": "stable-diffusion-v1/lora", "ss_output_name": "a"}


def lora(name, height, width, rank=4, alpha=2.0, dtype=torch.float16):
    torch.manual_seed(len(name))
    return {
        f"{name}.lora_down.weight": torch.randn(rank, width).to(dtype),
        f"{name}.lora_up.weight": torch.randn(height, rank).to(dtype),
        f"{name}.alpha": torch.tensor(alpha),
    }


def update(tensors, name):
    down, up = (tensors[f"{name}.lora_{half}.weight"].double().flatten(1) for half in ("down", "up"))
    return up @ down * float(tensors[f"{name}.alpha"]) / len(down)


def written(tmp_path, tensors, metadata=None):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata)
    return path


def measured(tmp_path, tensors):
    path = written(tmp_path, tensors)
    return measure(path, read_header(path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_energy_is_that_of_the_updates(tmp_path, dtype):
    tensors = lora(K, 320, 768, dtype=dtype) | lora(TE, 768, 768, rank=3, alpha=1.0, dtype=dtype)
    sizes = {part: float(update(tensors, name).square().sum()) for part, name in (("unet", K), ("text_encoder", TE))}
    found = measured(tmp_path, tensors)
    assert found.energy == pytest.approx({part: size / sum(sizes.values()) for part, size in sizes.items()}, rel=1e-4)
    assert found.text_share == pytest.approx(found.energy["text_encoder"])
    assert (found.values, found.nan, found.infinite, found.unread) == (4 * 1088 + 3 * 1536, 0, 0, 0)


def test_the_energy_of_loha_and_lokr(tmp_path):
    torch.manual_seed(0)
    loha = {
        f"{K}.hada_w{n}_{half}": torch.randn(*size) for n in (1, 2) for half, size in (("a", (6, 2)), ("b", (2, 5)))
    }
    lokr = {
        f"{TE}.lokr_w1": torch.randn(2, 3),
        f"{TE}.lokr_w2_a": torch.randn(4, 2),
        f"{TE}.lokr_w2_b": torch.randn(2, 5),
    }
    alphas = {f"{K}.alpha": torch.tensor(1.0), f"{TE}.alpha": torch.tensor(4.0)}
    first = (loha[f"{K}.hada_w1_a"] @ loha[f"{K}.hada_w1_b"]) * (loha[f"{K}.hada_w2_a"] @ loha[f"{K}.hada_w2_b"]) / 2
    second = torch.kron(lokr[f"{TE}.lokr_w1"], lokr[f"{TE}.lokr_w2_a"] @ lokr[f"{TE}.lokr_w2_b"]) * 2
    sizes = float(first.square().sum()), float(second.square().sum())
    found = measured(tmp_path, loha | lokr | alphas)
    assert found.energy == pytest.approx(
        {"unet": sizes[0] / sum(sizes), "text_encoder": sizes[1] / sum(sizes)}, rel=1e-4
    )


def test_what_is_no_number_or_too_small_is_counted(tmp_path):
    tensors = lora(K, 320, 768)
    down = tensors[f"{K}.lora_down.weight"]
    down[0, :5] = torch.tensor([np.nan, np.inf, -np.inf, 0.0, 3e-6])
    sizes = torch.cat([tensors[f"{K}.lora_{half}.weight"].flatten() for half in ("down", "up")]).abs()
    found = measured(tmp_path, tensors)
    assert (found.nan, found.infinite) == (1, 2)
    assert found.zero == int((sizes == 0).sum())
    assert found.tiny == int(((sizes > 0) & (sizes < 2.0**-14)).sum()) >= 1


def test_values_that_are_no_numbers_are_told_for_every_client(tmp_path):
    tensors = lora(K, 320, 768)
    tensors[f"{K}.lora_up.weight"][0, 0] = torch.nan
    found = report(written(tmp_path, tensors, SAID))
    assert {verdict.outcome for verdict in found.verdicts} == {LOSSES}
    assert all("1 values are NaN" in verdict.sentence for verdict in found.verdicts)
    assert "NansException" in found.verdicts[0].sentence and "black" in found.verdicts[2].sentence


def test_an_untrained_file_has_no_effect(tmp_path):
    tensors = lora(K, 320, 768)
    tensors[f"{K}.lora_up.weight"].zero_()
    found = report(written(tmp_path, tensors, SAID))
    assert {verdict.outcome for verdict in found.verdicts} == {NOTHING}
    assert found.numbers.silent == 1 and "zero" in found.verdicts[0].sentence


def test_the_text_encoders_share_is_told(tmp_path):
    path = written(tmp_path, lora(K, 320, 768) | lora(TE, 768, 768), SAID)
    found = report(path)
    share = f"{found.numbers.text_share:.0%}"
    assert 0.3 < found.numbers.text_share < 0.9
    assert any(share in note and "SD.Next" in note for note in found.notes)
    sdnext = next(verdict for verdict in found.verdicts if verdict.client == "SD.Next")
    assert share in sdnext.sentence and found.warnings() == [f"SD.Next: {LOSSES}. {sdnext.sentence}"]
    assert [verdict.outcome for verdict in report(path, numbers=False).verdicts].count(LOADS) == 6


def test_the_energy_of_a_large_loha_is_near_what_all_of_it_has(tmp_path):
    torch.manual_seed(0)
    sizes = [(n, half, size) for n in (1, 2) for half, size in (("a", (320, 4)), ("b", (4, 2880)))]
    held, plain = {f"{K}.hada_w{n}_{half}": torch.randn(*size) for n, half, size in sizes}, lora(TE, 768, 768)
    first, second = (held[f"{K}.hada_w{n}_a"] @ held[f"{K}.hada_w{n}_b"] for n in (1, 2))
    unet, text = (float(one.square().sum()) for one in (first * second, update(plain, TE)))
    assert measured(tmp_path, held | plain).energy["unet"] == pytest.approx(unet / (unet + text), abs=0.03)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, 4), (2, 0), (3, 5, 7)])
@pytest.mark.parametrize("role", ["lora_up.weight", "hada_w1_a", "lokr_w2", "lokr_w1_b", "alpha", "dora_scale", "x"])
def test_no_shape_breaks_it(tmp_path, shape, role):
    whole = lora(K, 320, 768) | {
        f"{TE}.{name}": torch.ones(2, 2)
        for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "lokr_w1", "lokr_w2")
    }
    for name in (K, TE):
        report(written(tmp_path, whole | {f"{name}.{role}": torch.ones(shape)})).as_dict()


def test_a_type_that_is_not_read_is_counted(tmp_path):
    tensors = {name: t.to(torch.float8_e4m3fn) if t.dim() else t for name, t in lora(K, 320, 768).items()}
    found = measured(tmp_path, tensors)
    assert (found.unread, found.values, found.energy, found.unmeasured) == (2, 0, {}, 1)


def test_alphas_that_diffusers_mixes_up_are_told(tmp_path):
    tensors = lora(K, 320, 768, alpha=1.0) | lora(K.replace("attn2_to_k", "ff_net_2"), 320, 1280)
    tensors |= lora(K.replace("transformer_blocks_0_attn2_to_k", "proj_in"), 320, 320)
    found = {verdict.client: verdict for verdict in report(written(tmp_path, tensors, SAID)).verdicts}
    assert {name for name, verdict in found.items() if verdict.outcome != LOADS} == {"diffusers"}
    assert found["diffusers"].sentence.startswith("1 attention layers are scaled by the alpha of others")


def test_ranks_that_one_release_of_diffusers_scales_wrongly_are_told(tmp_path):
    other = (
        K.replace("to_k", "to_v"),
        K.replace("to_k", "to_q").replace("attn2", "attn1"),
        K.replace("to_k", "to_out_0"),
    )
    same = {K: (320, 768), other[0]: (320, 768), other[1]: (320, 320)}
    differ = {other[2]: (320, 320), K.replace("attn2_to_k", "ff_net_2"): (320, 1280)}
    even = {name: tensor for stem, size in same.items() for name, tensor in lora(stem, *size).items()}
    odd = {name: tensor for stem, size in differ.items() for name, tensor in lora(stem, *size, rank=2).items()}
    said = [note for note in report(written(tmp_path, even | odd, SAID)).notes if "diffusers 0.32" in note]
    assert len(said) == 1 and "scales 3 of its layers" in said[0] and "--rank 4" in said[0]  # alpha is 2 in all
    assert not [note for note in report(written(tmp_path, even, SAID)).notes if "diffusers 0.32" in note]


def test_a_rank_of_nothing_is_an_update_of_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(lora(K, 320, 768, rank=0), path)
    found = measure(path, read_header(path))
    assert (found.values, found.silent, found.energy) == (0, 1, {})
