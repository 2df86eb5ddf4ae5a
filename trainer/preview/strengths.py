"""What a request says of an adapter's strength, as numbers for every group of layers at every step."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture, Strength
from trainer.formats.block_weights import Layout
from trainer.formats.parameters import LoraUse
from trainer.formats.prompt import take_tags, unread

Row = tuple[tuple[float, ...], ...]  # of a picture: [K adapters][G groups]


def resolved(request: GenerateRequest, names: Mapping[str, int]) -> GenerateRequest:
    """Put the adapters that prompts name among the strengths; the prompts are without their tags then.

    Args:
        request: has a strength for every adapter in every picture.
        names: what an adapter may be called in a prompt -> its place in the request.

    Raises:
        UserError: a prompt names an adapter that the request does not have.
    """
    return request.model_copy(update={"pictures": tuple(_resolved(picture, names) for picture in request.pictures)})


def _resolved(picture: Picture, names: Mapping[str, int]) -> Picture:
    prompt, uses = take_tags(picture.prompt)
    if not uses:
        return picture
    strengths, tagged = list(picture.strengths), dict[int, Strength]()
    for use in uses:
        place = names.get(use.name)
        if place is None:
            known = ", ".join(names) or "none"
            fix = f"Add its file to the adapters, or take the tag out. The request's adapters: {known}."
            raise UserError(f"the prompt names <lora:{use.name}>, and there is no such adapter", "prompt", fix)
        tagged[place] = _added(strengths[place], tagged.get(place), use)
    for place, strength in tagged.items():
        strengths[place] = strength
    return picture.model_copy(update={"prompt": prompt.strip(), "strengths": tuple(strengths)})


def _added(given: float | Strength, before: Strength | None, use: LoraUse) -> Strength:
    """A tag's strength, on top of an earlier tag of the same adapter; blocks and steps stay as they were given."""
    unet = use.strength if use.unet is None else use.unet
    text, unet = (use.strength + before.text, unet + before.unet) if before else (use.strength, unet)
    plain = given if isinstance(given, Strength) else Strength()
    return plain.model_copy(update={"unet": unet, "text_encoder": text})


def names_of(files: Sequence[str]) -> dict[str, int]:
    """What adapters may be called in a prompt: their files' names, the first where two have the same."""
    return {Path(file).stem: place for place, file in reversed(list(enumerate(files)))}


def remarks(picture: Picture) -> list[str]:
    """Sentences about what a picture's prompts say in vain."""
    found = [
        f"'{said}' changes nothing while drawing here: it is read as words"
        for said in (unread(picture.prompt), unread(picture.negative))
        if said
    ]
    if take_tags(picture.negative)[1]:
        found.append("a <lora:...> in a negative prompt is read as words, as in A1111: put it into the prompt")
    return found


def row(strengths: Sequence[float | Strength], layout: Layout, share: float | None = None) -> Row:
    """[K][G] numbers for one picture.

    Args:
        strengths: one for each adapter.
        layout: of the UNet.
        share: of the denoising steps that are done, from 0 to less than 1; None for before they begin.

    Raises:
        UserError: block weights that are none of this UNet's.
    """
    return tuple(_groups(one, layout, share) for one in strengths)


def _groups(strength: float | Strength, layout: Layout, share: float | None) -> tuple[float, ...]:
    if not isinstance(strength, Strength):
        return (float(strength),) * layout.groups
    on = share is None or strength.start <= share < strength.end or (strength.end == 1 and share >= strength.start)
    blocks = _blocks(strength, layout)
    unet = strength.unet if on else 0.0
    return (strength.text * blocks[0], *(unet * block for block in blocks[1:]))


def _blocks(strength: Strength, layout: Layout) -> tuple[float, ...]:
    given = strength.blocks
    if not given:
        return (1.0,) * layout.groups
    if isinstance(given, str):
        return layout.weights(given)
    pairs = [one for one in given if isinstance(one, tuple)]
    return layout.weights(dict(pairs) if pairs else [one for one in given if not isinstance(one, tuple)])


def scheduled(strengths: Sequence[float | Strength]) -> bool:
    """Whether a picture's strengths change while it is drawn."""
    return any(isinstance(one, Strength) and (one.start, one.end) != (0, 1) for one in strengths)
