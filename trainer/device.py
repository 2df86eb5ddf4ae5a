"""Device, number type, threads: chosen once, written to engine.json, reused on every resume."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState

from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Engine:
    """Where and in what precision the base runs.

    Attributes:
        device: `cpu` or `cuda`.
        dtype: number type of the frozen base and of the adapter's working copy.
        threads: CPU threads; one thread against two already changes the last bit of a sum.
    """

    device: torch.device
    dtype: torch.dtype
    threads: int

    def choices(self) -> dict[str, Any]:
        """As engine.json holds them."""
        name = next(key for key, value in DTYPES.items() if value == self.dtype)
        return {"device": self.device.type, "dtype": name, "threads": self.threads, "torch": torch.__version__}

    def apply(self) -> "Engine":
        """Make the process-wide settings true."""
        torch.set_num_threads(self.threads)
        return self


def choose_engine(config: RunConfig, frozen: dict[str, Any]) -> Engine:
    """Choose device, number type and threads, or take what a first start has frozen.

    Args:
        config: the run's config.
        frozen: the content of engine.json; empty at a first start.

    Raises:
        UserError: a GPU is asked for, or was used, and there is none.
    """
    wanted = frozen.get("device") or config.model.device
    device = preferred_device() if wanted == "auto" else torch.device(wanted)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "there is no usable CUDA device",
            "model.device",
            "See `atelier doctor`, or start anew with model.device=cpu.",
        )
    dtype = frozen.get("dtype") or config.model.dtype
    threads = frozen.get("threads") or (
        os.cpu_count() if config.training.threads == "auto" else config.training.threads
    )
    return Engine(device, preferred_dtype(device) if dtype == "auto" else DTYPES[dtype], int(threads or 1))


def preferred_device() -> torch.device:
    """The GPU of this process if there is one, the CPU otherwise."""
    if torch.cuda.is_available():
        return torch.device(PartialState().device)
    return torch.device("cpu")


def preferred_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the card computes in it; fp32 otherwise, since fp16 gradients would need loss scaling."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32
