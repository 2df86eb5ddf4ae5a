"""The same weights, prompt, seed and sampler give the picture that diffusers draws, with an adapter in both."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from tests.trainer.preview.test_mixer import ENGINE
from trainer.contract.catalog import SAMPLERS, resolve
from trainer.contract.config import ModelSection
from trainer.contract.home import demo_folder
from trainer.contract.requests import GenerateRequest, Picture
from trainer.families.prompts import encode_prompt, level
from trainer.preview.engine import PreviewEngine
from trainer.protocols import Text
from trainer.sampling import Shot, denoise, noise_sources, to_images

PROMPT, NEGATIVE, SEED, STEPS, GUIDANCE, STRENGTH = "cat face", "rocket", 7, 6, 5.0, 0.8
CLOSE = 2.0  # of 255, on the mean


@pytest.fixture(scope="module")
def engine():
    return PreviewEngine(ModelSection(base="demo"), ENGINE)


@pytest.fixture(scope="module")
def file(engine, tmp_path_factory):
    """An adapter with a plain effect on every layer of the UNet's transformers and of the text encoder."""
    tensors, generator = {}, torch.Generator().manual_seed(1)
    for target in engine.family.targets("transformer", text_encoder=True):
        weight = engine.family.parts[target.part].get_submodule(target.path).weight
        start = "lora_unet_" if target.part == "unet" else "lora_te_text_model_"
        stem = start + target.path.replace(".", "_")
        down = torch.randn(4, *weight.shape[1:], generator=generator)
        tensors[f"{stem}.lora_down.weight"] = down / weight[0].numel() ** 0.5
        up = torch.randn(len(weight), 4, *[1] * (weight.dim() - 2), generator=generator)
        tensors[f"{stem}.lora_up.weight"] = 0.15 * up
        tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    path = tmp_path_factory.mktemp("adapter") / "plain.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def theirs(file):
    pipe = StableDiffusionPipeline.from_pretrained(demo_folder() / "base", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="plain")
    pipe.set_adapters(["plain"], [STRENGTH])
    return pipe


def ours(engine, file, sampler: str, strength: float) -> np.ndarray:
    picture = Picture(prompt=PROMPT, negative=NEGATIVE, seed=SEED, strengths=(strength,))
    request = GenerateRequest(
        id="x", adapters=(str(file),), pictures=(picture,), steps=STEPS, guidance=GUIDANCE, sampler=sampler, out="o"
    )
    assert engine.use(request.adapters) == []
    (drawn,) = engine.draw(request)
    return np.asarray(drawn.image, float)


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M", "DPM++ 2M Karras", "DDIM", "UniPC", "Heun"])
def test_our_picture_is_that_of_diffusers(engine, file, theirs, sampler):
    row, noise = SAMPLERS[sampler], torch.Generator().manual_seed(SEED)
    theirs.scheduler = resolve(row).from_config(engine.family.scheduler, **dict(row.options))
    wanted = theirs(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="np",
        generator=noise,
    ).images[0] * 255  # fmt: skip
    drawn = ours(engine, file, sampler, STRENGTH)
    assert np.abs(drawn - wanted).mean() <= CLOSE
    if sampler == "Euler":
        assert np.abs(ours(engine, file, sampler, 0.0) - wanted).mean() > 3 * CLOSE, "the adapter is seen"


def test_the_noise_of_a_seed_is_theirs(engine):
    shot = Shot(128, 128, 1, 1.0, "Euler")
    wanted = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(SEED))
    assert torch.equal(noise_sources(engine.family, shot, [SEED])[0], wanted)


def euler(model, x, sigmas):
    """Karras et al. 2022, algorithm 1 without the correction."""
    for now, then in pairwise(sigmas):
        x = x + (x - model(x, now)) / now * (then - now)
    return x


def second_order(model, x, sigmas):
    """DPM-Solver++ (2M), Lu et al. 2022, algorithm 2, for data whose scale stays 1."""
    before, width = None, None
    for now, then in pairwise(sigmas):
        clean, step = model(x, now), (now / then).log()
        better = clean if before is None or then == 0 else clean + (clean - before) * step / (2 * width)
        x = then / now * x - torch.expm1(-step) * better
        before, width = clean, step
    return x


@torch.no_grad()
@pytest.mark.parametrize(("sampler", "solver", "rho"), [("Euler", euler, 0), ("DPM++ 2M Karras", second_order, 7)])
def test_noise_levels_are_those_of_a1111_and_comfyui(engine, sampler, solver, rho):
    """Both solve the same equation on these levels; the model is asked at the nearest timestep that it knows."""
    family = engine.family
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    known = ((1 - kept) / kept).sqrt().float()
    if rho:
        first, last = known[-1] ** (1 / rho), known[0] ** (1 / rho)
        sigmas = (first + torch.linspace(0, 1, STEPS) * (last - first)) ** rho
    else:
        places = torch.linspace(999, 0, STEPS)
        low, high = known[places.floor().long()].log(), known[places.ceil().long()].log()
        sigmas = (low + places.frac() * (high - low)).exp()
    sigmas = torch.cat([sigmas, torch.zeros(1)])
    negative, positive = level([(encode_prompt(family, NEGATIVE), encode_prompt(family, PROMPT))])

    def model(x, sigma):
        step = (sigma.log() - known.log()).abs().argmin()
        rows = torch.cat([x, x]) / (sigma**2 + 1) ** 0.5
        low, high = family.predict(rows, step.float(), Text.join((negative, positive)), torch.zeros(2, 6)).chunk(2)
        return x - sigma * (low + GUIDANCE * (high - low))

    shot = Shot(128, 128, STEPS, GUIDANCE, sampler)
    noise = noise_sources(family, shot, [SEED])[0]
    theirs = solver(model, noise * (1 + sigmas[0] ** 2) ** 0.5, sigmas)
    mine = denoise(family, shot, noise, (negative, positive))
    mine, theirs = (np.asarray(to_images(family.decode(one))[0], float) for one in (mine, theirs))
    assert np.abs(mine - theirs).mean() <= CLOSE
