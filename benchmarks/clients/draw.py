"""Draw one picture with diffusers alone: run by the Python of another version, which has nothing of ours.

PYTHON draw.py BASE FILE|- STRENGTH OUT.npy
"""

import json
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers

PROMPT, NEGATIVE, SEED, STEPS, GUIDANCE = "a red thing", "grey", 5, 6, 4.0


def main(base: str, adapter: str, strength: str, out: str) -> None:
    """Draw, and say which versions did."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(base)
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config, algorithm_type="dpmsolver++", solver_order=2
    )
    pipe.set_progress_bar_config(disable=True)
    layers = 0
    if adapter != "-":
        pipe.load_lora_weights(Path(adapter).parent, weight_name=Path(adapter).name, adapter_name="a")
        pipe.set_adapters(["a"], [float(strength)])
        roots = [root for root in pipe.components.values() if isinstance(root, torch.nn.Module)]
        layers = sum("a" in getattr(one, "lora_A", ()) for root in roots for one in root.modules())
    picture = pipe(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(SEED), output_type="pil",
    ).images[0]  # fmt: skip
    np.save(out, np.asarray(picture, dtype=np.float32))
    versions = f"diffusers {diffusers.__version__}, transformers {transformers.__version__}"
    print(json.dumps({"versions": versions, "layers": layers}))


if __name__ == "__main__":
    main(*sys.argv[1:])
