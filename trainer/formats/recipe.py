"""The settings that an adapter file of ours was trained with, out of the file itself."""

import tomllib
from collections.abc import Mapping
from typing import Any

from trainer.contract.compose import compose
from trainer.contract.errors import UserError

KEY = "lora_atelier.recipe"
ELSEWHERE = {  # settings that name a place or a thing of the machine it was trained on
    "dataset.path": "choose the pictures here",
    "dataset.concepts": "choose the pictures here",
    "dataset.trigger": "the set or you say it",
    "model.base": "choose the base here",
    "model.vae": "choose the base's VAE here",
    "model.device": "it is another machine",
    "adapter.start": "choose the file to start from here",
    "training.threads": "it is another machine",
}
Left = tuple[str, Any, str]


def read_recipe(metadata: Mapping[str, str]) -> tuple[dict[str, Any], tuple[Left, ...]] | None:
    """What a file's recipe says.

    Args:
        metadata: of the file.

    Returns:
        Every setting that is not as it is by default, and (setting, value, why it is not taken) of those that belong to
        where it was trained; None where there is no recipe, or one of a version whose settings are not known here.
    """
    try:
        config = compose([tomllib.loads(metadata[KEY])], "reset")
    except (KeyError, tomllib.TOMLDecodeError, UserError):
        return None
    said = {
        f"{section}.{key}": value
        for section, values in config.model_dump(mode="json", exclude_defaults=True).items()
        for key, value in values.items()
    }
    taken = {setting: value for setting, value in said.items() if setting not in ELSEWHERE}
    return taken, tuple((setting, said[setting], ELSEWHERE[setting]) for setting in said.keys() & ELSEWHERE.keys())
