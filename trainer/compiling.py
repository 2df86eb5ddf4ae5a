"""torch's compiler over the blocks of a UNet, each by itself, where our kernels are not used.

Off unless asked for: it takes a minute or more before the first step. Whether it stays is settled before the run: with
other gradients, with an error, or no faster, the run goes on without it. Through our kernels, which have fused the same
already, and through diffusers' blocks too, it gave other gradients on an H200 (torch 2.11, cosine 0.73 to 0.90).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.device import ran_out
from trainer.preflight import seconds_per_step
from trainer.protocols import Run

LIKENESS = 0.9999  # least cosine between the gradients
GAIN = 0.98  # most of a step's time that a compiled one may take
VARIANTS = 512  # of one function: each block is one, its weights being its own
BACKEND = "inductor"


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    Attributes:
        seconds: of a step from now on.
        objection: why it was given up; empty where it stays.
    """

    seconds: float
    objection: str


def settle(
    run: Run, gradient: Tensor, regions: Sequence[nn.Module], step: int, seconds: float, forget: Callable[[], None]
) -> Verdict:
    """Compile regions of a model, compare the next step with what it was, and go back where that does not pay.

    Args:
        run: about to take the step after `step`; nothing of it is changed.
        gradient: into which its micro-steps are added.
        regions: none inside another.
        step: steps that are done. A run that began with compiled regions keeps them, however fast they are.
        seconds: of a step without.
        forget: drops what was recorded of the step.

    Raises:
        RuntimeError: the device ran out of memory.
    """
    wanted = _gradient(run, gradient, step)
    try:
        _compile(regions)
        forget()
        likeness = F.cosine_similarity(_gradient(run, gradient, step), wanted, dim=0).item()
        took = seconds_per_step(run, step, gradient.device)
        objection = _objection(likeness, took, seconds if step == 0 else float("inf"))
    except RuntimeError as error:
        if ran_out(error):
            raise
        took, objection = seconds, str(error).strip().partition("\n")[0] or type(error).__name__
    if objection:
        took = seconds
        for region in regions:
            region._compiled_call_impl = None  # what `nn.Module.compile` sets; there is no public way back
        forget()
    return Verdict(took, objection)


def _compile(regions: Sequence[nn.Module]) -> None:
    import torch._dynamo.config as options  # noqa: PLC0415 - the compiler takes seconds to import

    options.suppress_errors = True  # what it cannot do runs as it is
    options.recompile_limit = options.accumulated_recompile_limit = VARIANTS
    for region in regions:
        region.compile(backend=BACKEND, dynamic=False)


def _objection(likeness: float, took: float, before: float) -> str:
    if not likeness >= LIKENESS:  # also where it is no number
        return f"its gradients differ (cosine {likeness:.4f})"
    if took > GAIN * before:
        return f"a step takes {took * 1000:.1f} ms with it and {before * 1000:.1f} ms without"
    return ""


def _gradient(run: Run, gradient: Tensor, step: int) -> Tensor:
    """That of the first micro-step after `step`, in fp32; afterwards it is zero again."""
    run.zero()
    run.learn(step * run.accumulation)
    found = gradient.float()
    found = found.clone() if found is gradient else found
    run.zero()
    return found
