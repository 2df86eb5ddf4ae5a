"""Does a run of ours learn as well as PEFT's LoRA in a plain diffusers loop, and does the `good` preset learn better?

    python -m benchmarks.quality --seeds 5 --work /tmp/quality --write
    python -m benchmarks.quality --seeds 2 --work /tmp/quality --try 'optimizer.lora_plus_ratio=4'

Each seed trains the embedded base on its style set: the plain loop, a run of ours with the same settings, and the
preset. One function judges the files: the loss at fixed noise and timesteps on other things by the same hand, drawn
for this. Settings after --try are judged on other pictures, with other seeds: what was chosen there is not chosen by
what gives the verdict. Drawing needs the font of `presets/demo/make`.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import plain_lora
from benchmarks.learned import BASE, EQUAL, GOOD, PLAIN, Learned, section
from benchmarks.processes import ROOT, search_path, tail, watch
from benchmarks.report import RESULTS, facts, insert
from presets.demo.make.corpus import things
from presets.demo.make.samples import STYLED, plain, write
from presets.demo.make.style import restyle
from tests.quality.gallery import Gallery
from tests.quality.judge import StyleFigures, judge_style
from trainer.contract.compose import Layer, compose, parse_assignments, to_toml
from trainer.contract.config import RunConfig
from trainer.contract.errors import EXIT_DONE
from trainer.contract.home import demo_folder
from trainer.contract.presets import load_preset
from trainer.contract.rundir import create_run

HELD, DRAWS = 40, 10  # pictures of a split, and draws of each
NOISE, OTHER_NOISE = 0, 1  # seeds of the draws: of the figures, and to see what the figures owe to them
LIMIT = 3600.0  # seconds of one training
SPLITS = {"verdict": (0, 0), "choice": (1, 1000)}  # name -> (its turn in the order of things, its first seed)

SETTINGS: Layer = {  # of the plain loop, and of ours beside it
    "dataset": {"caption_dropout": 0.2},
    "adapter": {"rank": 16, "alpha": 16.0, "targets": "transformer"},
    "optimizer": {"learning_rate": 1e-3},  # as the preset has it: the better one for both
    "schedule": {"name": "cosine"},
    "training": {"steps": 300, "batch_size": 4},
    "export": {"dtype": "fp32"},
}


@dataclass(frozen=True)
class Job:
    """A training, and how its file is judged.

    Attributes:
        name: what is trained.
        config: of the run; the plain loop reads the same. None trains nothing: the base.
        out: folder for all that it writes.
        held: folder of the pictures that it is judged by.
        noises: seeds of the draws.
    """

    name: str
    config: RunConfig | None
    out: Path
    held: Path
    noises: tuple[int, ...]

    def said(self) -> str:
        """All that the result depends on, but for the code."""
        return f"{self.name} {self.held} {self.noises} {DRAWS}\n{to_toml(self.config) if self.config else ''}"


def make_split(name: str, work: Path) -> Path:
    """Draw the pictures of a split, other things than the style set's: no thing is in two splits."""
    turn, folder = SPLITS[name][0], work / name
    names = sorted(set(things()) - set(STYLED))
    random.Random(0).shuffle(names)
    write(folder, {thing: restyle(plain(thing)) for thing in names[turn * HELD : (turn + 1) * HELD]})
    return folder


def recipes(tried: Sequence[str]) -> dict[str, list[Layer]]:
    """What is trained, name -> layers of its config."""
    if tried:
        return {PLAIN: [SETTINGS], **{text: [SETTINGS, parse_assignments(shlex.split(text))] for text in tried}}
    return {PLAIN: [SETTINGS], EQUAL: [SETTINGS], GOOD: load_preset("style", "demo").layers()}


def config_of(layers: Sequence[Layer], seed: int) -> RunConfig:
    """The config of a run: on the CPU in fp32, with nothing beside the training."""
    always = {
        "model": {"base": "demo", "device": "cpu", "dtype": "fp32"},
        "dataset": {"path": str(demo_folder() / "style")},
        "training": {"seed": seed, "threads": 1, "save_every": "never"},
        "sampling": {"every": "never"},
        "validation": {"share": 0.0},
    }
    return compose([*layers, always], "reset")


def train(job: Job) -> Path:
    """Train, and return the adapter file.

    Raises:
        RuntimeError: a run of ours did not end well.
    """
    assert job.config is not None
    shutil.rmtree(job.out, ignore_errors=True)
    if job.name == PLAIN:
        return plain_lora.train(job.config, Path(job.config.dataset.path), job.out)
    run = create_run(job.out, "run", job.config)
    command = [sys.executable, "-P", "-m", "trainer", "train", str(run.path)]
    environment = {"PYTHONPATH": search_path(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    code, _, _ = watch(command, lambda _, piece: None, job.out / "log.txt", LIMIT, environment)
    if code != EXIT_DONE:
        raise RuntimeError(f"{job.name}: {tail(job.out / 'log.txt')}")
    return run.adapter_file


def learn(job: Job) -> Learned:
    """Train and judge, on one thread, since jobs stand beside each other; what was learned here before is kept."""
    kept, asked = job.out / "learned.json", job.said()
    if kept.is_file() and (known := json.loads(kept.read_text("utf-8")))["job"] == asked:
        return Learned(**known["found"])
    torch.set_num_threads(1)
    file = train(job) if job.config else None
    losses = [plain_lora.Judge(job.held, DRAWS, noise).losses(file) for noise in job.noises]
    seed = job.config.training.seed if job.config else 0
    found = Learned(job.name, seed, losses[0].tolist(), losses[-1].mean().item(), str(file or ""))
    job.out.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"job": asked, "found": asdict(found)}), "utf-8")
    return found


def look_at(found: Sequence[Learned]) -> dict[int, StyleFigures]:
    """The figures of pictures that are drawn with some adapters, by seed."""
    gallery = Gallery()
    return {one.seed: judge_style(gallery.evidence(Path(one.file))) for one in found if one.file}


def main(given: Sequence[str] | None = None) -> None:
    """Train and judge everything, print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.quality", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("--seeds", type=int, default=5)
    add("--work", type=Path, required=True, help="folder for pictures and runs; what is there is not done again")
    add("--workers", type=int, default=os.cpu_count() or 1, help="trainings beside each other, a thread each")
    add("--try", dest="tried", action="append", default=[], metavar="SETTINGS", help="over those of the plain loop")
    add("--content", action="store_true", help="draw pictures too: are they the style, and what was asked for?")
    add("--write", action="store_true", help="put the table into benchmarks/RESULTS.md")
    options = parser.parse_args(given)
    split = "choice" if options.tried else "verdict"
    work, first = options.work.resolve(), SPLITS[split][1]
    held = make_split(split, work)
    jobs = [Job(BASE, None, work / f"{split}-base", held, (NOISE,))]
    for number, (name, layers) in enumerate(recipes(options.tried).items()):
        for seed in range(first, first + options.seeds):
            noises = (NOISE, OTHER_NOISE) if seed == first else (NOISE,)
            jobs.append(Job(name, config_of(layers, seed), work / f"{split}-{number}-{seed}", held, noises))
    found = []
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for one in pool.map(learn, jobs):
            print(one, flush=True)
            found.append(one)
    command = shlex.join(["python", "-m", "benchmarks.quality", *(sys.argv[1:] if given is None else given)])
    contents = look_at([one for one in found if one.name == GOOD]) if options.content else {}
    said = section(found, contents, command, facts(""), split)
    print(said)
    if options.write:
        RESULTS.write_text(insert(RESULTS.read_text("utf-8"), said), "utf-8")


if __name__ == "__main__":
    main()
