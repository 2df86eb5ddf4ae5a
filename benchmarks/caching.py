"""Caching the latents of a set: what it takes, and how much of it the VAE waits for pictures to be decoded.

    python -m benchmarks.caching [--pictures 100] [--side 512] [--source 1536] [--base demo]

Prints one line of JSON: pictures per second, seconds in all, seconds in which the VAE waited for decoding, the share of
that, and what the same pictures take from the cache at a second start.
"""

import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.contract.compose import compose
from trainer.contract.rundir import create_run
from trainer.data.cache import build_cache
from trainer.data.store import store_of
from trainer.device import choose_engine
from trainer.families.locate import load_family


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Write JPEGs as large as photos: smooth shapes with grain, so that they take as long to decode."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(make_picture, (folder / f"{index}.jpg" for index in range(count)), repeat(side), chunksize=8))


def make_picture(path: Path, side: int) -> None:
    """Write one of them; its name is the seed."""
    drawn = np.random.default_rng(int(path.stem))
    coarse = Image.fromarray(drawn.integers(0, 255, (side // 32, side // 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = drawn.integers(-12, 12, smooth.shape, dtype=np.int16)
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def measure(arguments: argparse.Namespace, home: Path) -> dict[str, float]:
    """Cache a new set twice; see the module."""
    make_pictures(home / "set", arguments.pictures, arguments.source)
    dataset = {"path": str(home / "set"), "resolution": arguments.side}
    config = compose([{"model": {"base": arguments.base}, "dataset": dataset}])
    engine = choose_engine(config, {}).apply()
    family = load_family(config.model, engine)
    family.part("vae")
    found = []
    for _ in range(2):
        run = create_run(home, "run", config)
        build_cache(run, store_of(run), family, lambda *said: None)
        found.append(next(event for event in run.events() if event["kind"] == "cache"))
    first, second = found
    return {
        "pictures": arguments.pictures,
        "per_second": round(arguments.pictures / first["seconds"], 2),
        "seconds": first["seconds"],
        "waited": first["waited"],
        "waited_share": round(first["waited"] / first["seconds"], 4),
        "again_seconds": second["seconds"],
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--source", type=int, default=1536)
    parser.add_argument("--base", default="demo")
    with tempfile.TemporaryDirectory() as home:
        sys.stdout.write(json.dumps(measure(parser.parse_args(), Path(home))) + "\n")


if __name__ == "__main__":
    main()
