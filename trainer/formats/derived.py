"""What an adapter file says of itself that was made of other adapter files: nothing that is not true of it any more."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.names import safe_name
from trainer.formats.inspect import Inspection
from trainer.formats.parameters import decimal_text

# True of the bytes of a file, or of the run that wrote it; the rest of a single source stays true of what was learnt.
OF_THE_FILE = (
    "sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", "lora_atelier.recipe", "ss_network_args",
    "lora_adapter_metadata",
)  # fmt: skip
# Of several sources what they have in common.
SHARED = (
    "ss_base_model_version", "ss_v2", "ss_sd_model_name", "ss_new_sd_model_hash", "ss_clip_skip",
    "ss_zero_terminal_snr", "ss_resolution", "modelspec.architecture", "modelspec.implementation",
    "modelspec.resolution", "modelspec.prediction_type", "modelspec.encoder_layer", "modelspec.sai_model_spec",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """A file that another was made of.

    Attributes:
        facts: what `inspect` says of it.
        metadata: its own.
        strength: in the mix.
    """

    facts: Inspection
    metadata: dict[str, str]
    strength: float = 1.0

    @property
    def source(self) -> dict[str, object]:
        """Name, hash and strength."""
        return {"name": Path(self.facts.file).stem, "hash": self.facts.hash, "strength": self.strength}


def derived(origins: Sequence[Origin], made: str, out: Path, rank: int) -> dict[str, str]:
    """Metadata of a file, hashes aside (`trainer.formats.metadata.sign` adds those).

    Args:
        origins: what it was made of.
        made: what was done, as a sentence.
        out: the file.
        rank: the largest of a layer; its alpha is the same.
    """
    first = origins[0].metadata
    if len(origins) == 1:
        kept = {key: value for key, value in first.items() if key not in OF_THE_FILE}
    else:
        kept = {
            key: first[key]
            for key in SHARED
            if key in first and all(o.metadata.get(key) == first[key] for o in origins)
        } | _words(origins)
    if "modelspec.sai_model_spec" in kept:
        kept["modelspec.title"] = out.stem
        kept["modelspec.merged_from"] = ", ".join(f"{o.source['name']}:{decimal_text(o.strength)}" for o in origins)
    own = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": decimal_text(float(rank)),
        "ss_output_name": safe_name(out.stem),
        "lora_atelier.made": made,
        "lora_atelier.sources": json.dumps([origin.source for origin in origins]),
    }
    return kept | own


def renamed(origin: Origin, made: str, out: Path) -> dict[str, str]:
    """Metadata of the same adapter under other names or in another number type."""
    hashes = [key for key in OF_THE_FILE if "hash" in key]
    kept = {key: value for key, value in origin.metadata.items() if key not in (*hashes, "lora_adapter_metadata")}
    own = {
        "format": "pt",
        "ss_output_name": safe_name(out.stem),
        "lora_atelier.made": made,
        "lora_atelier.sources": json.dumps([origin.source]),
    }
    return kept | own


def _words(origins: Sequence[Origin]) -> dict[str, str]:
    """The words that call any of them, and how often each tag was seen."""
    triggers = ", ".join(dict.fromkeys(word for origin in origins for word in origin.facts.triggers))
    tags: dict[str, object] = {}
    for origin in origins:
        try:
            tags |= dict(json.loads(origin.metadata.get("ss_tag_frequency", "{}")))
        except (ValueError, TypeError, RecursionError):
            continue  # a foreign file's own mistake
    found = {"ss_tag_frequency": json.dumps(tags, ensure_ascii=False)} if tags else {}
    hint = {"modelspec.trigger_phrase": triggers, "modelspec.usage_hint": f'Put "{triggers}" in the prompt.'}
    return found | (hint if triggers else {})
