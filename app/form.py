"""The settings of a run as Gradio components, made from the schema: a new field of `RunConfig` appears by itself."""

import math
import re
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
import tomli_w
from annotated_types import Ge, Gt, Le, Lt

from trainer.contract.catalog import CHOICES, DOTTED
from trainer.contract.compose import LENGTHS, Layer, compose, layer_of, section_fields, setting_names, to_toml
from trainer.contract.config import AUTO_OR_EVERY, PERCENT_OR_STEPS, STEPS_OR_END, RunConfig

Plain = str | int | float | bool | None

TITLES = {
    "model": "Base model",
    "dataset": "Pictures",
    "adapter": "Adapter",
    "optimizer": "Optimiser",
    "schedule": "Learning rate over the run",
    "objective": "Objective",
    "training": "Training",
    "engine": "How the step is computed",
    "sampling": "Sample pictures",
    "validation": "Held-out pictures",
    "export": "Finished file",
    "tracking": "TensorBoard and W&B",
}
EVERY: dict[str | None, tuple[str, ...]] = {  # a pattern -> words to choose from; others can be typed
    PERCENT_OR_STEPS: ("10%", "20%", "25%", "50%", "never"),
    STEPS_OR_END: ("end", "25%", "50%", "75%"),
    AUTO_OR_EVERY: ("auto", "10%", "20%", "25%", "50%", "never"),
}
LINES = {(tuple,): "one a line", (dict,): "name = value, one a line"}
BARE_KEY = re.compile(r"""^[ \t]*([^\s"'=\[\]#][^"'=\n]*?)[ \t]*=""", re.MULTILINE)
ESSENTIAL = ("dataset.path", "model.base", "dataset.trigger", *(f"training.{name}" for name in LENGTHS))


@dataclass(frozen=True)
class Field:
    """One setting of the schema, as the form sees it.

    Attributes:
        name: `section.key`.
        kinds: the plain types a value may have.
        words: the words a value may be, such as `auto`.
        help: one line.
        bounds: smallest and largest value, None where open.
        default: value where nothing is said.
    """

    name: str
    kinds: tuple[type, ...]
    words: tuple[str, ...]
    help: str
    bounds: tuple[float | None, float | None]
    default: Any

    @property
    def element(self) -> str:
        """Id of its component in the page."""
        return "set-" + self.name.replace(".", "-").replace("_", "-")

    @property
    def label(self) -> str:
        """Its name in the page."""
        return self.name.partition(".")[2].replace("_", " ")

    @property
    def about(self) -> str:
        """Its help, what is allowed, and its default."""
        low, high = self.bounds
        allowed = f"{low:g} to {high:g}." if low is not None and high is not None else ""
        allowed = allowed or (f"From {low:g}." if low is not None else f"Up to {high:g}." if high is not None else "")
        default = to_page(self, self.default)
        if isinstance(default, bool):
            default = "on" if default else "off"
        said = "empty" if default in ("", None) else f"{default:g}" if isinstance(default, float) else default
        return " ".join(filter(None, (self.help, allowed, f"Default: {said}.")))


def field(name: str) -> Field:
    """Describe a setting."""
    section, _, key = name.partition(".")
    info = section_fields(section)[key]
    kinds: tuple[type, ...]
    words: tuple[str, ...]
    kinds, words = _alternatives(info.annotation)
    low: Any = next(
        (part.ge if isinstance(part, Ge) else part.gt for part in info.metadata if isinstance(part, Ge | Gt)), None
    )
    high: Any = next(
        (part.le if isinstance(part, Le) else part.lt for part in info.metadata if isinstance(part, Le | Lt)), None
    )
    if name in CHOICES:
        kinds, words = (str,) if name in DOTTED else (), _names(CHOICES[name])
    for part in info.metadata:
        words = EVERY.get(getattr(part, "pattern", None), words)
    default = None if info.is_required() else info.default
    return Field(name, kinds, words, info.description or "", (low, high), default)


def _names(rows: Any) -> tuple[str, ...]:
    return tuple(rows)


def _alternatives(annotation: Any) -> tuple[tuple[type, ...], tuple[str, ...]]:
    """Take an annotation apart: `int | Literal["auto"]` is (int,) and ("auto",)."""
    origin = get_origin(annotation)
    if origin is Literal:
        return (), tuple(str(word) for word in get_args(annotation))
    if origin in (Union, types.UnionType):
        parts = [_alternatives(part) for part in get_args(annotation) if part is not type(None)]
        return tuple(kind for kinds, _ in parts for kind in kinds), tuple(word for _, words in parts for word in words)
    kind: type = origin or annotation
    return (kind,), ()


def component(item: Field, value: Any) -> gr.components.Component:
    """Make the component of a setting. A number beside a word, or a pattern, is a list one can type into."""
    common: dict[str, Any] = {"label": item.label, "info": item.about, "elem_id": item.element, "interactive": True}
    shown: Any = to_page(item, value)
    if bool in item.kinds:
        return gr.Checkbox(shown, **common)
    if item.kinds in LINES:
        return gr.Textbox(shown, lines=2, max_lines=6, placeholder=LINES[item.kinds], **common)
    if item.words:
        return gr.Dropdown(list(item.words), value=shown, allow_custom_value=bool(item.kinds), **common)
    if str in item.kinds or item.default is None:  # an empty number turns into 0 when it first comes into sight
        return gr.Textbox(shown, **common)
    low, high = item.bounds
    return gr.Number(shown, minimum=low, maximum=high, step=_arrow_step(item), **common)


def _arrow_step(item: Field) -> float:
    """How far the arrows of a number go: one digit of its default."""
    if float not in item.kinds:
        return 1
    return float(10 ** math.floor(math.log10(item.default))) if item.default else 0.01


def to_page(item: Field, value: Any) -> Plain:
    """Turn a value of the config into what its component shows."""
    if item.kinds == (tuple,):
        return "\n".join(map(str, value or ()))
    if item.kinds == (dict,):
        return tomli_w.dumps(value or {}).strip()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    plain: Plain = str(value) if (item.words or item.default is None) and value is not None else value
    return plain


def from_page(item: Field, shown: Any) -> Any:
    """Turn what a component holds into a value for `compose`, which checks it; None where it was left empty."""
    if item.kinds == (tuple,):
        return [line.strip() for line in str(shown or "").splitlines() if line.strip()]
    if item.kinds == (dict,):
        return _table(str(shown or ""))
    if str in item.kinds and not item.words:
        return str(shown or "").strip()
    if isinstance(shown, str):
        text = shown.strip()
        return text if text in item.words or str in item.kinds else _number(text, item)
    if isinstance(shown, float) and shown.is_integer() and float not in item.kinds:
        return int(shown)
    return shown


def _table(text: str) -> Any:
    """Lines of TOML; a key need not be quoted, whatever is in it: it may be a pattern such as `down_blocks.*`."""
    try:
        return tomllib.loads(BARE_KEY.sub(r'"\1" =', text))
    except tomllib.TOMLDecodeError:
        return text  # left for the schema to refuse


def _number(text: str, item: Field) -> Any:
    try:
        return int(text) if float not in item.kinds else float(text)
    except ValueError:
        return text or None  # left for the schema to refuse, with its own words


def value_of(config: RunConfig, name: str) -> Any:
    """Read one setting of a config."""
    return config.value(name)


def advanced() -> dict[str, list[Field]]:
    """Return the settings that are not essential, section by section."""
    groups: dict[str, list[Field]] = {}
    for name in setting_names():
        if name not in ESSENTIAL:
            groups.setdefault(name.partition(".")[0], []).append(field(name))
    return groups


def layer(values: Mapping[str, Any]) -> Layer:
    """Turn values by `section.key`, as the page holds them, into a layer; what was left empty is not in it."""
    found = {name: from_page(field(name), shown) for name, shown in values.items()}
    return layer_of({name: value for name, value in found.items() if value is not None})


def changed(config: RunConfig, preset: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, name -> (the preset's, the form's); base and pictures are no difference."""
    own = ("model.base", "dataset.path", "dataset.trigger")
    pairs = {name: (value_of(preset, name), value_of(config, name)) for name in setting_names() if name not in own}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def read(values: Mapping[str, Any], preset: Layer) -> RunConfig:
    """Build the config of what the page holds, over a preset. Raises UserError with every mistake."""
    return compose([preset, layer(values)], "reset")


def as_toml(config: RunConfig) -> str:
    """The file that the run would keep."""
    return to_toml(config)
