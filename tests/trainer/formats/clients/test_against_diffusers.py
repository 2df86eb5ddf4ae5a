"""The verdict on diffusers against the installed diffusers really loading such files, on tiny models."""

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file

from tests.tiny_sdxl import make_tiny_sdxl
from trainer.formats.clients.models import SD1, SDXL, build
from trainer.formats.clients.pipelines import DIFFUSERS_CLIENT, rescaled
from trainer.formats.clients.sheet import Sheet
from trainer.formats.clients.verdict import LOADS, LOSSES, NOTHING, REFUSED
from trainer.formats.header import read_header

RANK = 2
PARTS = {SD1: ("unet", "text_encoder"), SDXL: ("unet", "text_encoder", "text_encoder_2")}
UNET = "down_blocks.0.attentions.0.transformer_blocks.0"
XL_UNET = "down_blocks.1.attentions.0.transformer_blocks.1"
XL_SGM = "input_blocks.3.1.transformer_blocks.1"
TEXT = "text_model.encoder.layers.0"
KOHYA, PEFT = (".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")
OLD, OLDEST = (".lora.down.weight", ".lora.up.weight"), ("_lora.down.weight", "_lora.up.weight")


class Base:
    """A tiny pipeline, opened anew for every load, and what a client knows of it."""

    def __init__(self, family, folder):
        self.family, self.folder = family, folder
        parts = {part: getattr(self.open(), part) for part in PARTS[family]}
        self.shapes = {
            part: {
                name if part == "unet" or name.startswith("text_") else f"text_model.{name}": tuple(layer.weight.shape)
                for name, layer in root.named_modules()
                if getattr(layer, "weight", None) is not None and "embedding" not in name.split(".")[-1]
            }
            for part, root in parts.items()
        }
        self.model = build(family, self.shapes)

    def open(self):
        kind = StableDiffusionPipeline if self.family == SD1 else StableDiffusionXLPipeline
        options = {"safety_checker": None} if self.family == SD1 else {}
        return kind.from_pretrained(self.folder, **options)

    def load(self, path):
        """(outcome, layers that got a matrix) of really loading a file."""
        pipe = self.open()
        try:
            pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name="mine")
        except (ValueError, KeyError, RuntimeError, AttributeError):
            return REFUSED, 0
        got = sum(
            "mine" in getattr(layer, "lora_A", ())
            for part in PARTS[self.family]
            for layer in getattr(pipe, part).modules()
        )
        return None, got


@pytest.fixture(scope="module")
def bases(tiny_sd, tmp_path_factory):
    return {
        SD1: Base(SD1, tiny_sd),
        SDXL: Base(SDXL, make_tiny_sdxl(tmp_path_factory.mktemp("base") / "sdxl")),
    }


def lora(name, shape, ends=KOHYA, alpha=True):
    down, up = ends
    tensors = {
        name + down: torch.randn(RANK, *shape[1:]),
        name + up: torch.randn(shape[0], RANK, *[1] * len(shape[2:])),
    }
    return tensors | ({f"{name}.alpha": torch.tensor(1.0)} if alpha else {})


def flat(path):
    return path.replace(".", "_")


def width(base, part, path):
    return base.shapes[part][path]


def plain(base, layers=("attn2.to_k", "attn1.to_out.0", "ff.net.2")):
    at = UNET if base.family == SD1 else XL_UNET
    written = at if base.family == SD1 else XL_SGM
    return {
        name: tensor
        for layer in layers
        for name, tensor in lora(
            f"lora_unet_{flat(f'{written}.{layer}')}", width(base, "unet", f"{at}.{layer}")
        ).items()
    }


def text(base, prefix="lora_te_", part="text_encoder", ends=KOHYA, layers=("q_proj", "out_proj")):
    paths = [f"{TEXT}.{'mlp' if layer.startswith('fc') else 'self_attn'}.{layer}" for layer in layers]
    return {
        name: tensor
        for path in paths
        for name, tensor in lora(
            prefix + (path if prefix.endswith(".") else flat(path)), width(base, part, path), ends, ends is KOHYA
        ).items()
    }


def native(base, prefix="unet.", ends=PEFT, layer="attn2.to_k", written=None):
    at = UNET if base.family == SD1 else XL_UNET
    return lora(f"{prefix}{at}.{written or layer}", width(base, "unet", f"{at}.{layer}"), ends, alpha=False)


def blocks(base):
    """SDXL under diffusers' block names."""
    return lora(f"lora_unet_{flat(f'{XL_UNET}.attn1.to_q')}", width(base, "unet", f"{XL_UNET}.attn1.to_q"))


def beside(name):
    stem = f"lora_unet_{flat(UNET)}_attn1_to_q"
    return {f"{stem}.{name}": torch.ones(16, 2)}


def strange(base):
    return lora("lora_unet_down_blocks_7_attentions_0_proj_in", (16, 16, 1, 1))


CASES = {
    "kohya's names": (SD1, lambda b: plain(b), LOADS),
    "both parts": (SD1, lambda b: plain(b) | text(b), LOADS),
    "lora_te1_ on SD 1.x": (SD1, lambda b: plain(b) | text(b, "lora_te1_"), LOADS),
    "lora_te2_ on SD 1.x": (SD1, lambda b: plain(b) | text(b, "lora_te2_"), LOSSES),
    "text: q alone": (SD1, lambda b: plain(b) | text(b, layers=("q_proj",)), REFUSED),
    "text: q and MLP": (SD1, lambda b: plain(b) | text(b, layers=("q_proj", "fc1")), LOSSES),
    "text: MLP alone": (SD1, lambda b: plain(b) | text(b, layers=("fc1", "fc2")), LOADS),
    "text: all": (SD1, lambda b: text(b, layers=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")), LOADS),
    "no alpha": (SD1, lambda b: {n: t for n, t in plain(b).items() if "alpha" not in n}, LOADS),
    "DoRA": (SD1, lambda b: plain(b) | beside("dora_scale"), LOSSES),
    "LoHa": (SD1, lambda b: plain(b) | beside("hada_w1_a") | beside("hada_w1_b"), REFUSED),
    "LoKr": (SD1, lambda b: beside("lokr_w1") | beside("lokr_w2"), REFUSED),
    "Tucker": (
        SD1,
        lambda b: plain(b) | {f"lora_unet_{flat(UNET)}_ff_net_2.lora_mid.weight": torch.ones(2, 2)},
        REFUSED,
    ),
    "norms": (SD1, lambda b: plain(b) | {f"lora_unet_{flat(UNET)}_norm1.w_norm": torch.ones(16)}, REFUSED),
    "an embedding inside": (SD1, lambda b: plain(b) | {"bundle_emb.ohwx.string_to_param.*": torch.ones(1, 8)}, REFUSED),
    "half a module": (SD1, lambda b: {n: t for n, t in plain(b).items() if "lora_up" not in n}, REFUSED),
    "only alphas left": (SD1, lambda b: plain(b) | {"lora_unet_x.alpha": torch.tensor(1.0)}, REFUSED),
    "an unknown layer too": (SD1, lambda b: plain(b) | strange(b), LOSSES),
    "unknown layers only": (SD1, strange, REFUSED),
    "another size": (SD1, lambda b: lora(f"lora_unet_{flat(UNET)}_attn2_to_k", (16, 99)), REFUSED),
    "PEFT's names": (SD1, lambda b: native(b) | text(b, "text_encoder.", ends=PEFT), LOADS),
    "PEFT's without a part": (SD1, lambda b: native(b, ""), NOTHING),
    "PEFT's own prefix": (SD1, lambda b: native(b, "base_model.model."), NOTHING),
    "diffusers' before PEFT": (
        SD1,
        lambda b: native(b, "unet.", OLDEST, written="attn2.processor.to_k"),
        LOADS,
    ),
    "diffusers' with .lora.": (SD1, lambda b: native(b, ends=OLD, layer="ff.net.2"), LOADS),
    "Stability's names on SD 1.x": (
        SD1,
        lambda b: lora("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k", (16, 32)),
        REFUSED,
    ),
    "no LoRA at all": (SD1, lambda b: {"model.diffusion_model.conv": torch.ones(3)}, REFUSED),
    "SDXL": (SDXL, lambda b: plain(b), LOADS),
    "SDXL with both text encoders": (
        SDXL,
        lambda b: plain(b) | text(b, "lora_te1_") | text(b, "lora_te2_", "text_encoder_2"),
        LOADS,
    ),
    "SDXL under diffusers' blocks": (SDXL, blocks, LOADS),
    "SDXL with mixed blocks": (SDXL, lambda b: plain(b) | blocks(b), LOSSES),
    "SDXL of PEFT": (SDXL, lambda b: native(b) | text(b, "text_encoder_2.", "text_encoder_2", PEFT), LOADS),
}


@pytest.mark.parametrize(
    ("alphas", "scales"),
    [
        ({"attn2.to_k": 1.0, "attn1.to_out.0": 1.0, "ff.net.2": 2.0}, (0.5, 0.5, 1.0)),
        ({"attn2.to_k": 1.0, "ff.net.0.proj": 2.0, "ff.net.2": 2.0}, (1.0, 1.0, 1.0)),
        ({"attn2.to_k": 2.0, "attn1.to_out.0": 1.0, "ff.net.2": 2.0}, (1.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("family", [SD1, SDXL])
def test_alphas_that_are_not_all_the_same(family, alphas, scales, bases, tmp_path):
    base = bases[family]
    tensors = plain(base, tuple(alphas))
    for name in tensors:
        if name.endswith("alpha"):
            tensors[name] = torch.tensor(next(alpha for layer, alpha in alphas.items() if flat(layer) in name))
    save_file(tensors, tmp_path / "mine.safetensors")
    pipe = base.open()
    pipe.load_lora_weights(tmp_path, weight_name="mine.safetensors", adapter_name="mine")
    at = UNET if family == SD1 else XL_UNET
    got = {layer: pipe.unet.get_submodule(f"{at}.{layer}").scaling["mine"] for layer in alphas}
    assert tuple(got.values()) == scales
    told = rescaled({name.removesuffix(".alpha"): float(t) for name, t in tensors.items() if name.endswith("alpha")})
    wrong = [layer for layer in alphas if got[layer] != alphas[layer] / RANK]
    assert len(told) == len(wrong) and all(stem.endswith(flat(layer)) for stem, layer in zip(told, wrong, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_our_verdict_is_what_diffusers_does(case, bases, tmp_path):
    family, tensors, outcome = CASES[case]
    base = bases[family]
    path = tmp_path / "mine.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors(base).items()}, path)
    verdict = DIFFUSERS_CLIENT.judge(Sheet("mine", {}, read_header(path).tensors), base.model)
    refused, got = base.load(path)
    assert verdict.outcome == outcome, verdict
    assert (verdict.outcome == REFUSED) == (refused == REFUSED), (verdict, got)
    assert verdict.applied == got, verdict
    assert verdict.outcome == LOADS or verdict.reasons
