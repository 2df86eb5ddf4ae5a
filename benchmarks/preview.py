"""How fast does the image engine draw, and what does a move of a slider cost? Beside diffusers, in one call.

    python -m benchmarks.preview --work DIR [--base demo|sd15|sdxl] [--threads N] [--moves 1000] [--write]

`demo` is the embedded base; the others have random weights of full size and want a GPU. Adapters have rank 16 on every
layer of the transformers and of the text encoders. Every figure is the best of `--repeat`: seconds on the clock, and of
the processor, which a busy machine does not change much where there is one thread.
"""

import argparse
import gc
import json
import random
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from benchmarks.clients.files import facts as adapter_facts
from benchmarks.models import SIZES, make_base
from benchmarks.report import RESULTS, facts, insert
from trainer.adapters.lora import attach
from trainer.contract.config import AdapterSection, ModelSection
from trainer.contract.home import demo_folder
from trainer.contract.requests import GenerateRequest, Picture
from trainer.device import Engine
from trainer.export.kohya import export_adapter
from trainer.families.locate import load_family
from trainer.preview.answer import preview_engine
from trainer.preview.engine import PreviewEngine

PROMPT, SEED, DRAFT, GUIDANCE, RANK = "cat face", 7, 4, 5.0, 16
STRENGTHS = tuple(number / 7 for number in range(8))
LOADED, DISTINCT = 25, 4  # adapters at once; those that differ, the others are copies in files of their own


@dataclass
class Row:
    """A figure.

    Attributes:
        case: what was done.
        wall, cpu: seconds.
        note: what else there is to say.
    """

    case: str
    wall: float
    cpu: float
    note: str = ""


@dataclass
class Bench:
    """One base, its engine and adapter files."""

    folder: Path
    engine: PreviewEngine
    files: Sequence[Path]
    repeat: int
    steps: int
    moves: int

    def timed(self, case: str, work: Callable[[], object], often: int = 1) -> Row:
        """The best of some tries of doing something `often` times, for once; printed as it comes."""
        tries = []
        for _ in range(self.repeat):
            began, used = time.perf_counter(), time.process_time()
            for _ in range(often):
                work()
            if self.engine.engine.device.type == "cuda":
                torch.cuda.synchronize()
            tries.append(((time.perf_counter() - began) / often, (time.process_time() - used) / often))
        row = Row(case, min(wall for wall, _ in tries), min(cpu for _, cpu in tries))
        print(json.dumps(vars(row)), flush=True)
        return row

    def draw(self, strengths: Sequence[float], steps: int = 0, batch: int = 16, share: float = 1.0) -> Tensor:
        """Draw pictures of one seed, with a share of the base's own side; return what was decoded."""
        seen, decode = [], self.engine.family.decode
        self.engine.batch = batch
        self.engine.family.decode = lambda latents: seen.append(latents) or decode(latents)
        pictures = tuple(Picture(prompt=PROMPT, seed=SEED, strengths=self.strengths(one)) for one in strengths)
        side = int(share * self.engine.family.resolution)
        how = {"steps": steps or self.steps, "guidance": GUIDANCE, "size": (side, side)}
        request = GenerateRequest(id="x", pictures=pictures, out="unused", **how)
        try:
            list(self.engine.draw(request))
        finally:
            self.engine.family.decode = decode
        return torch.cat(seen)

    def strengths(self, first: float) -> tuple[float, ...]:
        """Of the loaded adapters: the first alone is used."""
        return tuple(first if place == 0 else 0.0 for place in range(len(self.engine.mixer.loaded)))


def make_adapters(base: str, folder: Path, count: int) -> list[Path]:
    """Write adapters of random numbers with a plain effect, unless they are there."""
    files = [folder / f"{Path(base).name}-{number}.safetensors" for number in range(count)]
    if all(file.exists() for file in files):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    family = load_family(ModelSection(base=base), Engine(torch.device("cpu"), torch.float32, 1))
    options = AdapterSection(rank=RANK, alpha=RANK, text_encoder=True)
    adapter = attach(family.targets("transformer", True), family.parts, options, seed=0)
    said = adapter_facts(family.source.facts.family, "random", options)
    for number, file in enumerate(files):
        if number >= DISTINCT:
            shutil.copyfile(files[number % DISTINCT], file)
            continue
        adapter.arena.master.normal_(std=0.03, generator=torch.Generator().manual_seed(number))
        export_adapter(file, adapter.tensors(), family.layout(), said, "fp16")
    return files


def pictures(bench: Bench) -> Iterator[Row]:
    """What a person waits for."""
    bench.engine.use([str(bench.files[0])])
    bench.draw([1.0], DRAFT)
    yield bench.timed(f"one picture, {bench.steps} steps, CFG", lambda: bench.draw([1.0]))
    yield bench.timed(f"draft, {DRAFT} steps, CFG", lambda: bench.draw([1.0], DRAFT))
    kept: dict[int, Tensor] = {}

    def sweep(batch: int) -> None:
        kept[batch] = bench.draw(STRENGTHS, batch=batch)

    singles = bench.timed(f"{len(STRENGTHS)} strengths one by one", lambda: sweep(1))
    yield singles
    row = bench.timed(f"{len(STRENGTHS)} strengths as planned", lambda: sweep(16))
    apart = (kept[1] - kept[16]).abs().max().item()
    row.note = f"{times(singles, row)}; apart by at most {apart:.1e}"
    yield row


def changes(bench: Bench) -> Iterator[Row]:
    """What a move of a slider costs, and adapters that nobody uses."""
    engine, choose = bench.engine, random.Random(1)
    first, second = (engine._read(file) for file in bench.files[:2])

    def move() -> None:
        rows = [tuple((choose.uniform(-2, 2),) * engine.mixer.layout.groups for _ in engine.mixer.loaded)] * 2
        if engine.recorded is None or not engine.recorded.take(rows):
            engine.mixer.set(rows, engine.engine.device)

    def swap() -> None:
        engine.mixer.load([second if engine.mixer.loaded[0] is first else first])
        move()

    engine.mixer.load([first])
    yield bench.timed("strength change", move, 50)
    yield bench.timed("adapter change, both resident", swap, 20)
    for files in (bench.files[:1], bench.files):
        engine.use([str(file) for file in files])
        bench.draw([1.0, 0.5], 1)
        case = f"a step of two pictures, {len(files)} adapters loaded, one in use"
        yield bench.timed(case, lambda: bench.draw([1.0, 0.5], DRAFT), 2)


def moves(bench: Bench) -> Iterator[Row]:
    """Random moves, loads and unloads: the base stays as it was, and memory flat."""
    engine, choose, count = bench.engine, random.Random(2), bench.moves
    engine.use([str(bench.files[0])])
    base, memory = bench.draw([0.0], 1, share=0.5), []

    def some() -> None:
        for number in range(count):
            engine.use([str(file) for file in choose.sample(list(bench.files), choose.randint(1, 4))])
            bench.draw([choose.uniform(-2, 2)], 1, share=0.5)
            if number >= count // 2:
                gc.collect()
                memory.append(held(engine))

    tries, bench.repeat = bench.repeat, 1
    row = bench.timed(f"{count} moves, loads and unloads, with a step at half the size each", some)
    bench.repeat = tries
    engine.use([str(bench.files[0])])
    same = torch.equal(bench.draw([0.0], 1, share=0.5), base)
    quarter = max(1, len(memory) // 4)
    early, late = sum(memory[:quarter]) / quarter, sum(memory[-quarter:]) / quarter
    row.note = f"strength 0 bit-identical: {same}; memory {early:.1f} MiB half-way, {late:.1f} MiB at the end"
    yield row


def held(engine: PreviewEngine) -> float:
    """MiB of the process, or of the card."""
    on_card = engine.engine.device.type == "cuda"
    return (torch.cuda.memory_allocated() if on_card else psutil.Process().memory_info().rss) / 2**20


def diffusers(bench: Bench) -> Iterator[Row]:
    """The same sweep by diffusers: a scale for each picture, and the adapter fused and taken out again."""
    from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler  # noqa: PLC0415 - after our own figures

    device, dtype = bench.engine.engine.device, bench.engine.engine.dtype
    pipe = DiffusionPipeline.from_pretrained(bench.folder, torch_dtype=dtype).to(device)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(bench.files[0].parent, weight_name=bench.files[0].name, adapter_name="a")

    def draw() -> None:
        noise = torch.Generator().manual_seed(SEED)
        pipe(PROMPT, num_inference_steps=bench.steps, guidance_scale=GUIDANCE, generator=noise, output_type="np")

    def scaled() -> None:
        for strength in STRENGTHS:
            pipe.set_adapters(["a"], [strength])
            draw()

    def fused() -> None:
        for strength in STRENGTHS:
            pipe.fuse_lora(lora_scale=strength)
            draw()
            pipe.unfuse_lora()

    draw()
    yield bench.timed(f"diffusers, set_adapters: {len(STRENGTHS)} strengths", scaled)
    pipe.set_adapters(["a"], [1.0])
    yield bench.timed(f"diffusers, fuse and unfuse: {len(STRENGTHS)} strengths", fused)


def times(slow: Row, fast: Row) -> str:
    """How many times as fast one is as the other."""
    return f"{slow.wall / fast.wall:.2f} x as fast ({slow.cpu / fast.cpu:.2f} x by CPU seconds)"


def section(command: str, base: str, rows: Sequence[Row], threads: int) -> str:
    """The table, with what a sweep costs against diffusers'."""
    found = facts("")
    about = ", ".join(f"{name} {value}" for name, value in found.items() if name not in ("card", "date"))
    planned = next((row for row in rows if "as planned" in row.case), None)
    for row in rows:
        if row.case.startswith("diffusers") and planned:
            row.note = f"ours as planned is {times(row, planned)}"
    lines = ["| case | s | CPU s | |", "|---|---|---|---|"]
    lines += [f"| {row.case} | {row.wall:.4g} | {row.cpu:.4g} | {row.note} |" for row in rows]
    head = f"## {found['date']}, the image engine, {base}; {found['card']}, {threads} CPU threads"
    return "\n\n".join([head, f"    {command}", f"{about}.", "\n".join(lines)]) + "\n"


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "pictures": pictures,
    "changes": changes,
    "diffusers": diffusers,
    "moves": moves,
}


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, and perhaps write."""
    parser = argparse.ArgumentParser("python -m benchmarks.preview", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--base", choices=("demo", *SIZES), default="demo")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = demo_folder() / "base"
    if options.base != "demo":
        folder = make_base(options.work / options.base, options.base, device)
    base = "demo" if options.base == "demo" else str(folder)
    files = make_adapters(base, options.work / "adapters", LOADED)
    engine = preview_engine(ModelSection(base=base))
    bench = Bench(folder, engine, files, options.repeat, options.steps, options.moves)
    rows = [row for name in options.parts.split(",") for row in PARTS[name](bench)]
    command = shlex.join(["python", "-m", "benchmarks.preview", *(sys.argv[1:] if given is None else given)])
    text = section(command, options.base, rows, options.threads)
    print(text)
    if options.write:
        RESULTS.write_text(insert(RESULTS.read_text("utf-8"), text), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
