"""How fast and how lean is an import? A zip of noise pictures goes through the command in a process of its own.

    python -m benchmarks.importing --pictures 10000 --work DIR

The zip has sub-folders, captions, a tenth of duplicate stems and a hundredth of broken files, half of them empty and
half cut off. Printed as one JSON line: pictures a second from the start of the process to its end, the peak of the
resident memory of the process with all that it started, and what else the machine was doing.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.processes import ROOT

FOLDERS = 20
CAPTIONED = 2  # every second picture


def make_zip(path: Path, pictures: int, side: int) -> None:
    """Write the zip, unless it is there: soft noise, of which PNG and JPEG make about what they make of photos."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(pictures):
            small = Image.fromarray(random.integers(0, 255, (side // 4, side // 4, 3), dtype=np.uint8))
            file = io.BytesIO()
            kind = ("JPEG", "PNG")[index % 2]
            small.resize((side, side), Image.Resampling.BICUBIC).save(file, kind)
            data = file.getvalue()
            if index % 100 == 7:
                data = b"" if index % 200 == 7 else data[: len(data) // 2]
            stem = index - 1 if index % 10 == 9 else index  # a tenth is called like the one before, elsewhere
            name = f"set/{index % FOLDERS:02}/{stem:05}"
            archive.writestr(f"{name}.{kind.lower()}", data)
            if index % CAPTIONED == 0:
                archive.writestr(f"{name}.txt", f"picture number {index}\nnoise")


def memory(process: psutil.Process) -> int:
    """Resident bytes of a process and all below it; pages that they share count for each."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it has just ended
    return total


def measure(archive: Path, home: Path) -> dict[str, object]:
    """Import once, watching the memory."""
    command = [sys.executable, "-m", "app", "dataset", "import", "measured", str(archive), "--json"]
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*command, "--data-dir", str(home)], stdout=said, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        peak, watched = 0, psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, memory(watched))
            time.sleep(0.2)
        seconds = time.monotonic() - began
        said.seek(0)
        report = json.loads(said.read().splitlines()[-1])
    counts = {key: len(report[key]) for key in ("accepted", "duplicates", "rejected")}
    return {
        "seen": report["seen"], **counts, "others": report["others"], "seconds": round(seconds, 1),
        "pictures_per_second": round(report["seen"] / seconds, 1), "peak_mb": round(peak / 2**20),
        "load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2), "cpus": os.cpu_count(),
    }  # fmt: skip


def main() -> int:
    """Measure; 1 where files are not accounted for."""
    parser = argparse.ArgumentParser("python -m benchmarks.importing", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--work", type=Path, required=True, help="folder for the zip, kept, and the sets, thrown away")
    options = parser.parse_args()
    archive = options.work / f"{options.pictures}-{options.side}.zip"
    make_zip(archive, options.pictures, options.side)
    with tempfile.TemporaryDirectory(dir=options.work) as home:
        row = measure(archive, Path(home))
    print(json.dumps({"pictures": options.pictures, "side": options.side, **row}))
    broken = sum(index % 100 == 7 for index in range(options.pictures))
    return int(row["seen"] != options.pictures or row["rejected"] != broken)


if __name__ == "__main__":
    sys.exit(main())
