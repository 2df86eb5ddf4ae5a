"""What a file of any kind adds to a layer's weight: the kinds that are only read, beside the methods that are trained.

Shapes: I input features, O output features, k the sides of a convolution's kernel, R rank.
"""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from trainer.contract.catalog import ADAPTERS, resolve
from trainer.formats.kinds import LENGTHS, ROWS, SHIFT, UP_BIAS, block_side, kind_of

Held = Mapping[str, Tensor]  # by role, see `trainer.formats.names`
NAMES = {"down": "lora_down.weight", "up": "lora_up.weight"}  # role -> as the methods call it
CAYLEY = "cayley"  # a role of our own: PEFT's OFT is to be turned by the exact formula
NEUMANN_TERMS = 5  # of PEFT's OFT


def alpha_of(tensors: Held) -> float:
    """A layer's alpha; without one its rank, as every client takes a scale of 1 then; 0 where it has neither."""
    if "alpha" in tensors:
        return float(tensors["alpha"])
    inner = (NAMES["down"], "down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
    return next((float(len(tensors[name])) for name in inner if name in tensors), 0.0)


def change_of(held: Held, weight: Tensor) -> Tensor:
    """What a layer's tensors add to its weight at strength 1.

    Args:
        held: float32, of shapes that fit (`trainer.formats.kinds.misfit`).
        weight: [O, I, k...].

    Returns:
        Float32, of the weight's shape.
    """
    kind, whole = kind_of(held), weight.float()
    assert kind is not None  # `misfit` has seen to it
    formula = _FORMULAS.get(_formula(kind.name, held), _trained)
    change = formula(held, whole).float().reshape(weight.shape)
    if ROWS in held:
        return _lengthened(whole, change, held[ROWS].flatten())
    return _lengthened(whole, change, held[LENGTHS]) if LENGTHS in held else change


def takes_factors(roles: Collection[str]) -> bool:
    """Whether a layer's change is two small matrices: a LoRA's, without lengths."""
    kind = kind_of(roles)
    return kind is not None and kind.name == "lora" and not {LENGTHS, ROWS} & set(roles)


def changes_weight(roles: Collection[str]) -> bool:
    """Whether its tensors change a layer's weight, and not its bias alone, or a norm."""
    kind = kind_of(roles)
    return kind is not None and not kind.norm and kind.name != "bias"


def moves(roles: Collection[str]) -> bool:
    """Whether its tensors change a layer's bias, or a norm."""
    return bool({SHIFT, UP_BIAS, "w_norm", "b_norm"} & set(roles))


def needs_base(roles: Collection[str]) -> bool:
    """Whether what its tensors add depends on the base's weights."""
    kind = kind_of(roles)
    return kind is not None and (kind.name in ("oft", "glora", "ia3") or bool({LENGTHS, ROWS} & set(roles)))


def scale_of(held: Held, rank: int) -> float:
    """Alpha over the rank; 1 without alpha, as every client takes it."""
    return float(held["alpha"]) / rank if "alpha" in held else 1.0


def lora_halves(held: Held, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Down [R, I, k...] and up [O, R, 1...] of a LoRA, in the dimensions of the weight, alpha / rank multiplied in.

    A middle of a CP decomposition (LoCon) is multiplied into `down`: the update's rank stays what it was.
    """
    down, up = held["down"].flatten(1), held["up"].flatten(1)
    scale = scale_of(held, len(down))
    if "mid" in held:
        down = torch.einsum("mn...,ni->mi...", held["mid"], down)
    ones = [1] * (weight.dim() - 2)
    return down.reshape(len(down), *weight.shape[1:]), (up * scale).reshape(len(up), -1, *ones)


def _formula(name: str, held: Held) -> str:
    """The row of the table: kinds of several forms have a row for each."""
    form = next((role for role in ("oft_diag", "oft_R") if role in held), "")
    return form or ("boft" if name == "oft" and held["oft_blocks"].dim() == 4 else name)


def _trained(held: Held, weight: Tensor) -> Tensor:
    """A method of the catalogue, by its own formula."""
    kind = kind_of(held)
    assert kind is not None
    row = ADAPTERS[kind.name]
    tensors = {NAMES.get(role, role): tensor for role, tensor in held.items() if role not in ("alpha", LENGTHS, ROWS)}
    if "rescale" in tensors:
        tensors["rescale"] = tensors["rescale"].reshape(-1, *[1] * (weight.dim() - 1))
    return resolve(row, row.formula).update(weight, tensors, _bound(held) if kind.name == "oft" else alpha_of(held))


def _bound(held: Held) -> float:
    """An OFT's alpha bounds its angles; a file without one has no bound, as A1111 and ComfyUI take it."""
    return float(held["alpha"]) if "alpha" in held else float("inf")


def _lora(held: Held, weight: Tensor) -> Tensor:
    down, up = lora_halves(held, weight)
    return up.flatten(1) @ down.flatten(1)


def _lengthened(weight: Tensor, change: Tensor, lengths: Tensor) -> Tensor:
    """DoRA beside any kind: rows (an output each: LyCORIS 3.2, PEFT) or columns (an input each) get these lengths."""
    from trainer.adapters.lycoris import BACKEND, weight_decompose  # noqa: PLC0415 - only for files that need it

    ones = [1] * (weight.dim() - 2)
    by_rows = lengths.numel() == len(weight) and (lengths.dim() == 1 or len(lengths) > 1)
    scales = lengths.reshape(-1, 1, *ones) if by_rows else lengths.reshape(1, -1, *ones)
    return weight_decompose(weight + change, scales, wd_on_out=by_rows, backend=BACKEND) - weight


def _boft(held: Held, weight: Tensor) -> Tensor:
    """Butterfly OFT (arXiv 2311.06243): stages that each turn other pairs of blocks."""
    from lycoris.functional import boft  # noqa: PLC0415 - only for files that need it

    from trainer.adapters.lycoris import BACKEND  # noqa: PLC0415

    bound, rescale = _bound(held) * len(weight), held.get("rescale")
    scales = None if rescale is None else rescale.reshape(-1, *[1] * (weight.dim() - 1))
    return boft.diff_weight(
        weight, held["oft_blocks"], scales, constraint=bound if bound < float("inf") else None, backend=BACKEND
    )


def _turned(held: Held, weight: Tensor) -> Tensor:
    """Early LyCORIS: the rotations themselves, [blocks, n, n] over the outputs."""
    blocks = held["oft_diag"]
    turned = torch.einsum("knm,kn...->km...", blocks, weight.unflatten(0, (len(blocks), -1))).flatten(0, 1)
    return turned - weight


def _turned_inputs(held: Held, weight: Tensor) -> Tensor:
    """PEFT's OFT: inputs are turned by W R^T, R from the upper halves of skew-symmetric blocks.

    By default R is the beginning of the series of (I + Q) (I - Q)^-1, by the other choice (I - Q) (I + Q)^-1.
    """
    packed = held["oft_R"]
    side = block_side(packed.shape[1])
    skew = packed.new_zeros(len(packed), side, side)
    rows, columns = torch.triu_indices(side, side, 1)
    skew[:, rows, columns] = packed
    skew = skew - skew.mT
    turn = _cayley(skew) if CAYLEY in held else _series(skew)
    flat = weight.flatten(1).unflatten(1, (len(packed), side))
    return torch.einsum("okn,kmn->okm", flat, turn).flatten(1) - weight.flatten(1)


def _cayley(skew: Tensor) -> Tensor:
    one = torch.eye(skew.shape[-1], device=skew.device)
    return torch.linalg.solve(one + skew, one - skew, left=False)


def _series(skew: Tensor) -> Tensor:
    turn, power = torch.eye(skew.shape[-1], device=skew.device) + 2 * skew, skew
    for term in range(2, NEUMANN_TERMS):
        power = power @ skew
        turn = turn + power * (1 if term == NEUMANN_TERMS - 1 else 2)
    return turn


def _glora(held: Held, weight: Tensor) -> Tensor:
    """GLoRA (arXiv 2306.07967), W' = W + W A + B, in LyCORIS' order of the halves, or in that of its first files."""
    a1, a2, b1, b2 = (held[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if not (b1.shape[0] == weight.shape[0] and a1.shape[0] == weight.shape[1]):
        a1, a2, b1, b2 = a2, a1, b2, b1
    inner = torch.einsum("oi...,ij->oj...", weight, a1 @ a2)
    return (inner + (b1 @ b2).reshape(weight.shape)) * scale_of(held, b1.shape[1])


def _ia3(held: Held, weight: Tensor) -> Tensor:
    """IA3 (arXiv 2205.05638) as LyCORIS has it: how much more of an input or output there is."""
    more = held["weight"].flatten()
    on_input = bool(held["on_input"])
    ones = [1] * (weight.dim() - 2)
    return weight * (more.view(1, -1, *ones) if on_input else more.view(-1, 1, *ones))


_FORMULAS: Mapping[str, Callable[[Held, Tensor], Tensor]] = {
    "lora": _lora,
    "full": lambda held, _: held["diff"],
    "glora": _glora,
    "ia3": _ia3,
    "boft": _boft,
    "oft_diag": _turned,
    "oft_R": _turned_inputs,
}
