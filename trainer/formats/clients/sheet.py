"""An adapter file as clients see it before any of its numbers is read, and its tensors grouped into updates."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from trainer.formats.clients.models import Layer, Shape
from trainer.formats.header import TensorInfo

Endings = Mapping[str, str]  # end of a tensor's name -> what it is in its module
Names = Mapping[str, Layer]  # name of a module -> the layer that a client finds under it

KOHYA: Endings = {".lora_up.weight": "up", ".lora_down.weight": "down", ".lora_mid.weight": "mid", ".alpha": "alpha"}
PEFT: Endings = {".lora_B.weight": "up", ".lora_A.weight": "down"}
OLD: Endings = {  # of diffusers, before it used PEFT
    "_lora.up.weight": "up",
    "_lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
}
DEFAULT: Endings = {".lora_B.default.weight": "up", ".lora_A.default.weight": "down"}
DORA: Endings = {".dora_scale": "dora_scale"}
LYCORIS: Endings = {
    f".{role}": role
    for role in (
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a", "lokr_w1_b",
        "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "diff", "diff_b", "w_norm", "b_norm", "a1.weight", "a2.weight",
        "b1.weight", "b2.weight",
    )
}  # fmt: skip
OFT: Endings = {".oft_blocks": "oft_blocks", ".oft_diag": "oft_diag", ".rescale": "rescale"}
IA3: Endings = {".on_input": "on_input", ".weight": "weight"}
EVERY: Endings = {**KOHYA, **PEFT, **OLD, **DEFAULT, **DORA, **LYCORIS, **OFT}
_DOTS = 3  # that an ending has at most
_UNDOTTED = ("_lora.up.weight", "_lora.down.weight")  # endings that do not begin with a dot


@dataclass(frozen=True)
class Sheet:
    """What stands in a file's header.

    Attributes:
        stem: the file's name without its suffix.
        metadata: text by name.
        tensors: by name.
        hash_is_true: whether `sshs_model_hash` is the file's; None where none is stored.
    """

    stem: str
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    hash_is_true: bool | None = None

    @property
    def modules(self) -> frozenset[str]:
        """Names of all modules, in whatever spelling."""
        return frozenset(self.stems.values())

    @cached_property
    def stems(self) -> Mapping[str, str]:
        """Name of a tensor -> of its module: every client asks for it."""
        return {name: module_of(name) for name in self.tensors}


@dataclass(frozen=True)
class Group:
    """The tensors of one module.

    Attributes:
        stem: the module's name in the file.
        layer: where a client finds it.
        tensors: by what they are.
    """

    stem: str
    layer: Layer
    tensors: Mapping[str, TensorInfo]

    @property
    def kind(self) -> str | None:
        """The method that these tensors make an update of."""
        return kind_of(self.tensors)

    @property
    def fits(self) -> bool:
        """Whether the update has as many numbers as the layer's weight."""
        size = size_of(self.tensors)
        return size is None or size == math.prod(self.layer.shape)


def module_of(name: str) -> str:
    """The name of a tensor's module, whoever wrote it."""
    return split(name, EVERY)[0]


def split(name: str, endings: Endings) -> tuple[str, str | None]:
    """Return (name of the module, what the tensor is in it); (the name up to its last dot, None) for no known end."""
    for end in _UNDOTTED:
        if name.endswith(end) and end in endings:
            return name.removesuffix(end), endings[end]
    dot, longest = len(name), None
    for _ in range(_DOTS):
        dot = name.rfind(".", 0, dot)
        if dot < 0:
            break
        longest = dot if name[dot:] in endings else longest
    if longest is None:
        return name.rpartition(".")[0] or name, None
    return name[:longest], endings[name[longest:]]


def gather(sheet: Sheet, endings: Endings, names: Names) -> tuple[list[Group], list[str]]:
    """Return the modules that a client knows, and the names of the tensors that it does not."""
    found: dict[str, dict[str, TensorInfo]] = {}
    unknown = []
    for name, info in sheet.tensors.items():
        stem, role = split(name, endings)
        if role is None or stem not in names:
            unknown.append(name)
        else:
            found.setdefault(stem, {})[role] = info
    return [Group(stem, names[stem], tensors) for stem, tensors in found.items()], unknown


def kind_of(roles: Mapping[str, TensorInfo]) -> str | None:
    """The method that makes an update of a module's tensors."""
    kind = next((kind for kind, needed in KINDS if needed <= roles.keys()), None)
    return "BOFT" if kind == "OFT" and len(roles["oft_blocks"].shape) == 4 else kind


def size_of(roles: Mapping[str, TensorInfo]) -> int | None:
    """How many numbers a module's update has, 0 where its tensors do not go together; None for what is relative."""
    size = SIZES.get(kind_of(roles) or "")
    return size(roles) if size else None


def odd_alphas(sheet: Sheet) -> Iterator[str]:
    """Names of alphas that are not one number: every client asks for one and stops."""
    return (name for name, info in sheet.tensors.items() if name.endswith(".alpha") and math.prod(info.shape) != 1)


def by_outputs(group: Group) -> bool:
    """Whether a DoRA's lengths are those of rows (one an output), as LyCORIS 3.2 and PEFT have them, not of columns."""
    shape = group.tensors["dora_scale"].shape
    return len(shape) > 1 and shape[0] != 1


def _lora(held: Mapping[str, TensorInfo]) -> int:
    up, down, mid = held["up"].shape, held["down"].shape, _shape(held, "mid")
    if min(len(up), len(down)) < 2 or (not mid and up[1] != down[0]) or math.prod(up[2:]) != 1:
        return 0
    return up[0] * math.prod(down[1:2] + mid[2:] if mid else down[1:])


def _loha(held: Mapping[str, TensorInfo]) -> int:
    sizes = {_loha_factor(held, number) for number in (1, 2)}
    return sizes.pop() if len(sizes) == 1 else 0


def _loha_factor(held: Mapping[str, TensorInfo], number: int) -> int:
    first, second, inner = (_shape(held, f"hada_{name}") for name in (f"w{number}_a", f"w{number}_b", f"t{number}"))
    return _pair(first, second, inner)


def _lokr(held: Mapping[str, TensorInfo]) -> int:
    return _factor(held, "lokr_w1") * _factor(held, "lokr_w2")


def _factor(held: Mapping[str, TensorInfo], name: str) -> int:
    if name in held:
        return math.prod(held[name].shape)
    inner = _shape(held, "lokr_t2") if name == "lokr_w2" else ()
    return _pair(held[f"{name}_a"].shape, held[f"{name}_b"].shape, inner)


def _pair(first: Shape, second: Shape, inner: Shape) -> int:
    """Numbers of the product of two matrices, or of a Tucker core between them; 0 where they do not go together."""
    if min(len(first), len(second)) < 2:
        return 0
    if inner:
        return first[1] * second[1] * math.prod(inner[2:])
    return first[0] * math.prod(second[1:]) if first[1] == second[0] else 0


def _shape(held: Mapping[str, TensorInfo], name: str) -> Shape:
    return held[name].shape if name in held else ()


KINDS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (kind, frozenset(needed.split()))
    for kind, needed in (
        ("LoRA", "up down"),
        ("LoHa", "hada_w1_a hada_w1_b hada_w2_a hada_w2_b"),
        ("LoKr", "lokr_w1 lokr_w2"),
        ("LoKr", "lokr_w1 lokr_w2_a lokr_w2_b"),
        ("LoKr", "lokr_w1_a lokr_w1_b lokr_w2"),
        ("LoKr", "lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b"),
        ("OFT", "oft_blocks"),
        ("OFT", "oft_diag"),
        ("full", "diff"),
        ("norm", "w_norm"),
        ("GLoRA", "a1.weight a2.weight b1.weight b2.weight"),
        ("IA3", "weight on_input"),
    )
)
SIZES: Mapping[str, Callable[[Mapping[str, TensorInfo]], int]] = {
    "LoRA": _lora,
    "LoHa": _loha,
    "LoKr": _lokr,
    "full": lambda held: math.prod(_shape(held, "diff")),
    "norm": lambda held: math.prod(_shape(held, "w_norm")),
}
