"""Tiny models of the real classes, written as single files in the original layout (LDM, SGM).

The name map here is the way back from diffusers' names; the program uses diffusers' own converters for the way there.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.tiny import make_tokenizer

TOKENS = 514  # of the tokenizer that `make_tokenizer` writes
CHANNELS = (32, 64)
LAYERS = 1


@dataclass(frozen=True)
class Tiny:
    """Models of a family, by part, and the tensors of a checkpoint that holds them."""

    models: dict[str, nn.Module]
    tensors: dict[str, Tensor]

    def write(self, path: Path, extra: dict[str, Tensor] | None = None, metadata: dict[str, str] | None = None) -> Path:
        """Save as a file, with its tokenizers beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors | (extra or {}), path, metadata)
        for part in self.models:
            if part.startswith("text_encoder"):
                make_tokenizer(path.parent / part.replace("text_encoder", "tokenizer"))
        return path


def tiny_checkpoint(family: str) -> Tiny:
    """Make random models of `sd1`, `sd2` or `sdxl`."""
    torch.manual_seed(11)
    models = {"unet": scattered(tiny_unet(family)), "vae": scattered(tiny_vae())}
    tensors = unet_to_ldm(models["unet"]) | prefixed("first_stage_model.", vae_to_ldm(models["vae"]))
    if family == "sd2":
        models["text_encoder"] = tiny_text(CLIPTextModel, 48, "gelu")
        # The file has one layer more than is read, and a projection that is not read either.
        whole = tiny_text(CLIPTextModelWithProjection, 48, "gelu", layers=3)
        whole.load_state_dict(canonical(models["text_encoder"], "text_model."), strict=False)
        tensors |= prefixed("cond_stage_model.model.", text_to_open_clip(whole))
        return Tiny(models, tensors)
    models["text_encoder"] = tiny_text(CLIPTextModel, 32, "quick_gelu")
    clip = canonical(models["text_encoder"], "text_model.")
    start = "cond_stage_model.transformer." if family == "sd1" else "conditioner.embedders.0.transformer."
    tensors |= prefixed(start, clip)
    tensors[f"{start}text_model.embeddings.position_ids"] = torch.arange(77)[None]
    if family == "sdxl":
        models["text_encoder_2"] = tiny_text(CLIPTextModelWithProjection, 32, "gelu", projection=40)
        tensors |= prefixed("conditioner.embedders.1.model.", text_to_open_clip(models["text_encoder_2"]))
        tensors["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
    return Tiny(models, {name: tensor.clone().contiguous() for name, tensor in tensors.items()})


def tiny_unet(family: str) -> UNet2DConditionModel:
    """A UNet with attention below (SD 1.x, 2.x) or above (SDXL) its first resolution."""
    xl = family == "sdxl"
    blocks = ("DownBlock2D", "CrossAttnDownBlock2D") if xl else ("CrossAttnDownBlock2D", "DownBlock2D")
    options = {}
    if xl:
        options = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": 6 * 16 + 40,
            "transformer_layers_per_block": [1, 2],
        }
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=CHANNELS,
        layers_per_block=LAYERS,
        down_block_types=blocks,
        up_block_types=tuple(block.replace("Down", "Up") for block in reversed(blocks)),
        cross_attention_dim={"sd1": 32, "sd2": 48, "sdxl": 64}[family],
        attention_head_dim=8 if family == "sd1" else [1, 1],
        use_linear_projection=family != "sd1",
        **options,
    )


def tiny_vae(latent_channels: int = 4) -> AutoencoderKL:
    """A VAE that makes pictures eight times as small."""
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=latent_channels,
        layers_per_block=1,
    )


def tiny_text(kind: type, width: int, activation: str, layers: int = 2, projection: int = 24) -> nn.Module:
    """A CLIP text encoder."""
    config = CLIPTextConfig(
        vocab_size=TOKENS,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=1,
        projection_dim=projection,
        hidden_act=activation,
        bos_token_id=TOKENS - 2,
        eos_token_id=TOKENS - 1,
    )
    return scattered(kind(config))


def scattered(model: nn.Module) -> nn.Module:
    """No two weights alike: norms begin as ones and zeros, and one could be taken for another."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.uniform_(-0.1, 0.1)
    return model.eval()


def prefixed(start: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {start + name: tensor for name, tensor in tensors.items()}


def canonical(model: nn.Module, start: str = "") -> dict[str, Tensor]:
    """A text encoder's tensors under names that begin with `start`, whatever the version of transformers says."""
    named = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    return {name if name.startswith("text_projection") else start + name: tensor for name, tensor in named.items()}


def renamed(name: str, rules: list[tuple[str, str]]) -> str:
    for old, new in rules:
        name = re.sub(old, new, name)
    return name


def unet_to_ldm(unet: nn.Module, start: str = "model.diffusion_model.") -> dict[str, Tensor]:
    """A UNet's tensors under their original names."""
    layers = unet.config.layers_per_block + 1
    attention = {f"up_blocks.{index}": "CrossAttn" in kind for index, kind in enumerate(unet.config.up_block_types)}

    def block(match: re.Match) -> str:
        way, level, kind, layer = match[1], int(match[2]), match[3], int(match[4])
        if way == "down":
            number, inner = (
                1 + level * layers + layer,
                {"resnets": "0", "attentions": "1", "downsamplers": "0.op"}[kind],
            )
            return f"input_blocks.{number + (layers - 1 if kind == 'downsamplers' else 0)}.{inner}"
        if kind == "upsamplers":
            return f"output_blocks.{level * layers + layers - 1}.{2 if attention[f'up_blocks.{level}'] else 1}.conv"
        return f"output_blocks.{level * layers + layer}.{0 if kind == 'resnets' else 1}"

    rules = [
        (r"^time_embedding\.linear_1", "time_embed.0"),
        (r"^time_embedding\.linear_2", "time_embed.2"),
        (r"^add_embedding\.linear_1", "label_emb.0.0"),
        (r"^add_embedding\.linear_2", "label_emb.0.2"),
        (r"^conv_in", "input_blocks.0.0"),
        (r"^conv_norm_out", "out.0"),
        (r"^conv_out", "out.2"),
        (r"^mid_block\.resnets\.0", "middle_block.0"),
        (r"^mid_block\.attentions\.0", "middle_block.1"),
        (r"^mid_block\.resnets\.1", "middle_block.2"),
        (r"(resnets\.\d|middle_block\.[02])\.norm1", r"\1.in_layers.0"),
        (r"(resnets\.\d|middle_block\.[02])\.conv1", r"\1.in_layers.2"),
        (r"(resnets\.\d|middle_block\.[02])\.time_emb_proj", r"\1.emb_layers.1"),
        (r"(resnets\.\d|middle_block\.[02])\.norm2", r"\1.out_layers.0"),
        (r"(resnets\.\d|middle_block\.[02])\.conv2", r"\1.out_layers.3"),
        (r"(resnets\.\d)\.conv_shortcut", r"\1.skip_connection"),
        (r"(samplers\.0)\.conv", r"\1"),
    ]
    pattern = re.compile(r"^(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)")
    return {start + pattern.sub(block, renamed(name, rules)): tensor for name, tensor in unet.state_dict().items()}


def vae_to_ldm(vae: nn.Module) -> dict[str, Tensor]:
    """A VAE's tensors under their original names, its attention as 1x1 convolutions [c, c, 1, 1]."""
    last = len(vae.config.block_out_channels) - 1
    attention = [
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    ]
    rules = [
        *attention,
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d)\.resnets", lambda match: f"up.{last - int(match[1])}.block"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{last - int(match[1])}.upsample"),
        (r"conv_norm_out", "norm_out"),
        (r"conv_shortcut", "nin_shortcut"),
    ]
    named = {renamed(name, rules): tensor for name, tensor in vae.state_dict().items()}
    return {
        name: tensor[:, :, None, None] if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name) else tensor
        for name, tensor in named.items()
    }


def text_to_open_clip(model: nn.Module) -> dict[str, Tensor]:
    """A text encoder's tensors under OpenCLIP's names: query, key and value in one, the projection transposed."""
    tensors = canonical(model)
    rules = [
        (r"^embeddings\.token_embedding", "token_embedding"),
        (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
        (r"^final_layer_norm", "ln_final"),
        (r"^encoder\.layers\.", "transformer.resblocks."),
        (r"layer_norm([12])", r"ln_\1"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
        (r"self_attn\.", "attn."),
    ]
    found = {renamed(name, rules): tensor for name, tensor in tensors.items() if not re.search(r"[qkv]_proj\.", name)}
    for layer in range(model.config.num_hidden_layers):
        for kind in ("weight", "bias"):
            parts = [tensors[f"encoder.layers.{layer}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            found[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
    if "text_projection.weight" in found:
        found["text_projection"] = found.pop("text_projection.weight").T.contiguous()
    return found
