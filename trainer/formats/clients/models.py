"""Every layer of Stable Diffusion 1.5, 2.1 and SDXL: names in diffusers' and in Stability's code, and sizes.

Clients accept a tensor by its name, which they build from the layers of the model that is loaded. The sizes are those
of the published configs (`unet/config.json`, `text_encoder/config.json` of each model).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from trainer.formats.sgm import sgm_paths

Shape = tuple[int, ...]
Named = tuple[str, Shape]  # path of a layer within its part, shape of its weight

SD1, SD2, SDXL = "sd1", "sd2", "sdxl"
TITLES = {SD1: "Stable Diffusion 1.5", SD2: "Stable Diffusion 2.1", SDXL: "SDXL"}
UNET, TEXT, TEXT_2 = "unet", "text_encoder", "text_encoder_2"


@dataclass(frozen=True)
class Layer:
    """A layer that holds a weight.

    Attributes:
        part: "unet", "text_encoder" or "text_encoder_2".
        path: in diffusers or transformers (with `text_model.`), dots between names.
        sgm: in Stability's code; the same as `path` in a text encoder.
        shape: of its weight; one size for a norm.
    """

    part: str
    path: str
    sgm: str
    shape: Shape

    @property
    def flat(self) -> str:
        """The path as kohya's names have it."""
        return self.path.replace(".", "_")

    @property
    def flat_sgm(self) -> str:
        """Stability's path as kohya's names have it."""
        return self.sgm.replace(".", "_")

    @property
    def norm(self) -> bool:
        """Whether it is a norm, which no plain LoRA changes."""
        return len(self.shape) == 1


@dataclass(frozen=True)
class Model:
    """A base as clients see it.

    Attributes:
        family: "sd1", "sd2" or "sdxl".
        layers: all of UNet and text encoders.
        fused: parts whose attention is one fused layer in Stability's code (OpenCLIP's).
    """

    family: str
    layers: tuple[Layer, ...]
    fused: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Unet:
    """Attributes: channels and transformer blocks of each level; width of the text; whether proj_in is linear; width
    of SDXL's size conditioning.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    cross: int
    linear: bool
    sizes: int = 0


_UNETS = {
    SD1: _Unet((320, 640, 1280, 1280), (1, 1, 1, 0), 768, linear=False),
    SD2: _Unet((320, 640, 1280, 1280), (1, 1, 1, 0), 1024, linear=True),
    SDXL: _Unet((320, 640, 1280), (0, 2, 10), 2048, linear=True, sizes=2816),
}
_TEXTS = {  # part -> layers, width
    SD1: {TEXT: (12, 768)},
    SD2: {TEXT: (23, 1024)},
    SDXL: {TEXT: (12, 768), TEXT_2: (32, 1280)},
}
_FUSED = {SD1: (), SD2: (TEXT,), SDXL: (TEXT_2,)}


@cache
def model_of(family: str) -> Model:
    """Return the published base of a family."""
    shapes = dict(_unet(_UNETS[family]))
    parts: dict[str, Mapping[str, Shape]] = {UNET: shapes}
    for part, (count, width) in _TEXTS[family].items():
        parts[part] = dict(_clip(count, width, projection=part == TEXT_2))
    return build(family, parts, _FUSED[family])


def build(family: str, parts: Mapping[str, Mapping[str, Shape]], fused: tuple[str, ...] = ()) -> Model:
    """Put a model together from part -> path -> shape of each weight."""
    sgm = sgm_paths(parts[UNET])
    layers = (
        Layer(part, path, sgm[path] if part == UNET else path, shape)
        for part, shapes in parts.items()
        for path, shape in shapes.items()
    )
    return Model(family, tuple(layers), fused)


def _unet(size: _Unet) -> Iterator[Named]:
    channels, embedding = size.channels, 4 * size.channels[0]
    yield "conv_in", (channels[0], 4, 3, 3)
    yield "time_embedding.linear_1", (embedding, channels[0])
    yield "time_embedding.linear_2", (embedding, embedding)
    if size.sizes:
        yield "add_embedding.linear_1", (embedding, size.sizes)
        yield "add_embedding.linear_2", (embedding, embedding)
    yield from _down(size, embedding)
    for index in range(2):
        yield from _resnet(f"mid_block.resnets.{index}", channels[-1], channels[-1], embedding)
    yield from _attention("mid_block.attentions.0", channels[-1], max(1, size.depths[-1]), size)
    yield from _up(size, embedding)
    yield "conv_norm_out", (channels[0],)
    yield "conv_out", (4, channels[0], 3, 3)


def _down(size: _Unet, embedding: int) -> Iterator[Named]:
    before = size.channels[0]
    for level, (width, depth) in enumerate(zip(size.channels, size.depths, strict=True)):
        for index in range(2):
            yield from _resnet(f"down_blocks.{level}.resnets.{index}", before, width, embedding)
            before = width
            if depth:
                yield from _attention(f"down_blocks.{level}.attentions.{index}", width, depth, size)
        if level < len(size.channels) - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", (width, width, 3, 3)


def _up(size: _Unet, embedding: int) -> Iterator[Named]:
    widths, depths = size.channels[::-1], size.depths[::-1]
    before = widths[0]
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        below = widths[min(level + 1, len(widths) - 1)]
        for index in range(3):
            skip = below if index == 2 else width  # what the way down left for this layer
            yield from _resnet(f"up_blocks.{level}.resnets.{index}", before + skip, width, embedding)
            before = width
            if depth:
                yield from _attention(f"up_blocks.{level}.attentions.{index}", width, depth, size)
        if level < len(widths) - 1:
            yield f"up_blocks.{level}.upsamplers.0.conv", (width, width, 3, 3)


def _resnet(at: str, inner: int, outer: int, embedding: int) -> Iterator[Named]:
    yield f"{at}.norm1", (inner,)
    yield f"{at}.conv1", (outer, inner, 3, 3)
    yield f"{at}.time_emb_proj", (outer, embedding)
    yield f"{at}.norm2", (outer,)
    yield f"{at}.conv2", (outer, outer, 3, 3)
    if inner != outer:
        yield f"{at}.conv_shortcut", (outer, inner, 1, 1)


def _attention(at: str, width: int, depth: int, size: _Unet) -> Iterator[Named]:
    square = (width, width)
    outside = square if size.linear else (*square, 1, 1)
    yield f"{at}.norm", (width,)
    yield f"{at}.proj_in", outside
    for index in range(depth):
        block = f"{at}.transformer_blocks.{index}"
        for number in (1, 2, 3):
            yield f"{block}.norm{number}", (width,)
        for name, source in (("attn1", width), ("attn2", size.cross)):
            yield f"{block}.{name}.to_q", square
            yield f"{block}.{name}.to_k", (width, source)
            yield f"{block}.{name}.to_v", (width, source)
            yield f"{block}.{name}.to_out.0", square
        yield f"{block}.ff.net.0.proj", (8 * width, width)
        yield f"{block}.ff.net.2", (width, 4 * width)
    yield f"{at}.proj_out", outside


def _clip(count: int, width: int, projection: bool) -> Iterator[Named]:
    for index in range(count):
        at = f"text_model.encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{at}.self_attn.{name}", (width, width)
        yield f"{at}.layer_norm1", (width,)
        yield f"{at}.mlp.fc1", (4 * width, width)
        yield f"{at}.mlp.fc2", (width, 4 * width)
        yield f"{at}.layer_norm2", (width,)
    yield "text_model.final_layer_norm", (width,)
    if projection:
        yield "text_projection", (width, width)
