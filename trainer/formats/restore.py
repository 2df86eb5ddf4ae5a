"""A `parameters` text back into what is asked of the image engine."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.contract.catalog import SAMPLERS
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture, Strength
from trainer.formats.parameters import Generation, LoraUse

OURS = "LoRA Atelier"


def restored(
    said: Generation, adapters: Mapping[str, Path], request_id: str, base: str, out: str
) -> tuple[GenerateRequest, list[str]]:
    """Make the request that draws such a picture again.

    Args:
        said: read by `parse_parameters`.
        adapters: name, or the first 12 digits of the hash -> file, of all that are here. The hash counts first, so
            that a renamed file is found.
        request_id, base, out: of the request; the text names its base, and not where it is.

    Returns:
        The request, and a sentence for everything that cannot be as it was.

    Raises:
        UserError: a number in it is none that can be drawn.
    """
    found, told = _found(said.loras, adapters)
    sampler = sampler_of(said.sampler, said.schedule)
    if said.sampler and not sampler:
        told.append(f"there is no sampler '{said.sampler} {said.schedule}' here: another is taken")
    if said.version != OURS and said.rng != "CPU":
        told.append("its noise was drawn on a GPU: the same seed gives another picture here")
    given: dict[str, Any] = {
        "steps": said.steps, "guidance": said.cfg_scale, "sampler": sampler or None,
        "size": (said.width, said.height) if said.width and said.height else None,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    seed = {} if said.seed is None else {"seed": said.seed}
    try:
        picture = Picture(
            prompt=said.prompt, negative=said.negative_prompt, strengths=tuple(map(_strength, found)), **seed
        )
        request = GenerateRequest(
            id=request_id,
            base=base,
            adapters=tuple(map(str, found.values())),
            pictures=(picture,),
            clip_skip=said.clip_skip,
            out=out,
            **given,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {first['msg']}", "parameters", "Paste the text as it is in a picture.") from None
    return request, told


def _found(uses: Iterable[LoraUse], adapters: Mapping[str, Path]) -> tuple[dict[LoraUse, Path], list[str]]:
    """The files of adapters that are here, and a sentence for each that is not."""
    files = {use: (adapters.get(use.hash[:12]) if use.hash else None) or adapters.get(use.name) for use in uses}
    told = [f"the adapter '{use.name}' is not here: drawn without it" for use, file in files.items() if file is None]
    return {use: file for use, file in files.items() if file is not None}, told


def _strength(use: LoraUse) -> float | Strength:
    return use.strength if use.unet is None else Strength(unet=use.unet, text_encoder=use.strength)


def sampler_of(sampler: str, schedule: str) -> str:
    """Our name of a sampler that A1111 calls so, in two words or, as it did before 1.9, in one; "" for none."""
    named = {name: row for name, row in SAMPLERS.items() if sampler in (name, row.title)}
    found = [name for name, row in named.items() if row.schedule == (schedule or "Automatic")]
    if not found and not schedule:  # before 1.9: the schedule is in the name, or it is the plain one
        found = [name for name in named if name == sampler]
    if not found and schedule in ("", "Automatic"):  # what has no schedule of its own there is on Karras'
        found = [name for name, row in named.items() if row.schedule == "Karras"]
    return next(iter(found), "")
