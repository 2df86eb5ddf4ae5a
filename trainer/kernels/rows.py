"""What stands between the products of a transformer block and of a residual block, in one pass over memory each.

Shapes: N rows, C or D columns.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trainer.kernels.group_norm import dense

ROWS, COLUMNS = 4, 256  # a program's tile
BLOCK = 1024  # its elements, where these have no neighbours to share with


@triton.jit
def _grid_tile(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    return r[:, None], c[None, :], (r < rows)[:, None] & (c < columns)[None, :]


@triton.jit
def _gate(x, y, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r, c, inside = _grid_tile(rows, columns, ROWS, COLUMNS)
    value = tl.load(x + r * 2 * columns + c, mask=inside, other=0).to(tl.float32)
    gate = tl.load(x + r * 2 * columns + columns + c, mask=inside, other=0).to(tl.float32)
    out = value * gate * 0.5 * (1 + tl.erf(gate * 0.7071067811865476))
    tl.store(y + r * columns + c, out.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _gate_gradient(x, grad, out, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r, c, inside = _grid_tile(rows, columns, ROWS, COLUMNS)
    value = tl.load(x + r * 2 * columns + c, mask=inside, other=0).to(tl.float32)
    gate = tl.load(x + r * 2 * columns + columns + c, mask=inside, other=0).to(tl.float32)
    slope = tl.load(grad + r * columns + c, mask=inside, other=0).to(tl.float32)
    share = 0.5 * (1 + tl.erf(gate * 0.7071067811865476))  # of a standard normal that lies below the gate
    density = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    place = out + r * 2 * columns + c
    tl.store(place, (slope * gate * share).to(out.dtype.element_ty), mask=inside)
    tl.store(place + columns, (slope * value * (share + gate * density)).to(out.dtype.element_ty), mask=inside)


class GatedGelu(torch.autograd.Function):
    """See `gated_gelu`."""

    @staticmethod
    def forward(ctx, x):  # noqa: D102
        x = x.contiguous()
        y = x.new_empty((*x.shape[:-1], x.shape[-1] // 2))
        _gate[_grid(y)](x, y, y.numel() // y.shape[-1], y.shape[-1], ROWS=ROWS, COLUMNS=COLUMNS)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        (x,) = ctx.saved_tensors
        grad, out = grad.contiguous(), torch.empty_like(x)
        rows, columns = grad.numel() // grad.shape[-1], grad.shape[-1]
        _gate_gradient[_grid(grad)](x, grad, out, rows, columns, ROWS=ROWS, COLUMNS=COLUMNS)
        return out


def gated_gelu(x: Tensor) -> Tensor:
    """[..., 2 D] -> [..., D]: the first half times the GELU of the second (Shazeer 2020, arXiv 2002.05202)."""
    return GatedGelu.apply(x)


@triton.jit
def _add_norm(x, more, weight, bias, total, y, columns, eps, BLOCK: tl.constexpr):
    row, c = tl.program_id(0).to(tl.int64) * columns, tl.arange(0, BLOCK)
    inside = c < columns
    value = tl.load(x + row + c, mask=inside, other=0).to(tl.float32)
    value += tl.load(more + row + c, mask=inside, other=0).to(tl.float32)
    value = value.to(total.dtype.element_ty).to(tl.float32)  # the backward pass sees the stored sum
    tl.store(total + row + c, value.to(total.dtype.element_ty), mask=inside)
    mean = tl.sum(value, 0) / columns
    away = tl.where(inside, value - mean, 0.0)
    inverse = 1 / tl.sqrt(tl.sum(away * away, 0) / columns + eps)
    factor = tl.load(weight + c, mask=inside, other=0).to(tl.float32)
    added = tl.load(bias + c, mask=inside, other=0).to(tl.float32)
    tl.store(y + row + c, (away * inverse * factor + added).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm_gradient(total, grad_total, grad, weight, out, columns, eps, BLOCK: tl.constexpr):
    row, c = tl.program_id(0).to(tl.int64) * columns, tl.arange(0, BLOCK)
    inside = c < columns
    value = tl.load(total + row + c, mask=inside, other=0).to(tl.float32)
    mean = tl.sum(value, 0) / columns
    away = tl.where(inside, value - mean, 0.0)
    inverse = 1 / tl.sqrt(tl.sum(away * away, 0) / columns + eps)
    away *= inverse
    slope = tl.load(grad + row + c, mask=inside, other=0).to(tl.float32)
    slope *= tl.load(weight + c, mask=inside, other=0).to(tl.float32)
    level, steep = tl.sum(slope, 0) / columns, tl.sum(slope * away, 0) / columns
    slope = tl.where(inside, (slope - level - away * steep) * inverse, 0.0)
    slope += tl.load(grad_total + row + c, mask=inside, other=0).to(tl.float32)
    tl.store(out + row + c, slope.to(out.dtype.element_ty), mask=inside)


class AddNorm(torch.autograd.Function):
    """See `add_norm`."""

    @staticmethod
    def forward(ctx, x, more, weight, bias, eps):  # noqa: D102
        x, more = x.contiguous(), more.contiguous()
        total, y = torch.empty_like(x), torch.empty_like(x)
        columns = x.shape[-1]
        block = triton.next_power_of_2(columns)
        _add_norm[(x.numel() // columns,)](x, more, weight, bias, total, y, columns, eps, BLOCK=block)
        ctx.save_for_backward(total, weight)
        ctx.eps = eps
        return total, y

    @staticmethod
    def backward(ctx, grad_total, grad):  # noqa: D102
        total, weight = ctx.saved_tensors
        grad_total, grad, out = grad_total.contiguous(), grad.contiguous(), torch.empty_like(total)
        columns = total.shape[-1]
        block = triton.next_power_of_2(columns)
        _add_norm_gradient[(total.numel() // columns,)](
            total, grad_total, grad, weight, out, columns, ctx.eps, BLOCK=block
        )
        return out, out, None, None, None


def add_norm(x: Tensor, more: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Sum of two [..., C], and its layer normalisation (arXiv 1607.06450), [..., C] each."""
    return AddNorm.apply(x, more, weight, bias, eps)


@triton.jit
def _add_bias(x, more, bias, y, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r, c, inside = _grid_tile(rows, columns, ROWS, COLUMNS)
    value = tl.load(x + r * columns + c, mask=inside, other=0).to(tl.float32)
    value += tl.load(more + r * columns + c, mask=inside, other=0).to(tl.float32)
    value += tl.load(bias + c, mask=c < columns, other=0).to(tl.float32)
    tl.store(y + r * columns + c, value.to(y.dtype.element_ty), mask=inside)


class AddBias(torch.autograd.Function):
    """See `add_bias`."""

    @staticmethod
    def forward(ctx, x, more, bias):  # noqa: D102
        x, more = dense(x), dense(more)
        y = torch.empty_like(x)
        pixels, channels = x.numel() // x.shape[1], x.shape[1]
        grid = (triton.cdiv(pixels, ROWS), triton.cdiv(channels, COLUMNS))
        _add_bias[grid](x, more, bias, y, pixels, channels, ROWS=ROWS, COLUMNS=COLUMNS)
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        grad = dense(grad)  # once, instead of in each branch
        return grad, grad, None


def add_bias(x: Tensor, more: Tensor, bias: Tensor) -> Tensor:
    """Two pictures [B, C, H, W] and a bias [C] -> their sum, channels last."""
    return AddBias.apply(x, more, bias)


@triton.jit
def _scale_rows(x, scale, count, tokens, columns, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    factor = tl.load(scale + place // (tokens * columns) * columns + place % columns, mask=inside, other=0)
    value = tl.load(x + place, mask=inside, other=0).to(tl.float32) * factor.to(tl.float32)
    tl.store(x + place, tl.where(factor == 0, 0.0, value).to(x.dtype.element_ty), mask=inside)


def scale_rows(x: Tensor, scale: Tensor) -> Tensor:
    """x [B, T, R] times scale [B, R], in place where x is dense; 0 where the scale is, whatever x holds."""
    x, scale = x.contiguous(), scale.contiguous()
    _scale_rows[(triton.cdiv(x.numel(), BLOCK),)](x, scale, x.numel(), x.shape[1], x.shape[2], BLOCK=BLOCK)
    return x


def _grid(y: Tensor) -> tuple[int, int]:
    return triton.cdiv(y.numel() // y.shape[-1], ROWS), triton.cdiv(y.shape[-1], COLUMNS)
