"""Device, number type, threads: chosen once, written to engine.json, reused on every resume."""

import ctypes
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from accelerate import PartialState
from torch.backends import cudnn

from trainer.attention import Probe, Shape, attend_for, preferring, probe
from trainer.contract.config import EngineSection, RunConfig
from trainer.contract.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Of glibc's mallopt (malloc.h): M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD and the bytes they are set to.
MALLOC = {-1: 2**31 - 1, -2: 128 * 2**20, -3: 32 * 2**20}

FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
# Without our kernels: below this many latent pixels in a batch the launches bind and cuDNN's own layout wins; above it
# ATen's GroupNorm, which has no fast path for that layout, costs more than it saves (H200, SD 1.5 and SDXL).
NHWC_PIXELS = 8192


@dataclass(frozen=True)
class Engine:
    """Where and how the base runs.

    Attributes:
        device: `cpu` or `cuda`.
        dtype: number type of the frozen base and of the adapter's working copy.
        threads: CPU threads; one thread against two already changes the last bit of a sum.
        layout: of the UNet's convolutions, `nchw` or `nhwc`.
        graph: whether forward and backward are replayed as a CUDA graph.
        attention: attention kernel, see `trainer.attention`; `torch` for torch's own choice, `auto` while it is open.
        kernels: who computes what stands between the UNet's products: `triton` (ours) or `torch`.
        compile: whether torch's compiler fuses the UNet's blocks, see `trainer.compiling`.
        autotune: whether cuDNN tries its convolutions out at the first step.
        rung: how the UNet is held and computed, see `trainer.contract.ladder`; `auto` until `trainer.memory` chose.
        memory: most GPU memory to take, in GiB; 0 for no limit.
        deterministic: whether every kernel must give the same bits each time.
    """

    device: torch.device
    dtype: torch.dtype
    threads: int
    layout: str = "nchw"
    graph: bool = False
    attention: str = "auto"
    kernels: str = "torch"
    compile: bool = False
    autotune: bool = False
    rung: str = "none"
    memory: float = 0.0
    deterministic: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout as torch calls it."""
        return FORMATS[self.layout]

    def choices(self) -> dict[str, Any]:
        """As engine.json holds them."""
        name = next(key for key, value in DTYPES.items() if value == self.dtype)
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**said, "device": self.device.type, "dtype": name, "torch": torch.__version__}

    def apply(self) -> "Engine":
        """Make the process-wide settings true."""
        torch.set_num_threads(self.threads)
        if self.device.type == "cpu":
            keep_pages()
        if self.device.type == "cuda":
            total = torch.cuda.get_device_properties(self.device).total_memory
            share = min(1.0, self.memory * 2**30 / total) if self.memory else 1.0
            torch.cuda.set_per_process_memory_fraction(share, self.device.index or 0)
            torch.use_deterministic_algorithms(self.deterministic)
            if self.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
        return self

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this, attention takes the chosen kernel, or the next that can, and convolutions the fastest found.

        The search is not for the VAE: at its sizes it would take a hundred GiB of workspace.
        """
        with ExitStack() as stack:
            stack.enter_context(preferring(self.attention))
            if self.device.type == "cuda":
                search = self.autotune and not self.deterministic
                stack.enter_context(cudnn.flags(enabled=True, benchmark=search, deterministic=self.deterministic))
            yield


def choose_engine(config: RunConfig, frozen: dict[str, Any]) -> Engine:
    """Make every choice that the config leaves open, or take what a first start has frozen.

    Args:
        config: the run's config.
        frozen: the content of engine.json; empty at a first start.

    Raises:
        UserError: a GPU is asked for, or was used, and there is none; or something that only a GPU or an extra has.
    """
    wanted = frozen.get("device") or config.model.device
    device = preferred_device() if wanted == "auto" else torch.device(wanted)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "there is no usable CUDA device",
            "model.device",
            "See `atelier doctor`, or start anew with model.device=cpu.",
        )
    _check(config.engine, device)
    dtype = frozen.get("dtype") or config.model.dtype
    threads = frozen.get("threads") or (
        os.cpu_count() if config.training.threads == "auto" else config.training.threads
    )
    options = config.engine
    return Engine(
        device,
        preferred_dtype(device) if dtype == "auto" else DTYPES[dtype],
        int(threads or 1),
        layout=frozen.get("layout") or options.layout,
        graph=frozen.get("graph", device.type == "cuda" and options.graph != "off"),
        attention=options.attention if not frozen else frozen.get("attention", "auto").replace("auto", "torch"),
        kernels=frozen.get("kernels") or _kernels(options.kernels, device, bool(frozen)),
        compile=frozen.get("compile", options.compile),
        autotune=frozen.get("autotune", options.autotune),
        rung=frozen.get("rung") or "auto",
        memory=0.0 if options.memory == "auto" else options.memory,
        deterministic=frozen.get("deterministic", options.deterministic),
    )


def _kernels(wanted: str, device: torch.device, begun: bool) -> str:
    """Our kernels on a GPU, unless the run was begun without them."""
    if wanted != "auto":
        return wanted
    return "triton" if device.type == "cuda" and not begun else "torch"


def _check(options: EngineSection, device: torch.device) -> None:
    """Refuse what is asked for by name and cannot be had."""
    if options.attention == "xformers":
        attend_for(options.attention)
    only = {"graph": options.graph == "on", "kernels": options.kernels == "triton"}
    for name in [name for name, asked in only.items() if asked and device.type != "cuda"]:
        problem = f"{getattr(options, name)} is for CUDA devices, and this run is on the {device.type}"
        raise UserError(problem, f"engine.{name}", "Leave it at auto.")


def choose_layout(engine: Engine, latent_pixels: int) -> Engine:
    """Choose the layout that was left open, for a batch of that many latent pixels."""
    if engine.layout != "auto":
        return engine
    pays = engine.kernels == "triton" or (engine.device.type == "cuda" and latent_pixels <= NHWC_PIXELS)
    return replace(engine, layout="nhwc" if pays else "nchw")


def choose_attention(engine: Engine, shapes: Sequence[Shape]) -> tuple[Engine, Probe | None]:
    """Choose the attention kernel that was left open, by a short probe.

    Args:
        engine: with `attention` at `auto` where it is open.
        shapes: the model's attentions at the size that is trained.

    Returns:
        The engine, and what the probe found; None where nothing was open.
    """
    if engine.device.type != "cuda":
        return replace(engine, attention="torch"), None
    if engine.attention != "auto":
        return engine, None
    if engine.deterministic:
        return replace(engine, attention="torch"), None
    found = probe(shapes, engine.dtype, engine.device)
    return replace(engine, attention=found.chosen), found


def keep_pages() -> None:
    """Let the process keep what tensors in main memory gave back, for the next ones.

    glibc returns blocks to the system as soon as they lie at the end of its heap, or are large; the next tensor then
    pays for each of its pages anew: a tenth of the time that previews take on a CPU. Elsewhere nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        for parameter, value in MALLOC.items():
            ctypes.CDLL(None).mallopt(parameter, value)


def ran_out(error: Exception) -> bool:
    """Whether an error is that of a device without free memory; its libraries have words of their own for it."""
    said = str(error)
    told = "ALLOC_FAILED" in said or "out of memory" in said
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and told)


@contextmanager
def room(what: str, where: str, fix: str) -> Iterator[None]:
    """Say so in words where the device has too little free memory for what is done within; other errors pass.

    Args:
        what: it is too little for, as in "to load this model".
        where, fix: see `UserError`.

    Raises:
        UserError: it has.
    """
    try:
        yield
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise UserError(f"the GPU has too little free memory {what}", where, fix) from error


def processes(engine: Engine) -> tuple[int, int]:
    """Number of this process among those that train together, and how many they are: (0, 1) alone.

    They are what started them says they are (`accelerate launch`, `torchrun`); their process group is made here.
    """
    state = PartialState(cpu=engine.device.type == "cpu")
    torch.set_num_threads(engine.threads)  # accelerate has its own opinion where there are several
    return state.process_index, state.num_processes


def preferred_device() -> torch.device:
    """The GPU of this process if there is one, the CPU otherwise."""
    if torch.cuda.is_available():
        return torch.device(PartialState().device)
    return torch.device("cpu")


def preferred_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the card computes in it, from compute capability 8 on; fp16 on older ones; fp32 on a CPU."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
