"""Our CLIP text encoder gives what transformers' gives, but for the last bits of a sum in another order."""

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.tiny_checkpoints import canonical, scattered
from trainer.families.clip import Reading, encode
from trainer.families.source import read_folder

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "projection_dim": 24,
    "bos_token_id": 98,
}
TOKENS = torch.tensor([[98, 5, 6, 99, 99, 99, 0], [98, 5, 6, 7, 8, 9, 99]])


@pytest.fixture(params=["quick_gelu", "gelu", "gelu_new"])
def config(request):
    return {**SIZES, "hidden_act": request.param}


def saved(kind, config, folder):
    torch.manual_seed(1)
    model = scattered(kind(CLIPTextConfig(**config)))
    model.save_pretrained(folder)
    return model


@torch.no_grad()
@pytest.mark.parametrize("end", [99, 2])
def test_every_layer_is_that_of_transformers(config, end, tmp_path):
    theirs = saved(CLIPTextModel, {**config, "eos_token_id": end}, tmp_path)
    mine = read_folder("text_encoder", tmp_path, torch.float32)
    assert list(mine.state_dict()) == list(canonical(theirs)), "an adapter is drawn in this order"
    said = theirs(TOKENS, output_hidden_states=True)
    for skip in (1, 2, 3):
        hidden, pooled = encode(mine, TOKENS[:, None], Reading(skip, normed=False))
        torch.testing.assert_close(hidden, said.hidden_states[-skip])
        assert pooled.shape == (2, 0)
    torch.testing.assert_close(encode(mine, TOKENS[:, None], Reading(1, normed=True))[0], said.last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("end", [99, 2])
def test_the_pooled_text_is_that_of_transformers(config, end, tmp_path):
    theirs = saved(CLIPTextModelWithProjection, {**config, "eos_token_id": end}, tmp_path)
    mine = read_folder("text_encoder_2", tmp_path, torch.float32)
    said = theirs(TOKENS, output_hidden_states=True)
    hidden, pooled = encode(mine, TOKENS[:, None], Reading(2, normed=False))
    torch.testing.assert_close(pooled, said.text_embeds)
    torch.testing.assert_close(hidden, said.hidden_states[-2])


@pytest.mark.parametrize("shard", ["1GB", "10KB"])
def test_a_folder_with_the_fp16_variant_only_is_read(config, tmp_path, shard):
    theirs = saved(CLIPTextModel, config, tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "variant", variant="fp16", max_shard_size=shard)
    assert not (tmp_path / "variant" / "model.safetensors").exists()
    assert (len(list((tmp_path / "variant").glob("*.safetensors"))) > 1) == (shard == "10KB")
    whole, mine = (read_folder("text_encoder", tmp_path / name, torch.float32) for name in ("whole", "variant"))
    assert all(torch.equal(tensor, mine.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_gradients_are_those_of_transformers(config, tmp_path):
    theirs = saved(CLIPTextModel, {**config, "eos_token_id": 99}, tmp_path)
    mine = read_folder("text_encoder", tmp_path, torch.float32).requires_grad_(True)
    theirs(TOKENS).last_hidden_state.square().sum().backward()
    encode(mine, TOKENS[:, None], Reading(1, normed=True))[0].square().sum().backward()
    grads = {name.removeprefix("text_model."): weight.grad for name, weight in theirs.named_parameters()}
    for name, weight in mine.named_parameters():
        torch.testing.assert_close(weight.grad, grads[name])
