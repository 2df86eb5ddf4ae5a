"""Attention kernels: torch's own and xformers', and which of them is the fastest on a card."""

import ctypes
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainer.contract.errors import UserError

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # query [B, H, T, D], key and value [B, H, L, D] -> [B, H, T, D]

SDPA = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
CANDIDATES = ("torch", "cudnn", "flash", "efficient", "xformers")  # `torch` is torch's own choice
TOLERANCE = 0.02  # relative error of an answer or gradient against fp32; bf16 rounds to 0.004
GAIN = 0.95  # share of torch's time below which another kernel is worth leaving its choice
ROUNDS = 20


class Shape(NamedTuple):
    """An attention of a model: heads of `width` features, and how often a step has it."""

    pictures: int
    heads: int
    queries: int
    keys: int
    width: int
    count: int


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        chosen: name of the kernel.
        seconds: of all shapes, for every kernel that computes them rightly.
        refused: why the others do not.
    """

    chosen: str
    seconds: dict[str, float]
    refused: dict[str, str]


def attend_for(name: str) -> Attend:
    """The function behind a name of `engine.attention`.

    Raises:
        UserError: xformers is asked for and not installed.
    """
    if name != "xformers":
        return F.scaled_dot_product_attention
    if importlib.util.find_spec("xformers") is None:
        raise UserError("xformers is not installed", "engine.attention", "Install it: pip install 'lora-atelier[gpu]'.")
    _load_cuda_12()
    from xformers.ops import memory_efficient_attention  # noqa: PLC0415 - an extra

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        turned = (part.transpose(1, 2) for part in (query, key, value))
        return memory_efficient_attention(*turned).transpose(1, 2)

    return attend


def _load_cuda_12() -> None:
    """Load the runtime that xformers' kernels are linked to, 12's, where it is installed; torch may bring 13's."""
    found = importlib.util.find_spec("nvidia")
    for place in (found.submodule_search_locations or ()) if found else ():
        for path in Path(place).glob("cuda_runtime/lib/libcudart.so.12"):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


@contextmanager
def preferring(name: str) -> Iterator[None]:
    """Within this, torch's attention takes the named kernel, or the next one that can."""
    if name not in SDPA:
        yield
        return
    with sdpa_kernel(list(dict.fromkeys([SDPA[name], *SDPA.values()])), set_priority=True):
        yield


def probe(shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device) -> Probe:
    """Time every kernel on a model's shapes, forward and backward; those with wrong gradients are left out.

    Args:
        shapes: of the model, at the size that is trained.
        dtype: of the activations.
        device: a CUDA device.
    """
    candidates = CANDIDATES if importlib.util.find_spec("xformers") else CANDIDATES[:-1]
    seconds, refused = {}, {}
    for name in candidates:
        only = sdpa_kernel(SDPA[name]) if name in SDPA else nullcontext()
        try:
            with only:
                if all(is_right(attend_for(name), width, dtype, device) for width in {shape.width for shape in shapes}):
                    seconds[name] = sum(shape.count * _time(attend_for(name), shape, dtype, device) for shape in shapes)
                else:
                    refused[name] = "wrong gradients"
        except (RuntimeError, ValueError, ImportError) as error:  # what a kernel says that cannot do a shape
            refused[name] = str(error).strip().partition("\n")[0] or type(error).__name__
    torch.cuda.empty_cache()
    best = min(seconds, key=lambda name: seconds[name], default="torch")
    worth = "torch" not in seconds or seconds[best] < GAIN * seconds["torch"]
    return Probe(best if worth else "torch", seconds, refused)


def is_right(attend: Attend, width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether answer and gradients agree with fp32, for heads of that width."""
    generator = torch.Generator(device).manual_seed(0)
    draw = [torch.randn(2, 3, size, width, generator=generator, device=device) for size in (200, 77, 77, 200)]
    given = [tensor.to(dtype).requires_grad_() for tensor in draw[:3]]
    exact = [tensor.detach().float().requires_grad_() for tensor in given]
    answer, truth = attend(*given), _plain(*exact)
    slope = draw[3].to(dtype)
    found = (answer, *torch.autograd.grad(answer, given, slope))
    wanted = (truth, *torch.autograd.grad(truth, exact, slope.float()))
    return all(_error(mine, right) < TOLERANCE for mine, right in zip(found, wanted, strict=True))


def _plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


def _error(mine: Tensor, right: Tensor) -> float:
    return ((mine.float() - right).norm() / right.norm()).item()


def _time(attend: Attend, shape: Shape, dtype: torch.dtype, device: torch.device) -> float:
    """Seconds of one forward and backward pass, replayed as a graph: launched one by one, the host would be timed."""
    sizes = (shape.queries, shape.keys, shape.keys)
    given = [
        torch.randn(shape.pictures, size, shape.heads, shape.width, dtype=dtype, device=device).requires_grad_()
        for size in sizes
    ]
    slope = torch.randn(shape.pictures, shape.heads, shape.queries, shape.width, dtype=dtype, device=device)

    def once() -> None:
        torch.autograd.grad(attend(*(tensor.transpose(1, 2) for tensor in given)), given, slope)

    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        once()
    torch.cuda.synchronize(device)
    with torch.cuda.graph(graph, stream=side):
        once()
    graph.replay()
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(ROUNDS):
        graph.replay()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / ROUNDS
