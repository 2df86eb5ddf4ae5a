"""The products of `trainer.weights.int8` as Triton kernels. Imported on a GPU only.

Tile sizes come from a short table, never from trying them out: a start stays fast, and a step can be recorded as a CUDA
graph. Shapes: N rows, I and O features.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDEN_BLOCK = 4096
SIDE = 128  # of the tiles in which a weight is transposed
GROUP = 8  # tiles of rows that are done together, so that their weights are read from the cache
DEPTH = 128  # features that are summed in one go
# (rows, features, warps, stages) of a tile of the answer, the largest first; all fit the 99 KiB of shared memory that
# consumer cards have.
TILES = ((128, 128, 8, 3), (128, 64, 4, 3), (64, 64, 4, 4), (32, 64, 4, 4), (16, 64, 4, 4))


@triton.jit
def _quantise(x, columns, q, scale, width, stride, HAS_COLUMNS: tl.constexpr, BLOCK: tl.constexpr):  # noqa: PLR0913
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    values = tl.load(x + row * stride + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_COLUMNS:
        values *= tl.load(columns + at, mask=inside, other=0.0)
    largest = tl.max(tl.abs(values), 0)
    # 0 where all is finite, NaN otherwise: whoever reads the product shall see that something is wrong.
    fault = tl.sum(values - values, 0)
    steps = tl.floor(values * tl.where(largest > 0, 127.0 / largest, 0.0) + 0.5)
    tl.store(q + row * width + at, tl.minimum(tl.maximum(steps, -127.0), 127.0).to(tl.int8), mask=inside)
    tl.store(scale + row, largest / 127.0 + fault)


@triton.jit
def _product(  # noqa: PLR0913
    rows, weight, scale, columns, bias, out, N, O, I,  # noqa: E741
    HAS_COLUMNS: tl.constexpr, HAS_BIAS: tl.constexpr, EVEN: tl.constexpr,
    ROWS: tl.constexpr, FEATURES: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    tall, wide = tl.cdiv(N, ROWS), tl.cdiv(O, FEATURES)
    first = pid // (GROUP * wide) * GROUP
    height = tl.minimum(tall - first, GROUP)
    n = (first + pid % (GROUP * wide) % height) * ROWS + tl.arange(0, ROWS)
    o = pid % (GROUP * wide) // height * FEATURES + tl.arange(0, FEATURES)
    i = tl.arange(0, DEPTH)
    # What lies outside is read again from the start instead of masked, and never stored.
    left = rows + (n % N).to(tl.int64)[:, None] * I + i[None, :]
    right = weight + (o % O).to(tl.int64)[None, :] * I + i[:, None]
    total = tl.zeros((ROWS, FEATURES), tl.int32)
    for done in range(0, I, DEPTH):
        if EVEN:
            a, b = tl.load(left), tl.load(right)
        else:
            a = tl.load(left, mask=(i < I - done)[None, :], other=0)
            b = tl.load(right, mask=(i < I - done)[:, None], other=0)
        total = tl.dot(a, b, total, out_dtype=tl.int32)
        left += DEPTH
        right += DEPTH
    y = total.to(tl.float32) * tl.load(scale + n, mask=n < N, other=0.0)[:, None]
    if HAS_COLUMNS:
        y *= tl.load(columns + o, mask=o < O, other=0.0)[None, :]
    if HAS_BIAS:
        y += tl.load(bias + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
    inside = (n < N)[:, None] & (o < O)[None, :]
    tl.store(out + n.to(tl.int64)[:, None] * O + o[None, :], y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _transpose(weight, out, O, I, SIDE: tl.constexpr):  # noqa: E741
    o = tl.program_id(0) * SIDE + tl.arange(0, SIDE)
    i = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    tile = tl.load(weight + o[:, None] * I + i[None, :], mask=(o < O)[:, None] & (i < I)[None, :], other=0)
    tl.store(out + i[:, None] * O + o[None, :], tl.trans(tile), mask=(i < I)[:, None] & (o < O)[None, :])


@triton.jit
def _widen(q, scale, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(q + row * width + at, mask=at < width, other=0).to(tl.float32) * tl.load(scale + row)
    tl.store(out + row * width + at, values.to(out.dtype.element_ty), mask=at < width)


def quantise(x: Tensor, columns: Tensor | None) -> tuple[Tensor, Tensor]:
    """See `trainer.weights.int8_torch.quantise`."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    count, width = x.shape
    q = torch.empty(count, width, dtype=torch.int8, device=x.device)
    scale = torch.empty(count, device=x.device)
    block = triton.next_power_of_2(width)
    _quantise[(count,)](
        x, columns, q, scale, width, x.stride(0), columns is not None, block, num_warps=_warps(block)
    )  # fmt: skip
    return q, scale


def product(
    rows: Tensor, weight: Tensor, scale: Tensor, columns: Tensor | None, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """See `trainer.weights.int8_torch.product`; both matrices contiguous."""
    (count, depth), wide = rows.shape, len(weight)
    out = torch.empty(count, wide, dtype=dtype, device=rows.device)
    tall, broad, warps, stages = tile(count, wide, _processors(rows.device))
    grid = (triton.cdiv(count, tall) * triton.cdiv(wide, broad),)
    _product[grid](
        rows, weight, scale, columns, bias, out, count, wide, depth,
        columns is not None, bias is not None, depth % DEPTH == 0,
        tall, broad, DEPTH, GROUP, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out


def transpose(weight: Tensor) -> Tensor:
    """See `trainer.weights.int8_torch.transpose`.

    The tensor cores read int8 matrices along the summed dimension only; to turn the weight over for a moment costs
    less than a product that gathers single bytes.
    """
    high, wide = weight.shape
    out = torch.empty(wide, high, dtype=weight.dtype, device=weight.device)
    _transpose[(triton.cdiv(high, SIDE), triton.cdiv(wide, SIDE))](weight, out, high, wide, SIDE, num_warps=8)
    return out


def widen(q: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """See `trainer.weights.int8_torch.widen`."""
    out = torch.empty_like(q, dtype=dtype)  # a row of either memory format lies in one piece
    width = q[0].numel()
    _widen[(len(q), triton.cdiv(width, WIDEN_BLOCK))](q, scale, out, width, WIDEN_BLOCK, num_warps=4)
    return out


def tile(count: int, wide: int, processors: int) -> tuple[int, int, int, int]:
    """The largest tile of the table that still gives every processor of the card something to do."""
    fitting = [row for row in TILES if row[0] < 2 * count] or TILES[-1:]
    tiles = ((-(-count // row[0])) * (-(-wide // row[1])) for row in fitting)
    return next((row for row, number in zip(fitting, tiles, strict=True) if number >= processors), fitting[-1])


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _warps(block: int) -> int:
    return min(max(block // 512, 1), 8)
