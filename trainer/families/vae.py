"""A VAE from outside the base: a file or a folder."""

import re
from pathlib import Path

import torch
from torch import nn

from trainer.contract.errors import UserError
from trainer.families.checkpoint import convert
from trainer.families.parts import read_tensors
from trainer.families.source import read_folder, readable
from trainer.formats.architecture import resolution_of, vae_config
from trainer.formats.bases import read_json, weight_files
from trainer.formats.checkpoint import kind_of
from trainer.formats.header import read_header, refuse_pickle

WHERE, KIND = "model.vae", "AutoencoderKL"
ALLOWED = "Give a .safetensors VAE (or a checkpoint that holds one) or a diffusers VAE folder (with config.json)."
NAMES = re.compile(r"(?:first_stage_model\.|vae\.)?(?=(?:encoder|decoder|quant_conv|post_quant_conv)\.)")


def load_vae(place: str, latent_channels: int, dtype: torch.dtype, family: str = "sd1") -> nn.Module:
    """Load an AutoencoderKL: frozen, in evaluation mode, on the CPU.

    Args:
        place: a `.safetensors` file under LDM's or diffusers' names, or a diffusers folder.
        latent_channels: what the UNet expects.
        dtype: of its weights.
        family: of the base, whose scaling factor a file gets, since it says none itself.

    Raises:
        UserError: it is missing, no VAE, a pickle, broken, or has other latent channels.
    """
    path = Path(place).expanduser()
    with readable(f"'{place}' cannot be read as a VAE", WHERE, ALLOWED):
        try:
            vae = _from_folder(path, dtype) if path.is_dir() else _from_file(path, dtype, family)
        except UserError as error:
            raise UserError(f"'{place}': {error.problem}", WHERE, error.fix or ALLOWED) from error
    channels = vae.config.latent_channels
    if channels != latent_channels:
        problem = f"'{place}' has {channels} latent channels, and the base works with {latent_channels}"
        raise UserError(problem, WHERE, "Give a VAE made for this family of models.")
    return vae


def vae_files(place: str) -> list[Path]:
    """The files of a VAE that `load_vae` reads."""
    path = Path(place).expanduser()
    return weight_files(_folder_of(path), "vae") if path.is_dir() else [path]


def _folder_of(path: Path) -> Path:
    return path / "vae" if (path / "model_index.json").is_file() else path


def _from_folder(path: Path, dtype: torch.dtype) -> nn.Module:
    folder = _folder_of(path)
    if not (folder / "config.json").is_file():
        raise UserError("the folder holds no config.json", fix=ALLOWED)
    kind = read_json(folder, "config.json").get("_class_name")
    if kind != KIND:
        raise UserError(f"the folder holds {kind}, not {KIND}", fix=ALLOWED)
    return read_folder("vae", folder, dtype)


def _from_file(path: Path, dtype: torch.dtype, family: str) -> nn.Module:
    refuse_pickle(path)
    if not path.is_file():
        raise UserError("there is no such file or folder", fix=ALLOWED)
    tensors = read_header(path).tensors
    names = {name[match.end() :]: name for name in tensors if (match := NAMES.match(name))}
    if not {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= names.keys():
        raise UserError(f"it is {kind_of(tensors).title}, and holds no VAE", fix=ALLOWED)
    shapes = {short: tensors[name].shape for short, name in names.items()}
    config = vae_config(shapes, family, resolution_of(family, "epsilon"))
    return convert("vae", config, read_tensors(path, names, dtype), str(path))
