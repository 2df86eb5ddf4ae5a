"""The products of `trainer.weights.int8` in torch's own operators: on a CPU, and on a GPU without Triton.

Shapes: N rows, I and O features.
"""

import torch
from torch import Tensor

CUBLAS_ROWS, CUBLAS_MULTIPLE = 17, 8  # what torch._int_mm asks for on a GPU


def quantise(x: Tensor, columns: Tensor | None) -> tuple[Tensor, Tensor]:
    """Round rows: x [N, I], times `columns` [I] if given -> (int8 [N, I], scale [N] float32).

    A row that is not finite gets a scale that is not, so that the fault is seen in the product.
    """
    x = x.float() if columns is None else x.float() * columns
    scale = x.abs().amax(1) / 127
    steps = x / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    return steps.nan_to_num_(0, 0, 0).round_().to(torch.int8), scale


def product(
    rows: Tensor, weight: Tensor, scale: Tensor, columns: Tensor | None, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """rows [N, I] x weight [O, I] -> [N, O], times scale [N], times columns [O], plus bias [O]."""
    y = _whole_numbers(rows, weight) * scale[:, None]
    if columns is not None:
        y *= columns
    if bias is not None:
        y += bias
    return y.to(dtype)


def transpose(weight: Tensor) -> Tensor:
    """[O, I] -> [I, O], its rows contiguous."""
    return weight.t().contiguous()


def widen(q: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 [O, ...] times scale [O], in a float type, the memory format kept."""
    return (q * scale.view(-1, *[1] * (q.dim() - 1))).to(dtype)


def _whole_numbers(rows: Tensor, weight: Tensor) -> Tensor:
    if rows.is_cuda:
        fits = len(rows) >= CUBLAS_ROWS and not any(size % CUBLAS_MULTIPLE for size in weight.shape)
    else:
        fits = rows.shape[1] > 1  # with one feature, torch 2.13 answers with numbers from nowhere on a CPU
    return torch._int_mm(rows, weight.t()).float() if fits else rows.float() @ weight.t().float()
