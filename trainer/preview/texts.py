"""Texts of pictures: encoded once for each prompt and for the adapters of the text encoders that it is read with.

Shapes as in `trainer.protocols`.
"""

import torch

from trainer.contract.requests import Picture
from trainer.families.prompts import encode_prompt
from trainer.preview.mixer import Mixer
from trainer.preview.strengths import row
from trainer.protocols import Family, Text

KEPT = 256


class Texts:
    """The texts of one base.

    Args:
        family: encodes.
        mixer: puts the adapters' strengths beside the text encoders.
    """

    def __init__(self, family: Family, mixer: Mixer) -> None:
        self._family, self._mixer = family, mixer
        self._known: dict[object, Text] = {}

    @torch.no_grad()
    def of(self, prompt: str, picture: Picture) -> Text:
        """What the UNet is told for a prompt, under the strengths of a picture's adapters: [1, L, D], [1, P].

        Raises:
            UserError: it is too long.
        """
        mixer = self._mixer
        strengths = row(picture.strengths, mixer.layout)
        # The adapters themselves, not their names: one that is read anew is another.
        used = tuple(
            (adapter, groups[0])
            for adapter, groups in zip(mixer.loaded, strengths, strict=True)
            if groups[0] and any(target.part != "unet" for target in (*adapter.updates, *adapter.shifts))
        )
        key = (prompt, self._family.clip_skip, tuple((id(adapter), strength) for adapter, strength in used))
        if key not in self._known:
            mixer.set([strengths], self._family.engine.device)
            text = encode_prompt(self._family, prompt)
            while len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = text
        return self._known[key]

    def forget(self) -> None:
        """Encode everything anew."""
        self._known.clear()
