"""What makes the first step come soon: imports that are not needed are left out, and what can be done beside them is.

Seconds are of two cores, Python 3.12, torch 2.11, every package of a machine for research installed.
"""

import gc
import importlib.metadata
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What diffusers imports only because it is there, for parts of it that no run uses; with the seconds that it took.
# PEFT alone brought torchaudio, scikit-learn and pandas with it.
UNUSED = {"transformers": 0.9, "peft": 1.7, "torchvision": 0.3, "scipy": 0.8, "bitsandbytes": 0.3}


@contextmanager
def quick_imports() -> Iterator[None]:
    """Within this, the packages in `UNUSED` count as not installed, and nothing looks for garbage.

    None in `sys.modules` is Python's own way to say that a module cannot be found (Language Reference, 5.3.1). Whoever
    needs one of them later imports it as ever. diffusers also asks which distribution each package belongs to, for
    names that differ; nobody needs the answer, and to find it every file of every installed package is looked for on
    the disk. And it marks what torch's compiler is to leave alone, for which the whole compiler is loaded; none of
    what it marks is ever compiled here. A process that has diffusers already gains nothing and is left alone.
    """
    import torch.compiler as marks  # noqa: PLC0415 - this module is read before torch is

    if "diffusers" in sys.modules:
        yield
        return
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    asked, importlib.metadata.packages_distributions = importlib.metadata.packages_distributions, dict
    marked, marks.disable = marks.disable, _unmarked
    gc.disable()  # it would walk through a million objects that stay, again and again
    try:
        _import_unmarked()
        yield
    finally:
        importlib.metadata.packages_distributions = asked
        marks.disable = marked
        for name in hidden:
            sys.modules.pop(name, None)
        gc.freeze()
        gc.enable()


def _import_unmarked() -> None:
    """Import the module of diffusers that would load the compiler, 1.1 s, for its mark `allow_in_graph`.

    It does without where there is none. Only here: another package may be in earnest when it asks for the compiler.
    """
    if "torch._dynamo" in sys.modules:
        return
    sys.modules["torch._dynamo"] = None  # type: ignore[assignment]
    try:
        import diffusers.utils.torch_utils  # noqa: F401, PLC0415 - for what it does not load
    except ImportError:  # it did not do without, in this version
        for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers"]:
            del sys.modules[name]
    finally:
        del sys.modules["torch._dynamo"]


def _unmarked(function: Any = None, **_: Any) -> Any:
    """`torch.compiler.disable`, as a decorator with arguments or without, that does nothing."""
    return _unmarked if function is None else function


def growing_segments() -> bool:
    """Whether torch's allocator can let its pieces of GPU memory grow, so that fewer holes are left between them.

    SDXL with every block computed again then takes 7.09 instead of 7.33 GiB of an H200, and as long as before. The
    driver's calls for it are those of Linux. Whoever has set the allocator by hand keeps that.
    """
    set_by_hand = {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys()
    return sys.platform == "linux" and "microsoft" not in platform.release().lower() and not set_by_hand


def wake_device(wanted: str) -> None:
    """Begin to open the GPU, if one is wanted and there; it takes a second or two, and imports can go on meanwhile."""
    if wanted != "cpu":
        threading.Thread(target=_touch, name="wake-device", daemon=True).start()


def _touch() -> None:
    import torch  # noqa: PLC0415 - the caller has it already

    try:
        if torch.cuda.is_available():
            some = torch.zeros(1, 8, 8, 8, device=f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
            torch.nn.functional.conv2d(some, some[:, :, :1, :1])  # cuDNN is loaded in pieces, at first use
    except RuntimeError:
        return  # the run meets the same a moment later, and says what it means


def read_ahead(base: Path | None) -> None:
    """Let the system fetch a base's weights from the disk, so that they are in memory when they are asked for."""
    if base is not None and hasattr(os, "posix_fadvise"):
        threading.Thread(target=_fetch, args=(base,), name="read-ahead", daemon=True).start()


def _fetch(base: Path) -> None:
    parts = (base / part for part in ("text_encoder", "text_encoder_2", "vae", "unet"))  # in the order of their use
    found = [path for part in parts for path in sorted(part.glob("*.safetensors"))]
    whole = [path for path in found if ".fp16" not in path.name]  # those are the same weights once more
    for path in [base] if base.is_file() else whole or found:
        try:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError:
            return  # it is a hint only
