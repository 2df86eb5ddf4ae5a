"""What the card and a bare training step can reach, without any trainer around it: a yardstick in the same call.

    python -m benchmarks.ceiling matrix sd15:8:lean:nchw sdxl:4:peft:eager

`matrix` is the rate of the card at 8192 x 8192 products in bf16. The others are MODEL:BATCH:OP:MODE: one LoRA step
(rank 16 on attention, feed-forward and proj layers; loss, backward, fused AdamW) on the bare UNet with random weights
and inputs. OP `lean` writes the adapter as one autograd function, in MODE `nchw` or `nhwc` recorded as a CUDA graph;
OP `peft` takes PEFT's layers under autocast, MODE `eager`. One JSON line each.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig
from torch import Tensor, nn

from benchmarks.cases import MODELS, RANK, TARGETS
from benchmarks.models import SIZES

WIDTHS = {"sd15": 768, "sd21": 1024, "sdxl": 2048}  # of the text embeddings
SECONDS = 2.0  # at least, of the timed window


def matrix_rate(side: int = 8192, rounds: int = 5, products: int = 20) -> float:
    """TFLOP/s of a bf16 matrix product on random data, the median of some rounds."""
    left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    rates = []
    for _ in range(rounds + 1):  # the first round warms up
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(products):
            torch.mm(left, right, out=out)
        end.record()
        end.synchronize()
        rates.append(2 * side**3 * products / (begin.elapsed_time(end) * 1e9))
    return statistics.median(rates[1:])


class LeanProduct(torch.autograd.Function):
    """x W' + b + s (x A') B' with W and b frozen: three products forward, five backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """[..., I] -> [..., O] with a [R, I] and b [O, R]."""
        rows = x.flatten(0, -2)
        inner = rows @ a.t()
        out = F.linear(rows, weight, bias).addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(rows, inner, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return out.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of x, a and b."""
        rows, inner, weight, a, b = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_inner = (grad @ b).mul_(ctx.scale)
        grad_b = (grad.t() @ inner).mul_(ctx.scale)
        grad_a = grad_inner.t() @ rows
        grad_x = (grad @ weight).addmm_(grad_inner, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, grad_a, grad_b, None


class Lean(nn.Module):
    """A frozen linear layer or 1x1 convolution with its adapter."""

    def __init__(self, base: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.base, like = base, {"device": base.weight.device, "dtype": base.weight.dtype}
        outer, inner, *rest = base.weight.shape
        self.a = nn.Parameter(torch.randn(RANK, inner, *rest, **like) / RANK)
        self.b = nn.Parameter(torch.zeros(outer, RANK, *rest, **like))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's answer with the adapter at strength 1."""
        if isinstance(self.base, nn.Conv2d):
            return self.base(x) + F.conv2d(F.conv2d(x, self.a), self.b)
        return LeanProduct.apply(x, self.base.weight, self.base.bias, self.a, self.b, 1.0)


def wear_lean(unet: nn.Module) -> None:
    """Put a `Lean` in the place of every target."""
    found = [name for name, _ in unet.named_modules() if name.endswith(tuple(f".{target}" for target in TARGETS))]
    for name in found:
        unet.set_submodule(name, Lean(unet.get_submodule(name)))  # type: ignore[arg-type]


def wear_peft(unet: nn.Module) -> None:
    """The same targets with PEFT's layers, as the peers do."""
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS), init_lora_weights="gaussian")
    unet.add_adapter(config)  # type: ignore[operator]


OPS: dict[str, Callable[[nn.Module], None]] = {"lean": wear_lean, "peft": wear_peft}


@dataclass
class Inputs:
    """What a step sees; the same at every step."""

    noisy: Tensor
    noise: Tensor
    timesteps: Tensor
    text: Tensor
    added: dict[str, Any]


def inputs(name: str, batch: int, layout: torch.memory_format) -> Inputs:
    """Random inputs of a model, bf16 on the device."""
    side, like = MODELS[name].side // 8, {"device": "cuda", "dtype": torch.bfloat16}
    noisy, noise = (torch.randn(batch, 4, side, side, **like) for _ in range(2))
    added = {}
    if name == "sdxl":
        sizes = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]] * batch, **like)
        added = {"added_cond_kwargs": {"text_embeds": torch.randn(batch, 1280, **like), "time_ids": sizes}}
    text = torch.randn(batch, 77, WIDTHS[name], **like)
    timesteps = torch.randint(0, 1000, (batch,), device="cuda")
    return Inputs(noisy.to(memory_format=layout), noise, timesteps, text, added)


def stepper(unet: nn.Module, seen: Inputs, autocast: bool) -> Callable[[], None]:
    """A whole training step as a function."""
    learning = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    on_gpu = seen.noisy.is_cuda
    optimizer = torch.optim.AdamW(learning, lr=1e-4, fused=on_gpu, capturable=on_gpu)

    def step() -> None:
        device = seen.noisy.device.type
        with torch.autocast(device, torch.bfloat16, cache_enabled=False) if autocast else nullcontext():
            answer = unet(seen.noisy, seen.timesteps, seen.text, return_dict=False, **seen.added)[0]
            loss = F.mse_loss(answer.float(), seen.noise.float())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def recorded(step: Callable[[], None], graph: bool) -> Callable[[], None]:
    """The step after its warm-up beside the main stream, as a CUDA graph if asked for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    if not graph:
        return step
    record = torch.cuda.CUDAGraph()
    with torch.cuda.graph(record):
        step()
    return record.replay


def rate(step: Callable[[], None]) -> float:
    """Steps a second, over at least ten of them."""
    count, seconds = 3, 0.0
    while seconds < SECONDS:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        done, count = count, max(10, round(1.2 * SECONDS * count / seconds))
        if done < 10:
            seconds = 0.0  # the first few only say how many it takes
    return done / seconds


def measure(name: str, batch: int, op: str, mode: str) -> dict[str, Any]:
    """Build one step and time it."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    layout = torch.contiguous_format if mode == "nchw" else torch.channels_last
    with torch.device("cuda"):
        unet = SIZES[name].parts["unet"]()
    unet = unet.to(torch.bfloat16).requires_grad_(False).to(memory_format=layout)
    OPS[op](unet)
    unet.train()
    step = recorded(stepper(unet, inputs(name, batch, layout), autocast=op == "peft"), graph=mode != "eager")
    said = {"it/s": rate(step), "GiB": torch.cuda.max_memory_allocated() / 2**30}
    return {key: round(value, 3) for key, value in said.items()}


def main(wanted: list[str]) -> None:
    """Print one JSON line for every yardstick that was asked for; one that fails does not hide the others."""
    for text in wanted:
        try:
            if text == "matrix":
                said: dict[str, Any] = {"TFLOP/s": round(matrix_rate(), 1)}
            else:
                name, batch, op, mode = text.split(":")
                said = measure(name, int(batch), op, mode)
        except Exception as error:  # noqa: BLE001 - out of memory, mostly
            said = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        print(json.dumps({"yardstick": text, **said}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
