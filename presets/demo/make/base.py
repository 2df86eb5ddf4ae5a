"""Make the embedded base model: `python -m presets.demo.make.base --out presets/demo/base`.

Draws the corpus, trains tokenizer, VAE, UNet and text encoder in time boxes, and writes a diffusers folder.
What is finished lies in --work; the same command goes on from there, also after --pause-after.
"""

import argparse
import json
import logging
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from presets.demo.make import tokenizer, unet, vae
from presets.demo.make.corpus import SIZE, Painter, draw, draw_many
from presets.demo.make.sheet import sheet
from presets.demo.make.variety import varied

log = logging.getLogger(__name__)

NAME = "lora-atelier-demo"
PROMPTS = (
    "cat face", "rocket", "slice of pizza", "red apple", "penguin", "bicycle", "house with garden", "butterfly",
    "grinning face", "woman farmer", "octopus", "castle", "purple rocket", "blue banana", "green fox face",
    "pink elephant", "cat face on a blue background", "rocket on a black background", "guitar on a yellow background",
    "owl on a pink background",
    "dog face with sunglasses", "cat face with crown", "panda face with top hat", "fox face with bow",
    "cat face and rocket", "tree and house", "pizza and guitar", "small turtle", "tilted key", "pixelated mushroom",
    "orange whale on a teal background", "bear face with headphones on a green background",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The command's options."""

    out: Path
    work: Path
    pictures: int
    vae_seconds: float
    unet_seconds: float
    pause_after: float
    workers: int
    compile: bool

    @property
    def device(self) -> torch.device:
        """The GPU, if there is one."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder to write")
    parser.add_argument("--work", type=Path, default=Path("base-work"), help="where half-finished things lie")
    parser.add_argument("--pictures", type=int, default=200_000, help="in the corpus")
    parser.add_argument("--vae-seconds", type=float, default=200)
    parser.add_argument("--unet-seconds", type=float, default=900)
    parser.add_argument("--pause-after", type=float, default=math.inf, help="seconds; the same command goes on later")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw")
    parser.add_argument("--compile", action="store_true", help="torch.compile the models: pays on a GPU")
    return Options(**vars(parser.parse_args()))


def drawn(options: Options, name: str, painter: Painter, count: int) -> tuple[np.ndarray, list[str]]:
    """Pictures drawn once and kept: uint8 (count, SIZE, SIZE, 3) on disk, and captions."""
    path, captions_path = options.work / f"{name}.npy", options.work / f"{name}.json"
    if not captions_path.exists():
        captions_path.write_text(json.dumps(draw_many(painter, count, path, options.workers)))
    log.info("%d pictures of %d px in %s", count, SIZE, path)
    return np.load(path, mmap_mode="r"), json.loads(captions_path.read_text())


def make_vae(options: Options, pictures: np.ndarray, others: np.ndarray) -> AutoencoderKL:
    """The VAE, trained on as many emoji as other pictures, its latents centred."""
    folder = options.work / "vae"
    if not folder.exists():
        both = torch.from_numpy(np.concatenate([pictures[: len(others)], others]))
        model = vae.build().to(options.device)
        figures = vae.train(vae.Trainer(model, both.to(options.device), options.compile), options.vae_seconds)
        vae.centre(model, vae.encode(model, pictures[:8192])[0])
        write_figures(options, "vae", figures)
        rebuilt(model, others[:48]).save(options.work / "vae.png")
        rebuilt(model, pictures[:48]).save(options.work / "vae-emoji.png")
        model.save_pretrained(folder)
    return AutoencoderKL.from_pretrained(folder).to(options.device)


@torch.no_grad()
def rebuilt(model: AutoencoderKL, pictures: np.ndarray) -> Image.Image:
    """A sheet of pictures and, beside each, what the VAE makes of it."""
    means, _ = vae.encode(model, pictures)
    made = (model.decode(means).sample.clamp(-1, 1) * 127.5 + 127.5).byte().permute(0, 2, 3, 1).cpu().numpy()
    both = [Image.fromarray(picture) for pair in zip(pictures, made, strict=True) for picture in pair]
    return sheet(both, [""] * len(both), 12)


def make_corpus(options: Options, model: AutoencoderKL, pictures: np.ndarray, captions: list[str]) -> unet.Corpus:
    """Latents and token ids on the device."""
    mean, std = vae.encode(model, pictures)
    words = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    ids = words(
        ["", *captions], padding="max_length", max_length=tokenizer.LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    scale, ids = model.config.scaling_factor, ids.to(options.device)
    return unet.Corpus((mean * scale).half(), (std * scale).half(), ids[1:].contiguous(), ids[0])


def show(pipeline: StableDiffusionPipeline, path: Path, prompts: tuple[str, ...] = PROMPTS, columns: int = 8) -> None:
    """Write a sheet of one picture a prompt."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        list(prompts), num_inference_steps=25, guidance_scale=4.0, generator=torch.Generator().manual_seed(0)
    ).images
    sheet(made, prompts, columns).save(path)


def write_base(pipeline: StableDiffusionPipeline, tokenizer_folder: Path, folder: Path) -> None:
    """The diffusers folder, in half precision, no file above 14 MB, readable by transformers 4 and 5."""
    pipeline.to(torch.float16).save_pretrained(folder, max_shard_size="14MB")
    for path in (folder / "model_index.json", *folder.glob("*/config.json")):
        config = json.loads(path.read_text()) | {"_name_or_path": NAME}
        if "dtype" in config:  # transformers 5 would load half precision beside a UNet that diffusers loads in single
            config["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2) + "\n")
    path = folder / "text_encoder/model.safetensors"
    weights = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(path).items()}
    save_file(
        weights, path, metadata={"format": "pt"}
    )  # transformers 5 drops this prefix, and 4 finds no key without it
    path.chmod(0o644)
    shutil.rmtree(folder / "tokenizer")  # transformers 5 writes tokenizer.json alone
    shutil.copytree(tokenizer_folder, folder / "tokenizer")


def write_figures(options: Options, part: str, figures: dict[str, float]) -> None:
    """Keep the training figures, for the model card."""
    path = options.work / "figures.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {part: figures}, indent=2) + "\n")


def main() -> None:
    """Every stage, skipping those already done."""
    options = parse()
    deadline = time.monotonic() + options.pause_after
    options.work.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)

    # Drawn before anything touches CUDA: a process that has cannot fork.
    pictures, captions = drawn(options, "corpus", draw, options.pictures)
    others, _ = drawn(options, "others", varied, options.pictures // 8)
    if not (options.work / "tokenizer").exists():
        tokenizer.write(options.work / "tokenizer", captions)
    autoencoder = make_vae(options, pictures, others)
    corpus = make_corpus(options, autoencoder, pictures, captions)

    denoiser, text_encoder = unet.build_unet().to(options.device), unet.build_text_encoder().to(options.device)
    words = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    pipeline = StableDiffusionPipeline(
        autoencoder, text_encoder, words, denoiser, unet.build_scheduler(), None, None, requires_safety_checker=False
    )
    trainer = unet.Trainer(denoiser, text_encoder, corpus, options.compile)
    checkpoint = options.work / "unet.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    unet.train(trainer, options.unet_seconds, deadline, lambda name: show(pipeline, options.work / f"{name}.png"))
    trainer.save(checkpoint)
    figures = {"steps": trainer.steps, "seconds": round(trainer.seconds), "loss": round(trainer.loss.item(), 4)}
    write_figures(options, "unet", figures)

    trainer.average.swap()
    show(pipeline, options.work / "samples.png")
    write_base(pipeline, options.work / "tokenizer", options.out)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    main()
