"""The four programs as they lie on a disk, without the programs: their marks, folders and configs."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
MARKS = {
    "a1111": ("webui.py", "modules/sd_models.py"),
    "forge": ("webui.py", "modules/sd_models.py", "modules_forge/config.py"),
    "comfyui": ("main.py", "folder_paths.py", "comfy/sd.py"),
    "invokeai": ("invokeai.yaml", "models/.keep"),
}


def program(folder: Path, kind: str) -> Path:
    """A program's folder."""
    for mark in MARKS[kind]:
        (folder / mark).parent.mkdir(parents=True, exist_ok=True)
        (folder / mark).touch()
    return folder


def adapter(path: Path, width: int = 768, **said: str) -> Path:
    """A sound LoRA of one layer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    down, up = np.ones((4, width), np.float16), np.ones((320, 4), np.float16)
    tensors = {f"{NAME}.lora_down.weight": down, f"{NAME}.lora_up.weight": up, f"{NAME}.alpha": np.float16([4])}
    save_file(tensors, path, said or None)
    return path
