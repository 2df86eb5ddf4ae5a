"""What both training loops share: a time box, an optimiser, a moving average, one step as a CUDA graph."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class TimeBox:
    """Counts seconds of training up to `total`; `pause_at` (a time.monotonic() value) ends an invocation early.

    The learning rate follows the share of time used, so a rerun on a slower machine still warms up and decays fully.
    """

    def __init__(self, total: float, used: float = 0, pause_at: float = math.inf) -> None:
        self.total, self.before, self.start, self.pause_at = total, used, time.monotonic(), pause_at

    @property
    def used(self) -> float:
        """Seconds, earlier invocations included."""
        return self.before + time.monotonic() - self.start

    @property
    def share(self) -> float:
        """Of the box used so far, 0..1."""
        return min(1.0, self.used / self.total)

    @property
    def open(self) -> bool:
        """Whether there is time for another step."""
        return self.used < self.total and time.monotonic() < self.pause_at

    def rate(self, warmup: float = 0.02) -> float:
        """Factor on the learning rate: linear warm-up, then half a cosine down to zero."""
        if self.share < warmup:
            return self.share / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (self.share - warmup) / (1 - warmup))


class Average:
    """An exponential moving average of parameters, its horizon growing: decay = min(most, (1 + n) / (10 + n))."""

    def __init__(self, parameters: Iterable[Tensor], most: float = 0.9995) -> None:
        self.live = list(parameters)
        self.values = [p.detach().clone() for p in self.live]
        self.most, self.step = most, 0
        self.weight = torch.ones((), device=self.live[0].device)  # read by a captured graph, so it must be a tensor

    def tick(self) -> None:
        """Set the weight of the next update; called outside the graph."""
        self.step += 1
        self.weight.fill_(1 - min(self.most, (1 + self.step) / (10 + self.step)))

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the live parameters; may be captured."""
        change = torch._foreach_sub(self.live, self.values)
        torch._foreach_mul_(change, self.weight)
        torch._foreach_add_(self.values, change)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged values; twice puts things back."""
        for live, value in zip(self.live, self.values, strict=True):
            kept = live.clone()
            live.copy_(value)
            value.copy_(kept)


def adamw(parameters: Iterable[Tensor], rate: float, weight_decay: float = 0.01) -> torch.optim.AdamW:
    """AdamW that a CUDA graph can hold: fused, with its learning rate in a tensor."""
    parameters = list(parameters)
    cuda = parameters[0].is_cuda
    lr = torch.tensor(rate, device=parameters[0].device) if cuda else rate
    return torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=cuda, capturable=cuda
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Change the learning rate without breaking a captured graph."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def compiled(module: nn.Module, wanted: bool) -> nn.Module:
    """The module through torch.compile, if wanted: half the step time here, for one to two minutes at the start.

    The module given stays as it is and shares its weights, so sampling at other shapes does not compile again.
    """
    return torch.compile(module) if wanted else module


def captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The step as one CUDA graph; the step itself on a CPU, or where capture fails.

    The step must read and write fixed tensors only. Random numbers come from the device's generator, which a replay
    advances.
    """
    if device.type != "cuda":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # lets cuDNN choose, and optimisers make their state
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        log.warning("no CUDA graph, training goes on eagerly: %s", error)
        return step
    return graph.replay


def ticks(box: TimeBox, every: int, report: Callable[[int], None], first: int = 0) -> Iterator[int]:
    """Step numbers while the box is open, with a report now and then.

    The report must wait for the device: replays are queued far faster than they run.
    """
    step = first
    while box.open:
        yield step
        step += 1
        if step % every == 0:
            report(step)


def half_precision(device: torch.device) -> torch.autocast:
    """bf16 autocast on a CUDA device; off on a CPU, where the loops run for a few steps in tests."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
