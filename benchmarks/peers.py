"""Other trainers, on the same weights, shapes, rank and precision, watched through their progress bars.

They are fetched by whoever measures and are no part of this repository: kohya's sd-scripts, and the text-to-image LoRA
examples of diffusers. Each has a row as its documentation starts it, and a row with what makes it fastest.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cases import MODELS, RANK, TARGETS, Case
from benchmarks.processes import search_path, tail, watch
from benchmarks.row import Row
from benchmarks.sets import make_pictures, make_tokenizer

GIB = 2**30
FROM = 0.4  # share of the steps after which the rate is taken
LEAST, WINDOW = 40, 15.0  # steps of a peer, and the seconds that they should last
ABOUT = {"sd15": 0.028, "sdxl": 0.18}  # seconds for a picture
PICTURES, REPEATS = 16, 100  # so that no epoch ends, and no worker is started anew, within a run
PEAK = re.compile(rb"PEAK-BYTES (\d+) (\d+)")
# Where sd-scripts looks for its tokenizers, and the padding token of each.
TOKENIZERS = {"openai_clip-vit-large-patch14": "<|endoftext|>", "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k": "!"}
ATTENTION = 'target_modules=["to_k", "to_q", "to_v", "to_out.0"]'  # what the examples of diffusers train


@dataclass(frozen=True)
class Checkouts:
    """Where the peers are.

    Attributes:
        kohya: a checkout of sd-scripts.
        kohya_site: folder with the libraries that it needs, put first on its PYTHONPATH.
        diffusers: folder with the two example scripts.
        diffusers_site: the same for them.
    """

    kohya: Path | None = None
    kohya_site: Path | None = None
    diffusers: Path | None = None
    diffusers_site: Path | None = None


@dataclass
class Bar:
    """Notes when a progress bar of `total` first showed each number, and the peak memory told at the end."""

    total: int
    times: dict[int, float] = field(default_factory=dict)
    peak: tuple[int, int] | None = None
    _torn: bytes = b""

    def __call__(self, now: float, piece: bytes) -> None:
        """Take what was printed."""
        text = self._torn + piece
        for found in re.finditer(rb"\b(\d+)/%d \[" % self.total, text):
            self.times.setdefault(int(found[1]), now)
        if found := PEAK.search(text):
            self.peak = int(found[1]), int(found[2])
        self._torn = text[-60:]

    def rate(self) -> tuple[float | None, int]:
        """(steps a second, steps in the window); the last step is left out, its number may wait for the end."""
        late = sorted(step for step in self.times if self.total * FROM <= step < self.total)
        if len(late) < 2:
            return None, 0
        first, last = late[0], late[-1]
        return (last - first) / (self.times[last] - self.times[first]), last - first


def kohya(case: Case, work: Path, places: Checkouts) -> list[str]:
    """The command of sd-scripts.

    Raises:
        FileNotFoundError: it is not here.
    """
    script = existing(places.kohya, {"sd15": "train_network.py", "sdxl": "sdxl_train_network.py"}[case.model])
    for name, pad in TOKENIZERS.items():
        make_tokenizer(work / "tokenizers" / name, pad)
    side = MODELS[case.model].side
    folder = work / "peers" / f"kohya-{side}"
    make_pictures(folder / f"{REPEATS}_pictures", PICTURES, [(side, side)])
    values = {
        "pretrained_model_name_or_path": work / case.model,
        "train_data_dir": folder,
        "output_dir": work / "peers/out",
        "output_name": "kohya",
        "tokenizer_cache_dir": work / "tokenizers",
        "caption_extension": ".txt",
        "resolution": f"{side},{side}",
        "train_batch_size": case.batch,
        "max_train_steps": length(case),
        "network_module": "networks.lora",
        "network_dim": RANK,
        "network_alpha": RANK,
        "learning_rate": 1e-4,
        "mixed_precision": "bf16",
        "seed": 0,
        "save_model_as": "safetensors",
        "optimizer_type": "AdamW",
    }
    switches = ["--network_train_unet_only", "--sdpa", "--cache_latents"]
    switches += ["--cache_text_encoder_outputs", "--no_half_vae"] if case.model == "sdxl" else []
    return [sys.executable, str(script), *flags(values), *switches]


def kohya_best(case: Case, work: Path, places: Checkouts) -> list[str]:
    """With the fused optimiser, an adapter in bf16 and workers that stay."""
    switches = ["--full_bf16", "--highvram", "--persistent_data_loader_workers", "--max_data_loader_n_workers=2"]
    return [*kohya(case, work, places), *switches, "--optimizer_args", "fused=True"]


def kohya_compiled(case: Case, work: Path, places: Checkouts) -> list[str]:
    """With its compiler switch besides, which takes minutes before the first step."""
    return [*kohya_best(case, work, places), "--torch_compile"]


def diffusers(case: Case, work: Path, places: Checkouts) -> list[str]:
    """The command of the diffusers example, as it is: attention layers only, VAE and text encoder at every step.

    Raises:
        FileNotFoundError: it is not here.
    """
    scripts = {"sd15": "train_text_to_image_lora.py", "sdxl": "train_text_to_image_lora_sdxl.py"}
    return example(case, work, places, existing(places.diffusers, scripts[case.model]))


def diffusers_best(case: Case, work: Path, places: Checkouts) -> list[str]:
    """With our targets, written into a copy since it has no setting for them, TF32 and workers.

    Raises:
        FileNotFoundError: it is not here.
        ValueError: its targets are written in another way.
    """
    _, script, *rest = diffusers(case, work, places)
    text = Path(script).read_text("utf-8")
    if ATTENTION not in text:
        raise ValueError(f"{script}: its targets are not written as {ATTENTION}")
    copy = work / "peers" / f"same_targets_{Path(script).name}"
    copy.write_text(text.replace(ATTENTION, f"target_modules={list(TARGETS)}"), "utf-8")
    return [sys.executable, str(copy), *rest, "--allow_tf32", "--dataloader_num_workers=4"]


def example(case: Case, work: Path, places: Checkouts, script: Path) -> list[str]:
    """A diffusers example on a folder with enough pictures for a whole run."""
    side = MODELS[case.model].side
    source = make_pictures(work / "peers" / f"kohya-{side}" / f"{REPEATS}_pictures", PICTURES, [(side, side)])
    folder = work / "peers" / f"diffusers-{side}"
    if not (folder / "metadata.jsonl").exists():
        folder.mkdir(parents=True)
        names = [f"{index}.png" for index in range(PICTURES * REPEATS // 4)]
        for index, name in enumerate(names):
            os.link(source / f"{index % PICTURES}.png", folder / name)
        lines = [f'{{"file_name": "{name}", "text": "a picture number {index}"}}\n' for index, name in enumerate(names)]
        (folder / "metadata.jsonl").write_text("".join(lines))
    values = {
        "pretrained_model_name_or_path": work / case.model,
        "train_data_dir": folder,
        "output_dir": work / "peers/out",
        "resolution": side,
        "train_batch_size": case.batch,
        "max_train_steps": length(case),
        "rank": RANK,
        "learning_rate": 1e-4,
        "mixed_precision": "bf16",
        "seed": 0,
        "checkpointing_steps": 100000,
        "lr_warmup_steps": 0,
        "cache_dir": work / "peers/cache",
    }
    return [sys.executable, str(script), *flags(values)]


def flags(values: Mapping[str, object]) -> list[str]:
    """`--name=value` for each."""
    return [f"--{name}={value}" for name, value in values.items()]


def existing(folder: Path | None, name: str) -> Path:
    """A script of a checkout.

    Raises:
        FileNotFoundError: the checkout or the script is not here.
    """
    if folder is None or not (folder / name).is_file():
        raise FileNotFoundError(f"not on this machine: {name} in {folder or 'no folder that was given'}")
    return (folder / name).resolve()


def length(case: Case) -> int:
    """Steps of a peer's run: a window of at least 24 steps after the first 40 %."""
    return case.steps or max(LEAST, round(WINDOW / (ABOUT[case.model] * case.batch) / (1 - FROM)))


COMMANDS: dict[str, Callable[[Case, Path, Checkouts], list[str]]] = {
    "kohya": kohya,
    "kohya-best": kohya_best,
    "kohya-compiled": kohya_compiled,
    "diffusers": diffusers,
    "diffusers-best": diffusers_best,
}


def train(case: Case, work: Path, limit: float, places: Checkouts) -> Row:
    """Run a peer and watch it; one that is not here or fails is a row too."""
    row = {"case": case.name, "plain": case.plain, "batch": case.batch, "ours": False}
    try:
        command = COMMANDS[case.runner](case, work, places)
    except (FileNotFoundError, ValueError, KeyError) as error:
        return Row(**row, code=2, note=str(error))
    site = places.kohya_site if case.runner.startswith("kohya") else places.diffusers_site
    front = [Path(__file__).parent / "watched", *([site.resolve()] if site else [])]
    env = {"PYTHONPATH": search_path(*front), "HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "peers" / "home")}
    bar, log = Bar(length(case)), work / "peers" / f"{case.name.replace(':', '-')}.log"
    code, began, ended = watch(command, bar, log, limit, env)
    shutil.rmtree(work / "peers" / "out", ignore_errors=True)
    rate, window = bar.rate()
    return Row(
        **row,
        code=code,
        rate=rate,
        window=window,
        allocated=bar.peak[0] / GIB if bar.peak else None,
        reserved=bar.peak[1] / GIB if bar.peak else None,
        first_step=bar.times[1] - began if 1 in bar.times else None,
        whole=ended - began,
        note="" if code == 0 else tail(log, 600),
    )
