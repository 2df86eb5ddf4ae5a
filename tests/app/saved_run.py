"""A run folder as a training leaves it, made without one: adapter files of some steps, samples, events."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from trainer.contract.compose import compose
from trainer.contract.rundir import RunDir, State, create_run
from trainer.formats.metadata import AdapterFacts, adapter_metadata, sign

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
END = 300


def saved_run(home: Path, name: str = "fox", steps: tuple[int, ...] = (100, 200)) -> RunDir:
    """A finished run of `END` steps with a file at each of some steps before."""
    layer = {
        "dataset": {"path": "foxes", "trigger": "ohwx fox"},
        "training": {"steps": END},
        "sampling": {"strengths": [0, 1]},
    }
    run = create_run(home, name, compose([layer]))
    for step in (*steps, END):
        for row, prompt in enumerate(("a fox", "a hat")):
            for strength in (0.0, 1.0):
                file = f"s{step:06d}-{row}{'' if strength else '-0'}.png"
                shade = Image.new("RGB", (64, 64), (step % 256, 90 + 60 * row, int(160 * strength)))
                shade.save(run.samples / file)
                run.emit("sample", step=step, prompt=prompt, seed=42 + row, strength=strength, file=file)
        path = run.adapter_file if step == END else run.step_file(step)
        path.write_bytes(adapter_bytes(path.stem, step))
    run.write_status(State.DONE, step=END, total=END)
    return run


def adapter_bytes(name: str, step: int) -> bytes:
    """A sound LoRA file of one layer; its numbers tell the step."""
    cover = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(cover, "PNG")
    facts = AdapterFacts(
        name=name, base_version="sd_v1", base_name="sd", rank=2, alpha=1.0, pictures=3, resolution=64, steps=step,
        epochs=1, batch_size=1, learning_rate=1e-4, optimizer="adamw", schedule="cosine", seed=0, recipe="",
        trigger="ohwx fox", captions=("ohwx fox, snow",), cover=cover.getvalue(),
    )  # fmt: skip
    tensors = {
        f"{LAYER}.lora_down.weight": np.full((2, 768), step / 1000, np.float16),
        f"{LAYER}.lora_up.weight": np.full((320, 2), 0.5, np.float16),
        f"{LAYER}.alpha": np.array(1, np.float16),
    }
    return sign(save(tensors, adapter_metadata(facts)))
