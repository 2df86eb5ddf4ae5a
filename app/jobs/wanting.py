"""What somebody asks for, made into the config of a run that can begin: preset, length, base, trigger, settings."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from trainer.contract.compose import Layer, compose
from trainer.contract.config import RunConfig
from trainer.contract.home import find_dataset
from trainer.contract.packages import check_packages
from trainer.contract.presets import AUTO_RATE, DEFAULT_PRESET, load_preset
from trainer.formats.bases import check_base, preset_shelf
from trainer.pictures.album import Album, open_album
from trainer.pictures.gather import check_run


class Wish(NamedTuple):
    """What is asked for.

    Attributes:
        dataset: name or folder of a set.
        preset: name or .toml file.
        base: "" for what preset or settings say.
        trigger: "" for the set's own.
        length: of the preset; "" is its own.
        auto_rate: whether the optimiser is to find the rate.
        like: from another trainer's file, over the preset.
        assigned: settings, the last word.
    """

    dataset: str
    preset: str = DEFAULT_PRESET
    base: str = ""
    trigger: str = ""
    length: str = ""
    auto_rate: bool = False
    like: Layer | None = None
    assigned: Layer | None = None


def build_config(home: Path, wish: Wish) -> RunConfig:
    """Put preset, flags and assignments together.

    Raises:
        UserError: every mistake in them, no pictures, or none that can be trained on.
    """
    folder = find_dataset(home, wish.dataset)  # its pictures may lie elsewhere, if it is a set of the user's own
    read, assigned = functools.cache(open_album), wish.assigned or {}  # to read a large folder takes a while
    given: dict[str, Any] = {"dataset": {"path": str(folder)}, "model": {}}
    if own := wish.trigger or read(folder).calls:
        given["dataset"]["trigger"] = own
    if wish.base:
        given["model"]["base"] = wish.base
    wanted = assigned.get("model", {}).get("base") or wish.base or "demo"
    chosen = load_preset(wish.preset, preset_shelf(wanted)).layers(wish.length)
    config = compose([*chosen, wish.like or {}, AUTO_RATE if wish.auto_rate else {}, given, assigned])
    return checked(home, config, read)


def checked(home: Path, config: RunConfig, read: Callable[[Path], Album] = open_album) -> RunConfig:
    """See that a run can be begun, before a folder is made for it and anything is loaded; its sets become folders.

    Raises:
        UserError: there is no such base, package or set, or the sets do not allow what is asked.
    """
    check_base(config.model.base)
    check_packages(config)
    config = _with_sets(home, config)
    check_run(config, read)
    return config


def _with_sets(home: Path, config: RunConfig) -> RunConfig:
    """Find the sets beside the first one, which may be given by name too."""
    if not config.dataset.concepts:
        return config
    found = [
        {**one.model_dump(exclude_none=True), "path": str(find_dataset(home, one.path))}
        for one in config.dataset.concepts
    ]
    return compose([config.model_dump(exclude_none=True), {"dataset": {"concepts": found}}], "keep")
