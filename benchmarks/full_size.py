"""A short run on full-size Stable Diffusion 1.5 weights: does the GPU path work, how fast, how much memory?

    python -m benchmarks.full_size --steps 20 --work /tmp/full-size

The weights are random (860 M parameters in the UNet, 123 M in the text encoder, 84 M in the VAE), so nothing is
downloaded; the pictures are noise. What is looked at: that the run ends well, that the adapter's module counts are
kohya's (192 and 72), that the file loads in diffusers, whether two runs give the same tensors, and that a picture is
drawn with it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from benchmarks.models import make_base
from benchmarks.sets import make_pictures
from trainer.contract.compose import compose
from trainer.contract.presets import load_preset
from trainer.contract.requests import GenerateRequest, Picture
from trainer.contract.rundir import RunDir, create_run
from trainer.formats.header import read_header


def train(run: RunDir) -> dict:
    """Train a run folder to its end; return what was seen."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-P", "-m", "trainer", "train", str(run.path)], check=True)
    events = list(run.events())
    steps = [event for event in events if event["kind"] == "step"]
    late = steps[len(steps) // 4 :]
    rate = (late[-1]["step"] - late[0]["step"]) / max(late[-1]["time"] - late[0]["time"], 1e-9)
    return {
        "state": str(run.status().state),
        "steps": steps[-1]["step"],
        "seconds": round(time.monotonic() - began, 1),
        "it_s": round(rate, 2),
        "first_loss": steps[0]["loss"],
        "last_loss": steps[-1]["loss"],
        "engine": run.engine(),
    }


def main() -> None:
    """Run everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base, pictures = (
        make_base(options.work / "base", "sd15", device),
        make_pictures(options.work / "pictures", 8, [(512, 512)]),
    )
    found = {"card": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__}
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures)},
        "adapter": {"text_encoder": True},
        "training": {"steps": options.steps, "batch_size": options.batch},
        "sampling": {"every": "50%", "steps": 4},
    }
    runs = [
        create_run(options.work, name, compose([*load_preset("subject", "sd").layers(), layer]))
        for name in ("one", "two")
    ]
    found["run"], found["again"] = (train(run) for run in runs)
    header, twin = (read_header(run.adapter_file) for run in runs)
    found["same_tensors_twice"] = header.metadata["sshs_model_hash"] == twin.metadata["sshs_model_hash"]
    modules = [name.removesuffix(".alpha") for name in header.tensors if name.endswith(".alpha")]
    found["modules"] = {part: sum(name.startswith(part) for name in modules) for part in ("lora_unet_", "lora_te_")}
    pipe = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float16)
    pipe.load_lora_weights(runs[0].adapter_file.parent, weight_name=runs[0].adapter_file.name)
    found["diffusers_layers"] = sum(
        name.endswith("lora_A.default_0.weight") for name, _ in pipe.unet.named_parameters()
    )
    picture = Picture(prompt="a picture", strengths=(1.0,))
    request = GenerateRequest(
        id="drawn",
        base=str(base),
        adapters=(str(runs[0].adapter_file),),
        pictures=(picture,),
        steps=4,
        out=str(options.work),
    )
    (options.work / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-P", "-m", "trainer", "generate", str(options.work / "request.json")]
    found["generate"] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
