"""The ways in which files write what an adapter adds to a layer: their tensors, and which layers these fit.

From the sources of LyCORIS (`lycoris/modules`), kohya's sd-scripts (`networks`), PEFT (`tuners`) and A1111's Lora
extension. A tensor's role is what it is in its layer, as `trainer.formats.names` reads it from the name.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from trainer.formats.header import TensorInfo

Role = str
Shape = tuple[int, ...]
Shapes = Mapping[Role, Shape]

LENGTHS = "dora_scale"  # beside any kind that changes a weight: the lengths that its rows or columns get
ROWS = "magnitude"  # the same as PEFT calls it, always of rows
UP_BIAS = "up_bias"  # of a LoRA's second layer, in PEFT: scaled as its product is
SHIFT = "diff_b"  # what is added to the layer's bias
READABLE = frozenset(("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL"))


@dataclass(frozen=True)
class Kind:
    """A way to write a layer's change.

    Attributes:
        name: as the catalogue's, where it is a method that can be trained here.
        title: for people.
        needed: roles without which there is no change.
        fits: (shapes by role, shape of the layer's weight) -> whether they are of such a layer.
        beside: roles that may be there too.
        decomposed: whether `dora_scale` may be.
        norm: whether it is for norms, and nothing else is.
        rank: the role and the side of it that is the rank; ("", 0) for none.
    """

    name: str
    title: str
    needed: frozenset[Role]
    fits: Callable[[Shapes, Shape], bool]
    beside: frozenset[Role] = frozenset()
    decomposed: bool = True
    norm: bool = False
    rank: tuple[Role, int] = ("", 0)

    @property
    def used(self) -> frozenset[Role]:
        """All roles that it takes."""
        extra = {LENGTHS, ROWS} if self.decomposed else set()
        return self.needed | self.beside | extra | (set() if self.norm else {SHIFT})


def kind_of(roles: Collection[Role]) -> Kind | None:
    """The kind that these tensors are of; None where a part is missing, or they are of none."""
    there = set(roles)
    return next((kind for kind in KINDS if kind.needed <= there), None)


def title_of(roles: Collection[Role]) -> str:
    """What people call it; "" for none."""
    kind = kind_of(roles)
    if kind is None:
        return ""
    if not {LENGTHS, ROWS} & set(roles) or not kind.decomposed:
        return kind.title
    return "DoRA" if kind.name == "lora" else f"{kind.title} with DoRA"


def misfit(infos: Mapping[Role, TensorInfo], weight: Shape) -> str:
    """Why a layer's tensors cannot be added to a weight of that shape; "" where they can.

    Only shapes and number types are looked at, so that no file can ask for memory before it is known to fit.
    """
    kind = kind_of(infos)
    if kind is None:
        return "parts are missing"
    strange = next((info.dtype for info in infos.values() if info.dtype not in READABLE), "")
    if strange:
        return f"numbers of the type {strange[:20]}, which is not read"
    shapes = {role: info.shape for role, info in infos.items()}
    if any(math.prod(shape) == 0 for shape in shapes.values()):
        return "a tensor without numbers"
    if math.prod(shapes.get("alpha", ())) != 1:
        return "an alpha that is not one number"
    if kind.norm != (len(weight) == 1):
        return "of another sort of layer"
    lengths, outputs = shapes.get(LENGTHS), (weight[0],)
    fits = all(math.prod(shapes.get(role, outputs)) == weight[0] for role in (SHIFT, UP_BIAS, ROWS))
    fits = fits and kind.fits(shapes, weight)
    if lengths is not None:
        fits = fits and len(lengths) <= len(weight) and math.prod(lengths) in weight[:2]
    return "" if fits else "sizes of another layer"


def _inside(weight: Shape) -> int:
    return math.prod(weight[1:])


def _lora(held: Shapes, weight: Shape) -> bool:
    up, down, mid = held["up"], held["down"], held.get("mid")
    if min(len(up), len(down)) < 2 or up[0] != weight[0] or math.prod(up[2:]) != 1:
        return False
    if mid is None:
        return up[1] == down[0] and math.prod(down[1:]) == _inside(weight)
    return mid[:2] == (up[1], down[0]) and mid[2:] == weight[2:] and math.prod(down[1:]) == weight[1]


def _product(first: Shape, second: Shape, core: Shape | None) -> tuple[int, int]:
    """Rows and columns of two factors' product, perhaps with a Tucker core between them; (0, 0) for none."""
    if min(len(first), len(second)) < 2:
        return 0, 0
    if core is not None:
        goes = core[:2] == (first[0], second[0])
        return (first[1], second[1] * math.prod(core[2:])) if goes else (0, 0)
    return (first[0], math.prod(second[1:])) if first[1] == second[0] else (0, 0)


def _loha(held: Shapes, weight: Shape) -> bool:
    wanted = weight[0], _inside(weight)
    return all(_product(held[f"hada_w{n}_a"], held[f"hada_w{n}_b"], held.get(f"hada_t{n}")) == wanted for n in (1, 2))


def _lokr(held: Shapes, weight: Shape) -> bool:
    sides = [_factor(held, "lokr_w1", None), _factor(held, "lokr_w2", held.get("lokr_t2"))]
    return sides[0][0] * sides[1][0] == weight[0] and sides[0][1] * sides[1][1] == _inside(weight)


def _factor(held: Shapes, name: str, core: Shape | None) -> tuple[int, int]:
    whole = held.get(name)
    if whole is not None:
        return (whole[0], math.prod(whole[1:])) if len(whole) > 1 else (0, 0)
    return _product(held[f"{name}_a"], held[f"{name}_b"], core)


def _oft(held: Shapes, weight: Shape) -> bool:
    blocks = held["oft_blocks"] if "oft_blocks" in held else held["oft_diag"]
    square = len(blocks) in (3, 4) and blocks[-1] == blocks[-2] and _stages_fit(blocks, weight[0])
    return square and blocks[-3] * blocks[-1] == weight[0] and math.prod(held.get("rescale", (1,))) in (1, weight[0])


def _stages_fit(blocks: Shape, outputs: int) -> bool:
    """Whether a BOFT's stages [stages, blocks, n, n] can each mix outputs that lie twice as far apart as before."""
    if len(blocks) == 3:
        return True
    half = blocks[-1] // 2
    return half > 0 and blocks[0] <= outputs.bit_length() and outputs % (half << blocks[0]) == 0


def _turned_inputs(held: Shapes, weight: Shape) -> bool:
    blocks = held["oft_R"]
    return len(blocks) == 2 and blocks[0] * block_side(blocks[1]) == _inside(weight)


def block_side(numbers: int) -> int:
    """Side of the skew-symmetric matrix of which so many numbers are stored; 0 for none."""
    side = (1 + math.isqrt(1 + 8 * numbers)) // 2
    return side if side * (side - 1) // 2 == numbers else 0


def _glora(held: Shapes, weight: Shape) -> bool:
    """Of LyCORIS since 2.0 (inputs into ranks first), or before."""
    sizes = [_product(held[f"{letter}1"], held[f"{letter}2"], None) for letter in "ab"]
    older = [_product(held[f"{letter}2"], held[f"{letter}1"], None) for letter in "ab"]
    wanted = [(weight[1], weight[1]), (weight[0], _inside(weight))]
    return wanted in (sizes, older)


def _ia3(held: Shapes, weight: Shape) -> bool:
    return math.prod(held["weight"]) in weight[:2] and math.prod(held["on_input"]) == 1


def _kind(name: str, title: str, needed: str, fits: Callable[[Shapes, Shape], bool], beside: str = "",
          rank: tuple[Role, int] = ("", 0), **rest: bool) -> Kind:  # fmt: skip
    return Kind(name, title, frozenset(needed.split()), fits, frozenset(beside.split()), rank=rank, **rest)


_KRON = "alpha lokr_t2"
KINDS: tuple[Kind, ...] = (
    _kind("lora", "LoRA", "down up", _lora, "alpha mid up_bias", ("down", 0)),
    _kind("loha", "LoHa", "hada_w1_a hada_w1_b hada_w2_a hada_w2_b", _loha, "alpha hada_t1 hada_t2", ("hada_w1_b", 0)),
    _kind("lokr", "LoKr", "lokr_w1 lokr_w2", _lokr, "alpha"),
    _kind("lokr", "LoKr", "lokr_w1 lokr_w2_a lokr_w2_b", _lokr, _KRON, ("lokr_w2_b", 0)),
    _kind("lokr", "LoKr", "lokr_w1_a lokr_w1_b lokr_w2", _lokr, _KRON, ("lokr_w1_b", 0)),
    _kind("lokr", "LoKr", "lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b", _lokr, _KRON, ("lokr_w2_b", 0)),
    _kind("oft", "OFT", "oft_blocks", _oft, "alpha rescale", ("oft_blocks", -1), decomposed=False),
    _kind("oft", "OFT", "oft_diag", _oft, "alpha rescale", ("oft_diag", -1), decomposed=False),
    _kind("oft", "OFT", "oft_R", _turned_inputs, decomposed=False),
    _kind("glora", "GLoRA", "a1 a2 b1 b2", _glora, "alpha", ("b1", 1)),
    _kind("full", "full difference", "diff", lambda held, weight: math.prod(held["diff"]) == math.prod(weight)),
    _kind("ia3", "IA3", "on_input weight", _ia3, decomposed=False),
    _kind("norm", "norm", "w_norm", lambda held, weight: held["w_norm"] == weight, "b_norm", decomposed=False,
          norm=True),
    _kind("bias", "bias", "diff_b", lambda held, weight: True, decomposed=False),
)  # fmt: skip
