"""The alphas of files whose tensors have none: PEFT's files keep them in a config.

diffusers (since 0.34) writes the config into the metadata, as `lora_adapter_metadata`; PEFT itself beside the file, as
`adapter_config.json`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

METADATA = "lora_adapter_metadata"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LARGEST = 1 << 20  # bytes
_PIECES = 16  # that the end of a path has at most
_TOO_MUCH = 1e30


@dataclass(frozen=True)
class PeftConfig:
    """What is said of a file's modules.

    Attributes:
        values: setting -> value; before the setting the part and a dot, where the file holds several.
    """

    values: Mapping[str, Any]

    def alpha(self, part: str, path: str, rank: int) -> float | None:
        """Alpha of a module, so that alpha / rank is its scale; None where nothing is said.

        Args:
            part: "unet", "text_encoder" or "text_encoder_2".
            path: of the module in it.
            rank: of its update.
        """
        own, patterns = self._part(part)
        alpha = next((own[name] for name in ("lora_alpha", "alpha") if _number(own.get(name))), None)
        pieces = _plain(path).rsplit(".", _PIECES)
        ends = (".".join(pieces[at:]) for at in range(len(pieces)))
        alpha = max((patterns[end] for end in ends if end in patterns), default=(0, alpha))[1]  # the last one counts
        if alpha is None:
            return None
        return float(alpha) * (math.sqrt(rank) if own.get("use_rslora") is True else 1.0)

    def scale(self, part: str, path: str) -> float | None:
        """Alpha / rank of a module whose tensors do not tell a rank; None where nothing is said."""
        rank = self._part(part)[0].get("r")
        if not isinstance(rank, int) or not _number(rank) or rank < 1:
            return None
        alpha = self.alpha(part, path, rank)
        return None if alpha is None else alpha / rank

    def cayley(self, part: str) -> bool:
        """Whether PEFT's OFT turns by Cayley's exact formula, and not by the beginning of a series, its default."""
        return self._part(part)[0].get("use_cayley_neumann") is False

    def _part(self, part: str) -> tuple[dict[str, Any], dict[str, tuple[int, float]]]:
        """The settings of a part, and end of a path -> (place in the pattern, alpha); kept for thousands of modules."""
        if part not in self._seen:
            start = f"{part}."
            own = {name.removeprefix(start): value for name, value in self.values.items() if name.startswith(start)}
            own = own or {name: value for name, value in self.values.items() if "." not in name}
            told = own.get("alpha_pattern")
            # PEFT takes patterns as regular expressions; what it writes itself are ends of paths.
            patterns = {
                _plain(name.lstrip("^").replace("\\.", ".")): (place, value)
                for place, (name, value) in enumerate(told.items() if isinstance(told, dict) else ())
                if _number(value)
            }
            self._seen[part] = own, patterns
        return self._seen[part]

    @cached_property
    def _seen(self) -> dict[str, tuple[dict[str, Any], dict[str, tuple[int, float]]]]:
        return {}


def peft_config(path: Path, metadata: Mapping[str, str]) -> PeftConfig:
    """What a file's config says: in its metadata, or beside it; nothing where there is none."""
    text = metadata.get(METADATA, "")
    beside = path.with_name(CONFIG)
    if not text and path.name == WEIGHTS and beside.is_file() and beside.stat().st_size <= LARGEST:
        text = beside.read_text("utf-8", errors="replace")
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):  # a foreign file's own mistake: it is as good as one that says nothing
        values = {}
    return PeftConfig(values if isinstance(values, dict) else {})


def _plain(path: str) -> str:
    """A path as every release of transformers has it: those before 5 have a `text_model.` in it."""
    return path.replace("text_model.", "")


def _number(value: object) -> bool:
    """Whether it is a number, and one that a float can be: JSON has whole ones of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_MUCH
