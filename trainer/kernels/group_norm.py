"""Group normalisation (Wu & He 2018, arXiv 1803.08494) of channels-last pictures, with what stands around it in a UNet.

y = act(norm(x + shift) * weight + bias). ATen has no kernel for this layout: it copies the picture twice. Here it is
read twice and written once, forward and backward. Every sum is taken in one order: the same bits each time.

Shapes: B pictures, P pixels, C channels, G groups, K chunks of pixels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS, CHANNELS = 32, 64  # a program's tile
CHUNKS = 64  # most partial sums of a channel; the kernel that puts them together reads all at once
WIDEST = 128  # most channels of a group, likewise
PROGRAMS = 528  # wanted at least: four for each multiprocessor of the largest card


@triton.jit
def _tile(channels, first, count, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """Offsets and mask of [PIXELS, CHANNELS] elements of a picture."""
    p = first + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (p < count)[:, None] & (c < channels)[None, :]
    return p[:, None] * channels + c[None, :], inside, c


@triton.jit
def _slope(z, grad, SILU: tl.constexpr):
    """The gradient before the activation."""
    if SILU:
        gate = tl.sigmoid(z)
        grad = grad * gate * (1 + z * (1 - gate))
    return grad


@triton.jit
def _measure(x, means, squares, pixels, channels, chunk, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """x [B, P, C] -> mean and sum of squared distances to it, [B, K, C] each."""
    picture = tl.program_id(2).to(tl.int64)
    x += picture * pixels * channels
    start = tl.program_id(0) * chunk
    end = tl.minimum(start + chunk, pixels)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    # Distances to the first pixel: a mean far from zero would cost the variance its digits.
    origin = tl.load(x + start * channels + c, mask=c < channels, other=0).to(tl.float32)
    total = tl.zeros([PIXELS, CHANNELS], tl.float32)
    square = tl.zeros([PIXELS, CHANNELS], tl.float32)
    for first in range(start, end, PIXELS):
        offsets, inside, _ = _tile(channels, first, end, PIXELS, CHANNELS)
        value = tl.load(x + offsets, mask=inside, other=0).to(tl.float32)
        value = tl.where(inside, value - origin[None, :], 0.0)
        total += value
        square += value * value
    mean = tl.sum(total, 0) / (end - start)
    place = (picture * tl.num_programs(0) + tl.program_id(0)) * channels + c
    tl.store(means + place, origin + mean, mask=c < channels)
    tl.store(squares + place, tl.sum(square, 0) - mean * mean * (end - start), mask=c < channels)


@triton.jit
def _factors(
    means, squares, weight, bias, shift, conv_bias, scale, offset, centre, deviation,
    pixels, channels, wide, chunk, chunks, eps,
    SHIFTED: tl.constexpr, CHUNKS: tl.constexpr, WIDEST: tl.constexpr,
):  # fmt: skip
    """Partial sums -> the normalisation as x * scale + offset, [B, C]; centre [B, C], deviation [B, G]."""
    group, picture = tl.program_id(0), tl.program_id(1).to(tl.int64)
    k, c = tl.arange(0, CHUNKS), group * wide + tl.arange(0, WIDEST)
    real = tl.arange(0, WIDEST) < wide
    inside = (k < chunks)[:, None] & real[None, :]
    place = (picture * chunks + k[:, None]) * channels + c[None, :]
    count = tl.minimum(pixels - k * chunk, chunk).to(tl.float32)[:, None]
    moved = tl.zeros([WIDEST], tl.float32)
    if SHIFTED:
        moved = tl.load(shift + picture * channels + c, mask=real, other=0).to(tl.float32)
        moved += tl.load(conv_bias + c, mask=real, other=0).to(tl.float32)
    mean = tl.load(means + place, mask=inside, other=0) + moved[None, :]
    square = tl.load(squares + place, mask=inside, other=0)
    size = pixels * wide
    middle = tl.sum(tl.sum(tl.where(inside, mean * count, 0.0), 0), 0) / size
    away = mean - middle
    variance = tl.sum(tl.sum(tl.where(inside, square + away * away * count, 0.0), 0), 0) / size
    inverse = 1 / tl.sqrt(variance + eps)
    factor = inverse * tl.load(weight + c, mask=real, other=0).to(tl.float32)
    added = tl.load(bias + c, mask=real, other=0).to(tl.float32)
    place = picture * channels + c
    tl.store(scale + place, factor, mask=real)
    tl.store(offset + place, added + (moved - middle) * factor, mask=real)
    tl.store(centre + place, middle - moved, mask=real)
    tl.store(deviation + picture * tl.num_programs(0) + group, inverse)


@triton.jit
def _apply(x, scale, offset, y, pixels, channels, SILU: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """y = act(x * scale + offset)."""
    picture = tl.program_id(2).to(tl.int64)
    offsets, inside, c = _tile(channels, tl.program_id(0) * PIXELS, pixels, PIXELS, CHANNELS)
    offsets += picture * pixels * channels
    factor = tl.load(scale + picture * channels + c, mask=c < channels, other=0)
    added = tl.load(offset + picture * channels + c, mask=c < channels, other=0)
    z = tl.load(x + offsets, mask=inside, other=0).to(tl.float32) * factor[None, :] + added[None, :]
    if SILU:
        z *= tl.sigmoid(z)
    tl.store(y + offsets, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _measure_gradient(
    x, grad, scale, offset, centre, sums, products, pixels, channels, chunk,
    SILU: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sums over pixels of the gradient before the activation, alone and times (x - centre), [B, K, C] each."""
    picture = tl.program_id(2).to(tl.int64)
    x += picture * pixels * channels
    grad += picture * pixels * channels
    start = tl.program_id(0) * chunk
    end = tl.minimum(start + chunk, pixels)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    factor = tl.load(scale + picture * channels + c, mask=c < channels, other=0)
    added = tl.load(offset + picture * channels + c, mask=c < channels, other=0)
    middle = tl.load(centre + picture * channels + c, mask=c < channels, other=0)
    total = tl.zeros([PIXELS, CHANNELS], tl.float32)
    product = tl.zeros([PIXELS, CHANNELS], tl.float32)
    for first in range(start, end, PIXELS):
        offsets, inside, _ = _tile(channels, first, end, PIXELS, CHANNELS)
        value = tl.load(x + offsets, mask=inside, other=0).to(tl.float32)
        slope = tl.load(grad + offsets, mask=inside, other=0).to(tl.float32)
        slope = _slope(value * factor[None, :] + added[None, :], slope, SILU)
        total += slope
        product += slope * (value - middle[None, :])
    place = (picture * tl.num_programs(0) + tl.program_id(0)) * channels + c
    tl.store(sums + place, tl.sum(total, 0), mask=c < channels)
    tl.store(products + place, tl.sum(product, 0), mask=c < channels)


@triton.jit
def _gradient_factors(
    sums, products, weight, centre, deviation, steep, level, pixels, channels, wide, chunks,
    CHUNKS: tl.constexpr, WIDEST: tl.constexpr,
):  # fmt: skip
    """Partial sums -> what the means take from the gradient, as x * steep + level, [B, C] each."""
    group, picture = tl.program_id(0), tl.program_id(1).to(tl.int64)
    k, c = tl.arange(0, CHUNKS), group * wide + tl.arange(0, WIDEST)
    real = tl.arange(0, WIDEST) < wide
    inside = (k < chunks)[:, None] & real[None, :]
    place = (picture * chunks + k[:, None]) * channels + c[None, :]
    factor = tl.load(weight + c, mask=real, other=0).to(tl.float32)
    inverse = tl.load(deviation + picture * tl.num_programs(0) + group)
    size = pixels * wide
    total = tl.sum(tl.sum(tl.load(sums + place, mask=inside, other=0), 0) * factor, 0) / size
    product = tl.sum(tl.sum(tl.load(products + place, mask=inside, other=0), 0) * factor, 0) / size
    rise = -inverse * inverse * inverse * product
    place = picture * channels + c
    middle = tl.load(centre + place, mask=real, other=0)
    tl.store(steep + place, tl.zeros([WIDEST], tl.float32) + rise, mask=real)
    tl.store(level + place, -inverse * total - rise * middle, mask=real)


@triton.jit
def _apply_gradient(
    x, grad, scale, offset, steep, level, out, pixels, channels,
    SILU: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradient of x."""
    picture = tl.program_id(2).to(tl.int64)
    offsets, inside, c = _tile(channels, tl.program_id(0) * PIXELS, pixels, PIXELS, CHANNELS)
    offsets += picture * pixels * channels
    place, known = picture * channels + c, c < channels
    factor = tl.load(scale + place, mask=known, other=0)[None, :]
    added = tl.load(offset + place, mask=known, other=0)[None, :]
    value = tl.load(x + offsets, mask=inside, other=0).to(tl.float32)
    slope = _slope(value * factor + added, tl.load(grad + offsets, mask=inside, other=0).to(tl.float32), SILU)
    rise = tl.load(steep + place, mask=known, other=0)[None, :]
    base = tl.load(level + place, mask=known, other=0)[None, :]
    tl.store(out + offsets, (slope * factor + value * rise + base).to(out.dtype.element_ty), mask=inside)


class GroupNorm(torch.autograd.Function):
    """See `group_norm`."""

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps, silu, shift, conv_bias):  # noqa: D102
        x = dense(x)
        (pictures, channels), pixels = x.shape[:2], x.shape[2] * x.shape[3]
        chunk, chunks = _chunks(pictures, channels, pixels)
        tiles = triton.cdiv(channels, CHANNELS)
        partial = x.new_empty((2, pictures, chunks, channels), dtype=torch.float32)
        tile = {"PIXELS": PIXELS, "CHANNELS": CHANNELS}
        _measure[chunks, tiles, pictures](x, partial[0], partial[1], pixels, channels, chunk, **tile)
        scale, offset, centre = x.new_empty((3, pictures, channels), dtype=torch.float32)
        deviation = x.new_empty((pictures, groups), dtype=torch.float32)
        _factors[groups, pictures](
            partial[0], partial[1], weight, bias, shift, conv_bias, scale, offset, centre, deviation,
            pixels, channels, channels // groups, chunk, chunks, eps,
            SHIFTED=shift is not None, CHUNKS=CHUNKS, WIDEST=WIDEST, num_warps=8,
        )  # fmt: skip
        y = torch.empty_like(x)
        _apply[triton.cdiv(pixels, PIXELS), tiles, pictures](x, scale, offset, y, pixels, channels, SILU=silu, **tile)
        ctx.save_for_backward(x, weight, scale, offset, centre, deviation)
        ctx.silu = silu
        return y

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        x, weight, scale, offset, centre, deviation = ctx.saved_tensors
        grad = dense(grad)
        (pictures, channels), pixels = x.shape[:2], x.shape[2] * x.shape[3]
        groups = deviation.shape[1]
        chunk, chunks = _chunks(pictures, channels, pixels)
        tiles = triton.cdiv(channels, CHANNELS)
        partial = x.new_empty((2, pictures, chunks, channels), dtype=torch.float32)
        tile = {"SILU": ctx.silu, "PIXELS": PIXELS, "CHANNELS": CHANNELS}
        _measure_gradient[chunks, tiles, pictures](
            x, grad, scale, offset, centre, partial[0], partial[1], pixels, channels, chunk, **tile
        )
        steep, level = x.new_empty((2, pictures, channels), dtype=torch.float32)
        _gradient_factors[groups, pictures](
            partial[0], partial[1], weight, centre, deviation, steep, level,
            pixels, channels, channels // groups, chunks, CHUNKS=CHUNKS, WIDEST=WIDEST, num_warps=8,
        )  # fmt: skip
        out = torch.empty_like(x)
        _apply_gradient[triton.cdiv(pixels, PIXELS), tiles, pictures](
            x, grad, scale, offset, steep, level, out, pixels, channels, **tile
        )
        return out, None, None, None, None, None, None, None


def group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    silu: bool = False,
    shift: Tensor | None = None,
    conv_bias: Tensor | None = None,
) -> Tensor:
    """Normalise pictures by groups of channels; gradient for x only.

    Args:
        x: [B, C, H, W]; copied where it is not dense in channels-last order.
        weight, bias: [C].
        groups: that C is divided into, of at most 128 channels.
        eps: added to the variance.
        silu: whether the SiLU follows.
        shift: [B, C], added to x before anything else, constant; given together with `conv_bias`.
        conv_bias: [C], likewise.

    Returns:
        [B, C, H, W], channels last, in the type of x; sums are taken in fp32.

    Raises:
        ValueError: groups are too wide, or a gradient of the shift is wanted: both would come out wrong.
    """
    if x.shape[1] // groups > WIDEST or (shift is not None and shift.requires_grad):
        raise ValueError(f"no kernel for {x.shape[1]} channels in {groups} groups, or for the shift's gradient")
    return GroupNorm.apply(x, weight, bias, groups, eps, silu, shift, conv_bias)


def dense(x: Tensor) -> Tensor:
    """The same picture in channels-last order without gaps."""
    return x.contiguous(memory_format=torch.channels_last)


def _chunks(pictures: int, channels: int, pixels: int) -> tuple[int, int]:
    """Pixels of a chunk, and how many chunks: enough programs to fill the card, as few sums as that allows."""
    wanted = -(-PROGRAMS // (pictures * -(-channels // CHANNELS)))
    chunks = min(CHUNKS, wanted, -(-pixels // PIXELS))
    chunk = -(-pixels // (chunks * PIXELS)) * PIXELS
    return chunk, -(-pixels // chunk)
