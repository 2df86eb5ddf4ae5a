"""Layers to one config: defaults < preset < its length < form or flags.

All mistakes are reported at once, before any weight is loaded.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.contract.catalog import OPTIMIZERS, WEIGHTINGS, check_choices
from trainer.contract.config import SPELT, RunConfig
from trainer.contract.errors import UserError
from trainer.contract.known_as import KNOWN_AS
from trainer.contract.rules import OnlyWith, idle, mistakes

Layer = Mapping[str, Any]  # section name -> {key: value}, any part of a RunConfig

TABLES = ("dataset.concepts",)  # lists of tables: read from files and flags; a form has no field for one
LENGTHS = ("steps", "epochs", "views")
DEFAULTS: Layer = {"training": {"views": 60}}
UNREADABLE = ", unable to parse string as a number"  # pydantic's words behind what a setting should be
Idle = Literal["refuse", "reset", "keep"]  # what becomes of a setting that has no effect; see `compose`


def section_fields(section: str) -> dict[str, Any]:
    """Return the pydantic fields of a section, by key."""
    annotation = RunConfig.model_fields[section].annotation
    model = annotation if isinstance(annotation, type) else get_args(annotation)[0]
    assert issubclass(model, BaseModel)
    return dict(model.model_fields)


def setting_names() -> tuple[str, ...]:
    """Return every setting as `section.key`, in the order of the config, but for `TABLES`."""
    names = (f"{section}.{key}" for section in RunConfig.model_fields for key in section_fields(section))
    return tuple(name for name in names if name not in TABLES)


def compose(layers: Iterable[Layer], without_effect: Idle = "refuse") -> RunConfig:
    """Put layers together, later ones winning, and check the result.

    steps, epochs and views are one choice: giving one in a later layer drops the others of earlier layers. In the same
    way a later choice drops what earlier layers say for another one: a preset's huber_c, where loss=l1 is asked for.
    Naming another optimiser in a later layer changes the learning rates of earlier layers to what it needs.

    Args:
        layers: the first counts least.
        without_effect: a setting of the deciding layer or a later one that has no effect, as `trainer.contract.rules`
            has it, is refused; or goes back to its default, for a page that shows it at the field; or is kept, for what
            was checked before.

    Raises:
        UserError: with every mistake in it, a line each.
    """
    merged: dict[str, dict[str, Any]] = {}
    given: dict[str, int] = {}  # setting -> number of the last layer that says it
    for number, layer in enumerate((DEFAULTS, *layers)):
        layer = _with_weighting(layer, merged)
        _merge(merged, layer)
        given |= {f"{section}.{key}": number for section, values in layer.items() for key in values}
    config = _validated(merged)
    if without_effect == "keep":
        return config
    found = {name: rule for name, rule in idle(config).items() if name in given}
    refused = _refused(config, found, given) if without_effect == "refuse" else {}
    if lines := mistakes(config, refused):
        raise _as_error(lines)
    for name in found:
        section, _, key = name.partition(".")
        del merged[section][key]
    return _validated(merged) if found else config


def _validated(merged: Layer) -> RunConfig:
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        raise _explain(error) from None
    check_choices(config)
    return config


def _refused(config: RunConfig, found: Mapping[str, OnlyWith], given: Mapping[str, int]) -> dict[str, OnlyWith]:
    """Of what has no effect, what is asked for all the same: by the last layer, or by another value than the default
    that no later layer has decided against."""
    last, refused = max(given.values()), {}
    for name, rule in found.items():
        section, _, key = name.partition(".")
        decided = max(given.get(need.setting, 0) for need in rule.needs)
        changed = config.value(name) != section_fields(section)[key].default
        if given[name] >= decided and (changed or given[name] == last):
            refused[name] = rule
    return refused


def _merge(merged: dict[str, dict[str, Any]], layer: Layer) -> None:
    for section, values in layer.items():
        if not isinstance(values, Mapping):
            raise UserError(f"'{section}' is not a section with settings", section, "Write section.key = value.")
        target = merged.setdefault(section, {})
        if section == "training" and (lengths := [name for name in LENGTHS if values.get(name) is not None]):
            if len(lengths) > 1:
                problem = f"give exactly one of {', '.join(LENGTHS)} (given: {', '.join(lengths)})"
                raise UserError(problem, section, "They are one choice: leave the others out.")
            for name in LENGTHS:
                target.pop(name, None)
        if section == "optimizer" and "name" in values:
            _carry_rates(target, str(values["name"]))
        target.update(values)


def _with_weighting(layer: Layer, before: Layer) -> Layer:
    """snr_gamma alone asks for min-SNR, and `off` for no weighting, as in files from before there was a choice."""
    values = layer.get("objective")
    if not isinstance(values, Mapping) or "snr_gamma" not in values or "weighting" in values:
        return layer
    reading = [name for name, row in WEIGHTINGS.items() if "objective.snr_gamma" in row.reads]
    if values["snr_gamma"] == "off":
        values = {**{key: value for key, value in values.items() if key != "snr_gamma"}, "weighting": "none"}
    elif before.get("objective", {}).get("weighting") not in reading:
        values = {**values, "weighting": "min_snr"}
    return {**layer, "objective": values}


def _carry_rates(earlier: dict[str, Any], name: str) -> None:
    """A rate of an earlier layer was meant for its optimiser: for another one it is changed in the proportion that the
    catalogue's rates have. One that finds the rate itself is left to do so.
    """
    old, new = OPTIMIZERS.get(str(earlier.get("name", "adamw"))), OPTIMIZERS.get(name)
    if old is None or new is None or old is new:
        return
    if new.one_rate:
        earlier.pop("lora_plus_ratio", None)  # a second rate
    for key in ("learning_rate", "text_encoder_learning_rate", "text_encoder_2_learning_rate"):
        rate = earlier.get(key)
        if isinstance(rate, int | float):
            found = "auto" if new.one_rate or old.one_rate else float(f"{rate * new.rate / old.rate:.3g}")
            earlier[key] = found


def _explain(error: ValidationError) -> UserError:
    found: dict[tuple[str, str], list[str]] = {}  # (setting, what was given) -> what is wrong with it
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("literal", "constrained")))
        section_key = ".".join(name.split(".")[:2])
        if item["type"] == "extra_forbidden":
            found[name, ""] = [f"there is no such setting{_nearest(section_key)}"]
        elif item["type"] == "missing":
            found[name, ""] = [f"needs a value ({_help(section_key)})"]
        else:
            given = "" if isinstance(item["input"], Mapping) else f" (given: {item['input']!r})"
            ways = found.setdefault((name if section_key in TABLES else section_key, given), [])
            ways += [_told(item)] if _told(item) not in ways else []
    return _as_error(f"{place}: {', or '.join(ways)}{given}" for (place, given), ways in found.items())


def _told(item: ErrorDetails) -> str:
    """What is wrong with a value, in words for people who have never seen a pattern or a tuple."""
    if item["type"] == "string_pattern_mismatch":
        return f"should be {SPELT[item['ctx']['pattern']]}"
    if item["type"] == "tuple_type":
        return 'should be a list, such as ["one", "another"]'
    return item["msg"].removeprefix("Value error, ").removeprefix("Input ").removesuffix(UNREADABLE)


def _as_error(lines: Iterable[str]) -> UserError:
    unique = list(dict.fromkeys(lines))
    problem = unique[0] if len(unique) == 1 else "\n".join([f"{len(unique)} settings are wrong:", *unique])
    return UserError(problem, "", "Every setting, its range and default: atelier settings")


def _nearest(name: str) -> str:
    known = KNOWN_AS.get(name.rpartition(".")[2])
    if known:
        return f"; it is {known} here"
    near = difflib.get_close_matches(name, setting_names(), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _help(name: str) -> str:
    section, _, key = name.partition(".")
    if section not in RunConfig.model_fields:
        return "unknown section"
    if not key:
        return "a section"
    return section_fields(section)[key].description or ""


def layer_of(settings: Mapping[str, Any]) -> Layer:
    """Values by `section.key` as a layer."""
    layer: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        layer.setdefault(section, {})[key] = value
    return layer


def parse_assignments(assignments: Sequence[str]) -> Layer:
    """Read `section.key=value` flags; the value is TOML where it parses as such, text otherwise.

    Raises:
        UserError: an assignment without `=` or without a section, or two that contradict each other.
    """
    layer: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and key):
            known = KNOWN_AS.get(name.strip())
            fix = f"Here it is {known}." if known else "Example: --set training.steps=300"
            raise UserError(f"'{assignment}' is not section.key=value", "--set", fix)
        values, value = layer.setdefault(section, {}), _toml_value(text.strip())
        if values.setdefault(key, value) != value:
            problem = f"{section}.{key} is set twice, to {values[key]!r} and to {value!r}"
            raise UserError(problem, "--set", "Leave one of them out.")
    return layer


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word such as a path or a name


def read_toml(path: Path) -> Layer:
    """Read a layer from a TOML file.

    Raises:
        UserError: the file is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"this is not a TOML file: {error}", str(path), "Write [section] lines and key = value lines."
        ) from None


def to_toml(config: RunConfig) -> str:
    """Write the whole config as TOML, defaults included (None has no form in TOML and is left out)."""
    return tomli_w.dumps(config.model_dump(exclude_none=True))


def from_toml(text: str) -> RunConfig:
    """Read back what `to_toml` wrote. Raises UserError where it was changed into something wrong."""
    return compose([tomllib.loads(text)], "keep")
