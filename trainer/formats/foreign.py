"""Settings of other trainers as settings of ours: a kohya config as TOML or JSON, and what an adapter file tells.

Names are sd-scripts' options, see `trainer.formats.sd_scripts`; in an adapter's metadata they stand behind `ss_`, some
under a name of their own. What has no counterpart is listed with the reason: nothing is left out without a word.
"""

import ast
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trainer.contract.catalog import CHOICES, PASSED, optimizer_row
from trainer.contract.compose import Layer, compose
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.rules import clashes, idle
from trainer.formats.block_sizes import by_path
from trainer.formats.header import read_header
from trainer.formats.recipe import read_recipe
from trainer.formats.sd_scripts import (
    ALIASES,
    ARGUMENTS,
    GOES_WITH,
    LEFT,
    MEANT,
    ROWS,
    UNKNOWN,
    UNUSED,
    NoCounterpart,
    Settings,
    literal,
    numbers,
    truth,
)

SUFFIX = ".safetensors"
FIXED_TEXT = ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")  # so it is not trained
IN_METADATA = "num_train_images"  # is said in an adapter's metadata and in no config
LARGEST = 2**22  # bytes of a file of settings
NETWORK, OPTIMIZER = "network_args", "optimizer_args"  # options that are lists of name=value
UNREADABLE = "this value cannot be read"
PLACES = {"block_dims": "adapter.ranks", "block_alphas": "adapter.alphas"}
FINDING = ("relative_step", "warmup_init")  # with these Adafactor finds its rate
HEEDED = ("dora_wd", *PLACES)  # read beside the rows


@dataclass(frozen=True)
class Foreign:
    """What was made of a file.

    Attributes:
        layer: for `trainer.contract.compose`.
        taken: (name there, setting here, value here).
        left: (name there, value there, why it has no counterpart).
    """

    layer: Layer
    taken: tuple[tuple[str, str, Any], ...]
    left: tuple[tuple[str, Any, str], ...]


@dataclass
class _Found:
    """What has been made of a file so far.

    Attributes:
        values: the file's, by name; of a list of arguments `network_args.conv_dim`.
        taken: setting -> (name there, value here).
        left: as in `Foreign`.
    """

    values: Mapping[str, Any]
    taken: dict[str, tuple[str, Any]] = field(default_factory=dict)
    left: list[tuple[str, Any, str]] = field(default_factory=list)

    def take(self, name: str, settings: Settings) -> None:
        """Take settings over; what no setting is left of by that is told.

        Raises:
            UserError: a value is none of the setting's.
        """
        compose([_layer({"dataset.path": "-", **settings})], "keep")
        before = {self.taken[at][0]: self.taken[at][1] == made for at, made in settings.items() if at in self.taken}
        self.taken |= {setting: (name, made) for setting, made in settings.items()}
        for other in before.keys() - {owner for owner, _ in self.taken.values()}:
            self.refuse(other, f"{name} says the same" if before[other] else f"{name} overrules it")

    def says(self, setting: str) -> Any:
        """The value that a setting has by now; None for none."""
        return self.taken.get(setting, ("", None))[1]

    def refuse(self, name: str, reason: str, value: Any = None) -> None:
        """List an option as one that is not taken."""
        self.left.append((name, self.values.get(name, value), reason))

    def drop(self, setting: str, reason: str) -> None:
        """Give a setting back."""
        name, made = self.taken.pop(setting)
        self.refuse(name, reason, made)

    def config(self) -> RunConfig:
        """What has been taken so far, over the defaults."""
        made = {setting: value for setting, (_, value) in self.taken.items()}
        return compose([_layer({"dataset.path": "-", **made})], "keep")

    def refused(self, option: str) -> bool:
        """Whether an option is among those that are not taken."""
        return any(_option(name) == option for name, _, _ in self.left)


def read_foreign(path: Path) -> Foreign:
    """Read settings from a kohya .toml or .json, or from an adapter's .safetensors: one of ours has them all.

    Raises:
        UserError: it is none of these, or nothing in it is known.
    """
    metadata = read_header(path).metadata if path.suffix.lower() == SUFFIX else {}
    if own := read_recipe(metadata):
        layer, left = own
        return Foreign(_layer(layer), tuple((setting, setting, made) for setting, made in layer.items()), left)
    found = translate(_told_of_training(path) if path.suffix.lower() == SUFFIX else _values(path))
    if not found.taken:
        fix = "Give a config of kohya's sd-scripts or kohya_ss (.toml, .json), or a LoRA file with ss_ metadata."
        raise UserError("no setting in this file is known here", str(path), fix)
    return found


def translate(values: Mapping[str, Any]) -> Foreign:
    """Settings by kohya's names -> ours; a pure function. What is refused here is left, with the reason."""
    given = list(_named(values))
    found = _Found(dict(given))
    found.left += [(name, value, "given again further down") for name, value in given if found.values[name] != value]
    unused = _unused(found.values)
    order = {name: place for place, name in enumerate(ROWS)}
    for name in sorted(found.values, key=lambda name: order.get(_option(name), len(order))):
        option = _option(name)
        if (_is_off(found.values[name]) and MEANT.get(option, name) in found.values) or _is_empty(found.values[name]):
            continue
        if option in unused:
            found.refuse(name, f"{unused[option]} does not use it")
        elif option in ROWS:
            _row(found, name, option)
        elif option not in HEEDED and not name.startswith(f"{OPTIMIZER}.") and not _decides(option, found.values[name]):
            found.refuse(name, LEFT.get(option, UNKNOWN))
    for step in (_default_alpha, _text_encoder, _dora, _blocks, _optimizer, _one_length, _clashing, _without_effect):
        step(found)
    settings = {setting: made for setting, (_, made) in found.taken.items()}
    taken = tuple((name, setting, made) for setting, (name, made) in found.taken.items())
    return Foreign(_layer(settings), taken, tuple(found.left))


def _row(found: _Found, name: str, option: str) -> None:
    other = GOES_WITH.get(option, "")
    if found.refused(other) and not _is_off(found.values[name]):
        found.refuse(name, f"it goes with {other}, which is not taken")
        return
    _tried(found, name, partial(ROWS[option], found.values[name]))


def _tried(found: _Found, name: str, make: Callable[[], Settings]) -> None:
    """Take what is made of an option, or list it with what is wrong with it."""
    try:
        found.take(name, make())
    except NoCounterpart as error:
        found.refuse(name, str(error))
    except (ValueError, TypeError, OverflowError):
        found.refuse(name, UNREADABLE)
    except UserError as error:
        found.refuse(name, error.problem.splitlines()[0])


def _decides(option: str, value: Any) -> bool:
    """Whether it has been read already, for what does not count beside it."""
    return option not in LEFT and (option, str(value).strip().lower()) in UNUSED


def _unused(values: Mapping[str, Any]) -> dict[str, str]:
    """Options that do not count in this file -> the one that decides so."""
    said = {(_option(name), str(value).strip().lower()): f"{name}={value}" for name, value in values.items()}
    return {option: said[key] for key, options in UNUSED.items() if key in said for option in options}


def _is_empty(value: Any) -> bool:
    return value is None or str(value).strip().lower() in ("", "none", "[]", "{}")


def _is_off(value: Any) -> bool:
    return _is_empty(value) or str(value).strip().lower() in ("false", "0", "0.0", "no", "off")


def _default_alpha(found: _Found) -> None:
    """sd-scripts' alpha is 1 where it is not said, and rates are chosen with it."""
    if "network_dim" in found.values and "network_alpha" not in found.values and found.says("adapter.rank"):
        found.take("network_alpha, not said and so 1", {"adapter.alpha": 1})


def _dora(found: _Found) -> None:
    """A switch of LyCORIS' over the method that is taken; it has one for LoHa and LoKr too."""
    for name, value in found.values.items():
        if _option(name) != "dora_wd" or _is_off(value) or any(other == name for other, _, _ in found.left):
            continue
        if not truth(value):
            found.refuse(name, UNREADABLE)
        elif found.says("adapter.method") in (None, "lora", "dora"):
            found.take(name, {"adapter.method": "dora"})
        else:
            found.refuse(name, f"there is no {found.says('adapter.method')} with it here")


def _blocks(found: _Found) -> None:
    """Ranks and alphas of blocks; where only ranks are given, every block has the alpha of all."""
    given = {name: PLACES[_option(name)] for name, value in found.values.items() if _option(name) in PLACES and value}
    convolutions = found.says("adapter.targets") == "everything"
    for name, setting in given.items():
        _tried(found, name, partial(_by_path, setting, found.values[name], convolutions))
    ranks, alpha = found.says("adapter.ranks"), found.says("adapter.alpha")
    if ranks and "adapter.alphas" not in given.values() and isinstance(alpha, int | float):
        found.take(found.taken["adapter.ranks"][0], {"adapter.alphas": dict.fromkeys(ranks, alpha)})


def _by_path(setting: str, value: Any, convolutions: bool) -> Settings:
    return {setting: by_path(numbers(value), convolutions)}


def _optimizer(found: _Found) -> None:
    """The arguments of the optimiser: settings where it is given those, else arguments of its class here."""
    start = f"{OPTIMIZER}."
    given = {name: value for name, value in found.values.items() if name.startswith(start) and not _is_empty(value)}
    optimizer, arguments = found.says("optimizer.name") or "adamw", {}
    for name, value in given.items():
        key = name.removeprefix(start)
        if found.refused("optimizer_type"):
            found.refuse(name, "it goes with optimizer_type, which is not taken")
        elif key in optimizer_row(optimizer).passes:
            _tried(found, name, partial(_passed, key, value))
        elif reason := _unfit(optimizer, key, value):
            found.refuse(name, reason)
        else:
            arguments[key] = tuple(value) if isinstance(value, list) else value
    if arguments:
        found.taken["optimizer.arguments"] = (OPTIMIZER, {**(found.says("optimizer.arguments") or {}), **arguments})
    if optimizer == "adafactor" and str(found.values.get(f"{start}relative_step", True)).lower() != "false":
        for setting in [at for at in found.taken if at.endswith("learning_rate")]:
            found.drop(setting, "Adafactor does not use it with relative_step=True")


def _passed(name: str, value: Any) -> Settings:
    """An argument that is made of settings here."""
    keys, given = PASSED[name], numbers(value)
    if len(given) != len(keys):
        raise NoCounterpart(f"{len(keys)} numbers are needed here")
    return {f"optimizer.{key}": item for key, item in zip(keys, given, strict=True)}


def _unfit(optimizer: str, name: str, value: Any) -> str:
    """Why an argument cannot be handed on; "" where it can. A class by its dotted name takes what it takes."""
    if optimizer in CHOICES["optimizer.name"] and name not in ARGUMENTS.get(optimizer, ()):
        return f"{optimizer_row(optimizer).title} has no such argument here"
    if name in FINDING and truth(value):
        return "the rate is given here, step by step"
    items = value if isinstance(value, list | tuple) else [value]
    fits = items and all(isinstance(item, int | float) and math.isfinite(item) for item in items)
    return "" if fits else UNREADABLE


def _text_encoder(found: _Found) -> None:
    """sd-scripts trains the text encoders unless it is told not to."""
    said = found.says("adapter.text_encoder") is not None or any(name in found.values for name in FIXED_TEXT)
    if "network_dim" in found.values and not said:
        found.take("network_train_unet_only, not said and so off", {"adapter.text_encoder": True})


def _one_length(found: _Found) -> None:
    """sd-scripts lets epochs overrule steps; in a file's metadata steps are what was done, epochs are rounded."""
    if "training.epochs" in found.taken and "training.steps" in found.taken:
        if IN_METADATA in found.values:
            found.drop("training.epochs", "the number of steps says the length")
        else:
            found.drop("training.steps", "the number of epochs says the length")


def _clashing(found: _Found) -> None:
    """What would be refused because it contradicts something else in the file."""
    while contradictions := clashes(found.config()):
        clash = contradictions[0]
        found.drop(next(setting for setting in clash.settings if setting in found.taken), clash.problem)


def _without_effect(found: _Found) -> None:
    """What would be refused as having no effect."""
    while idling := {setting: rule for setting, rule in idle(found.config()).items() if setting in found.taken}:
        for setting, rule in idling.items():
            found.drop(setting, f"{setting} counts {rule.words()}")


def _layer(settings: Settings) -> dict[str, dict[str, Any]]:
    layer: dict[str, dict[str, Any]] = {}
    for setting, value in settings.items():
        section, _, key = setting.partition(".")
        layer.setdefault(section, {})[key] = value
    return layer


def _told_of_training(path: Path) -> dict[str, Any]:
    """Names and values of an adapter's metadata. Tables, such as how often each tag was used, are no options."""
    header = read_header(path)
    told = {key[3:]: literal(value) for key, value in header.metadata.items() if key.startswith("ss_")}
    tables = {name for name, value in told.items() if isinstance(value, Mapping) and name not in (NETWORK, OPTIMIZER)}
    values = {name: str(value) if name in tables else value for name, value in told.items()}
    trains_text = any(name.startswith(("lora_te", "text_encoder")) for name in header.tensors)
    adds = "network_dim" in values and not trains_text
    return {**values, "network_train_unet_only": True} if adds else values


def _values(path: Path) -> dict[str, Any]:
    """Names and values of a file."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError("this is too large for a file of settings", str(path), "Give a .toml or .json config.")
        text = path.read_text("utf-8-sig")
        loaded = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"this cannot be read ({error.strerror})", str(path), "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is no file of settings: {error}", str(path), "Give a .toml or .json config.") from None
    if not isinstance(loaded, dict):
        raise UserError("this is no file of settings", str(path), "Give a .toml or .json config.")
    return loaded


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Flat, without sections; what is in a list of arguments as `network_args.NAME`."""
    for key, value in values.items():
        if key in (NETWORK, OPTIMIZER):
            yield from ((f"{key}.{name}", item) for name, item in _pairs(value))
        elif isinstance(value, Mapping) and key not in ROWS:
            yield from _named(value)
        elif _option(key) == "optimizer_type" and "(" in str(value):  # Prodigy(d_coef=2.0), as metadata has it
            name, _, inside = str(value).partition("(")
            yield key, name
            yield from ((f"{OPTIMIZER}.{argument}", item) for argument, item in _call(inside.rpartition(")")[0]))
        else:
            yield key, literal(value)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """`["a=1", "b=2"]`, `a=1 b=2`, {"a": 1} or that as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):  # its pieces are listed then
            value = json.loads(value)
    if isinstance(value, Mapping):
        yield from ((str(name), literal(item)) for name, item in value.items())
    elif not _is_off(value):
        for part in value.split() if isinstance(value, str) else value if isinstance(value, list) else [value]:
            name, equals, text = str(part).partition("=")
            yield name.strip(), literal(text.strip()) if equals else part


def _call(inside: str) -> Iterator[tuple[str, Any]]:
    """`a=1, b=(2, 3)`, as one writes arguments."""
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        pairs = [(word.arg or "", ast.literal_eval(word.value)) for word in getattr(call, "keywords", ())]
        pairs += [(ast.unparse(other), ast.unparse(other)) for other in getattr(call, "args", ())]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pairs = [(inside, UNREADABLE)]
    yield from pairs


def _option(name: str) -> str:
    """The option that a name stands for."""
    bare = name.removeprefix(f"{NETWORK}.")
    return ALIASES.get(bare, bare)
