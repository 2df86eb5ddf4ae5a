"""Stable Diffusion 1.x, 2.x and XL: a UNet with cross-attention to one or two CLIP text encoders.

One class, and a table of what tells the three apart. The embedded base and a real SD 1.5 take the same path. Shapes as
in `trainer.protocols`.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.attention import Shape, attend_for
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.ladder import RUNGS
from trainer.device import Engine, ran_out
from trainer.families.blocks import BLOCKS, lean, lean_decoder, our_kernels, recomputable
from trainer.families.clip import Reading, encode, tokenize, too_long
from trainer.families.parts import CPU, hollow
from trainer.families.source import Source
from trainer.families.vae import load_vae, vae_files
from trainer.formats.needs import kept_bytes
from trainer.formats.sizes import chosen
from trainer.formats.targets import STORED, TEXT_TARGETS, UNET_TARGETS, ends_with
from trainer.protocols import Posterior, Target, Text
from trainer.weights.layers import FrozenLayer, keep_no_inputs, layers, store, stored_bytes
from trainer.weights.streaming import PLACES, stream

TEXT_TOKENS = 77  # of a chunk of CLIP's
TILE = 32  # latent pixels: side of what the VAE works on where memory is short
DEMO_NAME = "lora-atelier-demo"


@dataclass(frozen=True)
class Kind:
    """What tells the families apart.

    Attributes:
        encoders: parts that read the caption; their hidden states stand side by side.
        reading: which layer of them the base was trained on.
        versions: prediction type -> kohya's name of the base.
        pooled: whether the UNet is also told the pooled text and the sizes of the crop.
    """

    encoders: tuple[str, ...]
    reading: Reading
    versions: dict[str, str]
    pooled: bool = False


KINDS = {
    "sd1": Kind(("text_encoder",), Reading(1, True), {"epsilon": "sd_v1", "v_prediction": "sd_v1_v"}),
    # OpenCLIP's second last layer; the files that everyone has leave the last one out
    "sd2": Kind(("text_encoder",), Reading(1, True), {"epsilon": "sd_v2", "v_prediction": "sd_v2_v"}),
    "sdxl": Kind(
        ("text_encoder", "text_encoder_2"),
        Reading(2, False),
        {"epsilon": "sdxl_base_v1-0", "v_prediction": "sdxl_base_v1-0"},
        pooled=True,
    ),
}


class StableDiffusion:
    """See `trainer.protocols.Family`.

    Args:
        source: where the parts come from.
        engine: device, number type, layout.
        options: clip skip.
        name: what people call this base.
    """

    def __init__(self, source: Source, engine: Engine, options: ModelSection, name: str) -> None:
        facts = source.facts
        self.source, self.engine, self.kind = source, engine, KINDS[facts.family]
        self.layers = source.config("text_encoder").get("num_hidden_layers", 12)
        self._refuse_skip(options)
        self.skip_layers(None if options.clip_skip == "auto" else options.clip_skip)
        self.encoders = self.kind.encoders
        self.tokenizers = [source.tokenizer(part.replace("text_encoder", "tokenizer")) for part in self.encoders]
        self.scheduler: dict[str, Any] = source.scheduler()
        self.prediction = facts.prediction
        self._parts: dict[str, nn.Module] = {}
        self._parked: set[str] = set()
        unet = source.config("unet")
        self.vae_place = options.vae
        if options.vae:
            own = load_vae(options.vae, unet["in_channels"], torch.float32, facts.family)
            self._parts["vae"] = self._quick_decoder(own.to(engine.device))
        vae = own.config if options.vae else source.config("vae")
        self.channels, self.scaling = unet["in_channels"], vae.get("scaling_factor", 0.18215)
        self.factor = 2 ** (len(vae["block_out_channels"]) - 1)
        self.resolution = unet["sample_size"] * self.factor
        self.step = self.factor * 2 ** (len(unet["block_out_channels"]) - 1)
        practice = source.name == DEMO_NAME
        self.base_version = DEMO_NAME if practice else self.kind.versions[facts.prediction]
        self.base_name = DEMO_NAME if practice else name

    @property
    def parts(self) -> dict[str, nn.Module]:
        """See `Family`."""
        return {name: self.part(name) for name in ("unet", *self.encoders)}

    def part(self, name: str) -> nn.Module:
        """See `Family`. The VAE encodes in fp32: it is small, used once per picture, and some overflow in fp16."""
        if name not in self._parts:
            self._parts[name] = self._unet() if name == "unet" else self._small_part(name)
        elif name in self._parked:
            self._parts[name].to(self.engine.device)
        return self._parts[name]

    def _small_part(self, name: str) -> nn.Module:
        if name == "vae":
            return self._quick_decoder(self.source.model(name, torch.float32, self.engine.device))
        return self.source.model(name, self.engine.dtype, self.engine.device)

    def _quick_decoder(self, vae: Any) -> nn.Module:
        """On a GPU pictures are decoded in bf16, where no VAE overflows, with our kernels; encoding stays as it is."""
        if self.engine.device.type == "cuda" and self.engine.dtype == torch.bfloat16:
            for part in filter(None, (vae.post_quant_conv, vae.decoder)):
                part.to(torch.bfloat16)
        if self.engine.kernels != "torch":
            lean_decoder(vae.decoder, our_kernels())
            vae.decoder.to(memory_format=torch.channels_last)
        return vae

    def _unet(self) -> nn.Module:
        """The UNet, its weights stored as the rung says, one layer after the other."""
        engine = self.engine
        base = RUNGS[engine.rung].base if engine.rung in RUNGS else "plain"
        # fp16 keeps more of a weight than bf16, and is what most files hold.
        plain = base == "plain"
        dtype = engine.dtype if plain or engine.dtype == torch.float32 else torch.float16
        model = self.source.model("unet", dtype, engine.device if plain else CPU)
        self._quicken(model)
        if plain:
            return model.to(memory_format=engine.memory_format)
        place = (engine.device, engine.dtype, engine.memory_format)
        if base == "streamed":
            stream(model, list(_blocks(model)), *place)
        store(_layers(model), model, base, *place)
        # diffusers' own `to` would warn of the change of type
        return nn.Module.to(model, engine.device, engine.dtype, memory_format=engine.memory_format)

    @cached_property
    def _hollow(self) -> nn.Module:
        """The UNet's modules without weights, to be looked at before it is loaded."""
        return hollow("unet", self.source.config("unet"))

    def _quicken(self, unet: Any) -> None:
        if self.engine.kernels != "torch":
            lean(unet, our_kernels(), attend_for(self.engine.attention))
        elif self.engine.attention == "xformers":
            attend_for("xformers")  # says how to install it where it is missing
            unet.enable_xformers_memory_efficient_attention()

    def attentions(self, pictures: int, width: int, height: int) -> list[Shape]:
        """See `Family`."""
        config = self.source.config("unet")
        channels, heads = config["block_out_channels"], config["attention_head_dim"]
        depths = config.get("transformer_layers_per_block", 1)
        _, *size = self.latent_shape(width, height)
        found = []
        for level, kind in enumerate(config["down_block_types"]):
            if "CrossAttn" in kind:
                depth = depths[level] if isinstance(depths, list | tuple) else depths
                count = 2 * (sum(depth) if isinstance(depth, list | tuple) else depth)
                head = heads[level] if isinstance(heads, list | tuple) else heads
                tokens = math.prod(side // 2**level for side in size)
                found += [
                    Shape(pictures, head, tokens, keys, channels[level] // head, count)
                    for keys in (tokens, TEXT_TOKENS)
                ]
        return found

    def release(self, *names: str) -> None:
        """See `Family`."""
        for name in names:
            self._parts.pop(name, None)
            self._parked.discard(name)

    def park(self, *names: str) -> None:
        """See `Family`."""
        self._parked.update(names)
        for name in names:
            if name in self._parts:
                self._parts[name].to("cpu")

    def layout(self) -> dict[str, list[str]]:
        """See `Family`."""
        return {name: _modules(self._parts.get(name)) for name in ("unet", *self.encoders)}

    def tokenize(self, texts: Sequence[str], limit: int = 1, least: int = 1) -> Tensor:
        """See `Family`."""
        return tokenize(self.tokenizers, texts, limit, least)

    @property
    def clip_skip(self) -> int:
        """See `Family`."""
        return self.reading.skip if self.reading.normed else 1

    def skip_layers(self, skip: int | None) -> None:
        """See `Family`. SDXL reads the second last layer, whatever is asked for."""
        own = self.kind.reading
        if skip and skip > self.layers:
            problem = f"clip skip {skip} goes past the first of the text encoder's {self.layers} layers"
            raise UserError(problem, "model.clip_skip", "1 is the last layer; anime models of SD 1.x are used with 2.")
        self.reading = Reading(skip, own.normed) if skip and own.normed else own

    def _refuse_skip(self, options: ModelSection) -> None:
        own = self.kind.reading
        if not own.normed and options.clip_skip not in ("auto", own.skip):
            problem = (
                f"clip skip {options.clip_skip} does not fit: Stable Diffusion XL always reads the second last layer"
            )
            raise UserError(problem, "model.clip_skip", "Set it to auto.")

    def too_long(self, text: str, limit: int) -> bool:
        """See `Family`."""
        return any(too_long(tokenizer, text, limit) for tokenizer in self.tokenizers)

    def encode_tokens(self, tokens: Tensor, weights: Tensor | None = None) -> Text:
        """See `Family`. The pooled text is that of the last encoder."""
        tokens = tokens.to(self.engine.device)
        each = [None] * len(self.encoders) if weights is None else weights.unbind(1)
        parts = zip(self.encoders, tokens.unbind(1), each, strict=True)
        said = [encode(self.part(name), own, self.reading, weight) for name, own, weight in parts]
        hidden = torch.cat([own for own, _ in said], dim=-1) if len(said) > 1 else said[0][0]
        return Text(hidden, said[-1][1])

    @torch.no_grad()
    def encode_pictures(self, pixels: Tensor) -> Posterior:
        """See `Family`. Where the GPU's memory is too small for all of them, half at a time."""
        try:
            made = self._with_vae(lambda vae: vae.encode(pixels.to(self.engine.device)), tiled=len(pixels) == 1)
        except RuntimeError as error:
            if len(pixels) == 1 or not ran_out(error):
                raise
            halves = [self.encode_pictures(part) for part in pixels.tensor_split(2)]
            return Posterior(*(torch.cat(parts) for parts in zip(*((h.mean, h.std) for h in halves), strict=True)))
        return Posterior(made.latent_dist.mean * self.scaling, made.latent_dist.std * self.scaling)

    def identity(self, part: str) -> str:
        """See `Family`."""
        engine, own = self.engine, self.vae_place if part == "vae" else ""
        files = [path.resolve() for path in (vae_files(own) if own else self.source.files(part))]
        stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.exists()]
        config = None if own else self.source.config(part)
        sums = engine.threads if engine.device.type == "cpu" else engine.deterministic
        what = (self.scaling,) if part == "vae" else (str(engine.dtype), str(self.reading))
        return json.dumps((part, stamps, config, engine.device.type, sums, what), sort_keys=True)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 3, H, W] in -1..1."""
        try:
            return self._with_vae(lambda vae: vae.decode(self._for_decoder(vae, latents))).sample.float().clamp(-1, 1)
        finally:
            self.park(*self._parked & {"vae"})

    def _for_decoder(self, vae: Any, latents: Tensor) -> Tensor:
        return (latents.float() / self.scaling).to(next(vae.decoder.parameters()).dtype)

    def _with_vae(self, work: Callable[[Any], Any], tiled: bool = True) -> Any:
        """Use the VAE; where the GPU's memory is too small for a whole picture, in tiles from then on, if allowed."""
        vae = self.part("vae")
        try:
            return work(vae)
        except RuntimeError as error:
            if vae.use_tiling or not tiled or not ran_out(error):
                raise
        torch.cuda.empty_cache()
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE * self.factor, TILE
        vae.enable_tiling()
        return work(vae)

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Text, sizes: Tensor) -> Tensor:
        """The UNet's answer, [B, C, h, w]."""
        added = {"text_embeds": text.pooled.to(self.engine.dtype), "time_ids": sizes} if self.kind.pooled else None
        return self.part("unet")(
            noisy.to(self.engine.dtype, memory_format=self.engine.memory_format),
            timesteps,
            text.hidden.to(self.engine.dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]

    def checkpoint(self, share: str) -> None:
        """See `Family`. What a frozen convolution saw is never needed again; torch's own would keep it."""
        keep_no_inputs(self.part("unet"))
        if share == "none":
            return
        chosen = set(map(id, recomputable(self.part("unet"))[:: 1 if share == "full" else 2]))

        def run(block: nn.Module, *arguments: Any) -> Any:
            if id(block) not in chosen:
                return block(*arguments)
            # Nothing in a block draws from torch's own generators, and reading their state would break a graph.
            return checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)

        self.part("unet").enable_gradient_checkpointing(run)

    def regions(self) -> list[nn.Module]:
        """See `Family`."""
        return [module for module in self.part("unet").modules() if isinstance(module, BLOCKS)]

    def kept_bytes(self, share: str) -> float:
        """See `Family`."""
        more = 1.0 if self.engine.kernels == "triton" else 1.2
        return kept_bytes(self.source.facts.family, share, self.engine.dtype.itemsize) * more

    def unet_bytes(self, base: str) -> int:
        """See `Family`."""
        unet, itemsize = self._hollow, self.engine.dtype.itemsize
        stored = dict(_layers(unet))
        inside = {
            path: {f"{path}.{name}" for name, _ in block.named_modules()} if base == "streamed" else set()
            for path, block in _blocks(unet)
        }
        sizes = {path: stored_bytes(layer, base, itemsize) for path, layer in stored.items()}
        blocks = [sum(sizes.pop(path, 0) for path in paths) for paths in inside.values()]
        rest = sum(p.numel() for p in unet.parameters()) - sum(_size(layer) for layer in stored.values())
        return int(sum(sizes.values()) + PLACES * max(blocks) + rest * itemsize)

    def shapes(self, targets: Sequence[Target]) -> dict[Target, torch.Size]:
        """See `Family`."""
        roots = {"unet": self._hollow} | {name: self.part(name) for name in {t.part for t in targets} - {"unet"}}
        return {target: roots[target.part].get_submodule(target.path).weight.shape for target in targets}

    def targets(self, preset: str, text_encoder: bool, patterns: Sequence[str] = ()) -> list[Target]:
        """See `Family`."""
        if patterns:
            found = chosen([Target("unet", path) for path, _ in _layers(self._hollow)], patterns)
        else:
            found = [
                Target("unet", path) for path in _paths(self._hollow, UNET_TARGETS[preset]) if path.startswith(STORED)
            ]
        for name in self.encoders if text_encoder else ():
            found += [Target(name, path) for path in _paths(self.part(name), TEXT_TARGETS)]
        return found

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture of that size in pixels."""
        return self.channels, height // self.factor, width // self.factor


def load(source: Source, engine: Engine, options: ModelSection, name: str) -> StableDiffusion:
    """Open a base; its weights are read part by part, when they are needed.

    Raises:
        UserError: a part is missing, or a setting does not fit the family.
    """
    return StableDiffusion(source, engine, options, name)


def _layers(unet: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """(path, layer) of everything that may be stored in fewer bits."""
    return list(layers((name, unet.get_submodule(name)) for name in STORED))


def _blocks(unet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, block) of all that is computed again, in the order in which it is computed: not that of the modules."""
    stages = [f"down_blocks.{i}" for i in range(len(unet.down_blocks))] + ["mid_block"]
    for stage in stages + [f"up_blocks.{i}" for i in range(len(unet.up_blocks))]:
        found = [path for path, module in unet.get_submodule(stage).named_modules() if isinstance(module, BLOCKS)]
        # resnets.0, attentions.0, resnets.1, ...: each kind numbered, a resnet before the attention of its number
        for path in sorted(found, key=lambda path: (int(path.split(".")[1]), path.startswith("attentions"))):
            yield f"{stage}.{path}", unet.get_submodule(f"{stage}.{path}")


def _size(layer: nn.Linear | nn.Conv2d) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())


def _modules(root: nn.Module | None) -> list[str]:
    return [path for path, _ in root.named_modules()] if root is not None else []


def _paths(root: nn.Module, endings: Sequence[str]) -> list[str]:
    return [
        path
        for path, module in root.named_modules()
        if ends_with(path, endings) and isinstance(module, nn.Linear | nn.Conv2d | FrozenLayer)
    ]
