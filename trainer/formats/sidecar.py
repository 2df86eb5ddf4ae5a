"""What lies beside an adapter file for other programs: a `.json` of words and settings, a picture's `parameters`.

The `.json` is A1111's (`activation text`, `preferred weight`, `sd version`; Forge and InvokeAI read it too) and
Civitai's (`modelVersions`, `trainedWords`; SD.Next and SwarmUI read it) in one.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.contract.amendments import config_now
from trainer.contract.catalog import pick
from trainer.contract.rundir import RunDir
from trainer.contract.shots import Shot
from trainer.formats.header import file_sha256, read_header
from trainer.formats.inspect import SD1, SD2, SDXL, inspect
from trainer.formats.parameters import Generation, LoraUse, decimal_text, format_parameters

MOST_TAGS = 24  # as many as A1111 shows
AS_TRAINED = "1 is the strength it was trained at; no other was measured."
_VERSIONS = {SD1: "SD1", SD2: "SD2", SDXL: "SDXL"}  # A1111's words
_MODELS = {SD1: "SD 1.5", SD2: "SD 2.1", SDXL: "SDXL 1.0"}  # Civitai's


def sidecar(file: Path) -> dict[str, Any]:
    """Return the content of `NAME.json`, from what the file says of itself.

    Raises:
        UserError: it is no sound safetensors file.
    """
    metadata, found = read_header(file).metadata, inspect(file)
    words = list(found.triggers)
    model = "SD 2.1 768" if metadata.get("ss_base_model_version") == "sd_v2_v" else _MODELS.get(found.family, "Other")
    whole = file_sha256(file)
    hashes = {"SHA256": whole.upper(), "AutoV2": whole[:10].upper(), "AutoV3": found.hash[:12].upper()}
    said = metadata.get("modelspec.lora_default_weight", "")
    weight = float(said) if _is_number(said) else 1.0
    notes = [
        metadata.get("modelspec.usage_hint", ""),
        f"Preferred weight: {f'{decimal_text(weight)}, as its maker set it.' if _is_number(said) else AS_TRAINED}",
        f"Base: {found.base or found.family}.",
        f"License: {metadata['modelspec.license']}." if metadata.get("modelspec.license") else "",
    ]
    stored = {"name": file.name, "type": "Model", "primary": True, "sizeKB": found.size / 1024, "hashes": hashes}
    return {
        "description": metadata.get("modelspec.description") or _described(metadata, found.method, model),
        "sd version": _VERSIONS.get(found.family, "Unknown"),
        "activation text": ", ".join(words),
        "preferred weight": weight,
        "negative text": "",
        "notes": " ".join(filter(None, notes)),
        "name": file.stem,
        "baseModel": model,
        "trainedWords": words,
        "tags": _tags(metadata),
        "modelVersions": [{"name": file.stem, "baseModel": model, "trainedWords": words, "files": [stored]}],
    }


def cover_parameters(run: RunDir, file: Path, shot: Shot, size: tuple[int, int]) -> str:
    """Return the `parameters` text of a sample picture drawn with the weights of a file.

    Args:
        run: that drew it.
        file: its adapter file of the same step.
        shot: how it was drawn.
        size: (width, height) in pixels.

    Returns:
        "" where the picture is of another step than the file: the text would tell of other weights. Without prompts
        where captions are private.
    """
    metadata, config = read_header(file).metadata, config_now(run)
    if metadata.get("ss_steps") != str(shot.step):
        return ""
    sampler, skip = pick("sampling.sampler", config.sampling.sampler), metadata.get("ss_clip_skip", "")
    versions, shown = json.loads(metadata.get("lora_atelier.versions", "{}")), config.export.captions
    use = LoraUse(file.stem, shot.strength, metadata.get("sshs_model_hash", ""))
    return format_parameters(
        Generation(
            prompt=shot.prompt if shown else "",
            negative_prompt=config.sampling.negative if shown else "",
            steps=config.sampling.steps,
            sampler=sampler.title,
            schedule=sampler.schedule,
            cfg_scale=config.sampling.guidance,
            seed=shot.seed,
            width=size[0],
            height=size[1],
            model_hash=metadata.get("ss_new_sd_model_hash", ""),
            model=metadata.get("ss_sd_model_name", ""),
            clip_skip=int(skip) if skip.isdecimal() else 1,
            rng="CPU",
            loras=(use,) if shot.strength else (),
            version=f"LoRA Atelier {versions.get('lora-atelier', '')}",
        )
    )


def _described(metadata: Mapping[str, str], method: str, model: str) -> str:
    """A sentence of what is known, where its maker says nothing."""
    numbers = {"ss_network_dim": "rank {}", "ss_num_train_images": "{} pictures an epoch", "ss_steps": "{} steps"}
    told = [words.format(metadata[key]) for key, words in numbers.items() if metadata.get(key)]
    return f"{', '.join([f'{method} for {model}', *told])}."


def _tags(metadata: Mapping[str, str]) -> list[str]:
    """The most frequent tags of all folders, triggers first."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + int(count)
    except (
        ValueError,
        AttributeError,
        TypeError,
        OverflowError,
        RecursionError,
    ):  # another program's own form; nobody needs its tags
        return []
    return sorted(counts, key=lambda tag: -counts[tag])[:MOST_TAGS]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
