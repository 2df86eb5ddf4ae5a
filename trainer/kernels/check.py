"""Whether our kernels run here: Triton wants a card that it knows, a C compiler and Python's headers."""

import importlib.util
from functools import cache

import torch

from trainer.kernels.reference import REFERENCE

OLDEST = 7  # compute capability


@cache
def trouble() -> str:
    """Why our kernels cannot be used on this process's GPU; empty if they can."""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if torch.version.hip is None and torch.cuda.get_device_capability()[0] < OLDEST:
        return f"{torch.cuda.get_device_name()} is too old for Triton"
    given = torch.linspace(-2, 2, 64, device="cuda").view(4, 16)
    try:
        from trainer.kernels.rows import gated_gelu  # noqa: PLC0415 - imports Triton

        right = torch.allclose(gated_gelu(given), REFERENCE.gated_gelu(given), atol=1e-5)
    except Exception as error:  # noqa: BLE001 - a missing compiler, header or driver: each has its own kind
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return "" if right else "a trial gave a wrong answer"
