"""What an adapter file says about itself: kohya's `ss_*` names, ModelSpec 1.0.1, cover picture, hashes.

A file must be a pure function of config, pictures and versions: a run resumed after a crash writes the same bytes as
one that never stopped. So there is no time of day, no path, no host and no random number in it, and the fields that
other trainers fill with those (`ss_training_started_at`, `modelspec.date`) are left out.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trainer.contract.names import safe_name
from trainer.formats.header import body_sha256, legacy_hash, parse_header, with_metadata
from trainer.formats.parameters import decimal_text

MAX_THUMBNAIL_BYTES = 128 * 1024  # the cover is stored a second time for ModelSpec readers while it is small

# By `ss_base_model_version`. Of 2.x adapters SwarmUI registers 768-v alone and takes those of 512 for 1.x
# (mcmonkeyprojects/SwarmUI 062407c, T2IModelClassSorter.cs, line 952); `prediction_type` tells the two apart.
_ARCHITECTURES = {
    "sd_v1": "stable-diffusion-v1/lora",
    "sd_v1_v": "stable-diffusion-v1/lora",
    "sd_v2": "stable-diffusion-v2-768-v/lora",
    "sd_v2_v": "stable-diffusion-v2-768-v/lora",
    "sdxl_base_v1-0": "stable-diffusion-xl-v1-base/lora",
}
# Whose module names the file has, as ModelSpec understands it; everything else has those of diffusers.
_IMPLEMENTATIONS = {"sdxl_base_v1-0": "https://github.com/Stability-AI/generative-models"}
HASH = "sshs_model_hash"
NAMES = frozenset(("ss_output_name", "modelspec.title"))  # where a file says its own name
_PLACE = re.compile(r"""(["'])((?:[A-Za-z]:[\\/]|[\\/]|~[\\/])(?:(?!\1)[^\n])*)\1""")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Pictures that are trained alike, as kohya's trainer has them in one folder.

    Attributes:
        trigger: word that calls them, "" for none.
        pictures, repeats: how many different ones, and how often each comes in an epoch.
        captions: as trained, one a picture; None keeps them private.
        name: of the folder, where there is no trigger.
        regularisation: whether they show what is not to change.
    """

    trigger: str = ""
    pictures: int
    repeats: int = 1
    captions: tuple[str, ...] | None = ()
    name: str = ""
    regularisation: bool = False

    @property
    def title(self) -> str:
        """As kohya would call it: readers take the trigger from behind the first "_"."""
        return f"{self.repeats}_{' '.join(self.trigger.split()) or safe_name(self.name)}"


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """Everything that a file says about its adapter.

    Attributes:
        name: of the file, without its suffix.
        base_version: kohya's name of the base's family ("sd_v1", "sd_v2", "sd_v2_v", "sdxl_base_v1-0"), or
            "lora-atelier-demo".
        base_name: name or Hub id of the base; of a path the last part is kept.
        base_sha256, base_short_hash: of the base where it is one file: of the whole of it, and AutoV1.
        rank, alpha: of the adapter; the effect is scaled by alpha / rank.
        method: of the catalogue; all but LoRA are LyCORIS' to other programs.
        network_args: further options of the adapter.
        dropout: share of the adapter's inputs dropped in training.
        trigger, captions, pictures, repeats: of the first folder, see `Folder`.
        further: other folders.
        dataset_sha256: tells whether two files learned from the same pictures and captions.
        resolution: side of the square whose area the pictures have, in pixels.
        buckets: (width, height, number of pictures) of each shape.
        steps, epochs: that this adapter was trained for; steps are the optimiser's.
        total_steps, total_epochs: of the whole run, 0 where it ends here.
        batch_size, accumulation: of the training.
        learning_rate, unet_learning_rate, text_encoder_learning_rate: None where that part is not trained.
        optimizer, schedule, warmup_steps: their names and settings.
        seed: of everything random.
        precision: "no", "fp16" or "bf16".
        has_text_encoder: whether the text encoders are trained too.
        clip_skip: 1 for the layer that the base is made for: the last one of 1.x, the one before it of 2.x and SDXL.
        prediction_type: "epsilon" or "v_prediction".
        zero_terminal_snr: whether the base's noise schedule ends in pure noise.
        ema: decay of the running average that these matrices are; 0 where they are the last ones.
        recipe: the run's config as TOML, without captions where those are private.
        versions: version by package.
        cover: bytes of a PNG, or None.
        preferred_strength: what to set the slider to, or None.
        author, license, description: as its maker says, "" for nothing.
    """

    name: str
    base_version: str
    base_name: str
    rank: int
    alpha: float
    pictures: int
    resolution: int
    steps: int
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    schedule: str
    seed: int
    recipe: str
    base_sha256: str = ""
    base_short_hash: str = ""
    total_steps: int = 0
    total_epochs: int = 0
    ema: float = 0.0
    method: str = "lora"
    network_args: Mapping[str, object] = field(default_factory=dict)
    dropout: float = 0.0
    trigger: str = ""
    captions: tuple[str, ...] | None = ()
    repeats: int = 1
    further: tuple[Folder, ...] = ()
    dataset_sha256: str = ""
    buckets: tuple[tuple[int, int, int], ...] = ()
    accumulation: int = 1
    unet_learning_rate: float | None = None
    text_encoder_learning_rate: float | None = None
    warmup_steps: int = 0
    precision: str = "no"
    has_text_encoder: bool = False
    clip_skip: int = 1
    prediction_type: str = "epsilon"
    zero_terminal_snr: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    cover: bytes | None = None
    preferred_strength: float | None = None
    author: str = ""
    license: str = ""
    description: str = ""

    @property
    def folders(self) -> tuple[Folder, ...]:
        """All pictures, the first folder's first."""
        first = Folder(
            trigger=self.trigger, pictures=self.pictures, repeats=self.repeats, captions=self.captions, name=self.name
        )
        return first, *self.further

    @property
    def triggers(self) -> tuple[str, ...]:
        """Every word that calls something."""
        return tuple(dict.fromkeys(folder.trigger for folder in self.folders if folder.trigger))


def adapter_metadata(facts: AdapterFacts) -> dict[str, str]:
    """Return the metadata of an adapter file, hashes aside (`sign` adds those)."""
    recipe = without_places(facts.recipe)
    own = {
        "format": "pt",
        "lora_atelier.versions": _json(dict(sorted(facts.versions.items()))),
        "lora_atelier.recipe": recipe,
        "lora_atelier.ema": decimal_text(facts.ema) if facts.ema else "None",
    }
    if facts.dataset_sha256:
        own["lora_atelier.dataset_sha256"] = facts.dataset_sha256
    return {
        **own,
        **_name(facts.name),
        **_network(facts),
        **_training(facts, recipe),
        **_pictures(facts),
        **_modelspec(facts),
        **_cover(facts),
    }


def sign(blob: bytes) -> bytes:
    """Return the same file with its hashes in the metadata; they are true for the returned bytes.

    They cover the tensors alone (`sshs_legacy_hash` also the `ss_` names), so storing them does not change them.

    Raises:
        UserError: `blob` is not sound safetensors.
    """
    digest = body_sha256(blob)
    hashes = {
        HASH: digest,
        "sshs_legacy_hash": legacy_hash(blob),
        "modelspec.hash_sha256": f"0x{digest}",
    }
    return with_metadata(blob, {**parse_header(blob).metadata, **hashes})


def renamed(blob: bytes, stem: str) -> bytes:
    """Return the same file as one that is called `stem`: two files of one `ss_output_name` are one to A1111.

    The tensors and their hash stay as they are. A file that says nothing of itself gets no more than the name.

    Raises:
        UserError: `blob` is not sound safetensors.
    """
    return sign(with_metadata(blob, {**parse_header(blob).metadata, **_name(stem)}))


def preferring(blob: bytes, strength: float, reason: str = "") -> bytes:
    """Return the same file with a strength that it says to be used at, and why; its tensors and hash stay.

    Raises:
        UserError: `blob` is not sound safetensors.
    """
    said = {"modelspec.lora_default_weight": decimal_text(strength), "lora_atelier.default_weight_reason": reason}
    metadata = {**parse_header(blob).metadata, **said}
    return sign(with_metadata(blob, {key: value for key, value in metadata.items() if value}))


def _name(stem: str) -> dict[str, str]:
    return {"ss_output_name": safe_name(stem), "modelspec.title": stem}


def tag_frequency(facts: AdapterFacts) -> dict[str, dict[str, int]]:
    """Return folder -> how many captions have each tag, the trigger first, as `ss_tag_frequency` has it.

    Regularisation pictures are left out: readers take every folder for a trigger.
    """
    return {folder.title: _tags_of(folder) for folder in facts.folders if not folder.regularisation}


def _tags_of(folder: Folder) -> dict[str, int]:
    trigger = " ".join(folder.trigger.split())
    tags = Counter(
        tag for caption in folder.captions or () for tag in dict.fromkeys(_tags(caption)) if tag != trigger.lower()
    )
    ordered = dict(sorted(tags.items(), key=lambda item: (-item[1], item[0])))
    return ({trigger: folder.pictures} if trigger else {}) | ordered


def without_places(recipe: str) -> str:
    """Keep of each absolute path in a TOML text its last part: the rest says who trained it, and where."""
    return _PLACE.sub(lambda found: found[1] + re.split(r"[\\/]+", found[2].rstrip("\\/"))[-1] + found[1], recipe)


def _network(facts: AdapterFacts) -> dict[str, str]:
    fields = {
        "ss_base_model_version": facts.base_version,
        "ss_v2": str(facts.base_version.startswith("sd_v2")),
        "ss_sd_model_name": _base_name(facts),
        "ss_network_module": "networks.lora" if facts.method == "lora" else "lycoris.kohya",
        "ss_network_dim": str(facts.rank),
        "ss_network_alpha": decimal_text(facts.alpha),
        "ss_network_dropout": decimal_text(facts.dropout) if facts.dropout else "None",
        "ss_network_args": _json(dict(sorted(facts.network_args.items()))),
        "ss_clip_skip": str(facts.clip_skip) if facts.clip_skip > 1 else "None",
        "ss_zero_terminal_snr": str(facts.zero_terminal_snr),
    }
    hashes = {"ss_sd_model_hash": facts.base_short_hash, "ss_new_sd_model_hash": facts.base_sha256}
    return fields | {key: value for key, value in hashes.items() if value}


def _training(facts: AdapterFacts, recipe: str) -> dict[str, str]:
    unet = facts.learning_rate if facts.unet_learning_rate is None else facts.unet_learning_rate
    text = facts.learning_rate if facts.text_encoder_learning_rate is None else facts.text_encoder_learning_rate
    return {
        # Others draw it at random; from the recipe it is as good at telling two runs apart, and the same on a resume.
        "ss_session_id": str(int(hashlib.sha256(recipe.encode(errors="replace")).hexdigest()[:8], 16)),
        "ss_learning_rate": decimal_text(facts.learning_rate),
        "ss_unet_lr": decimal_text(unet),
        "ss_text_encoder_lr": decimal_text(text) if facts.has_text_encoder else "None",
        "ss_optimizer": facts.optimizer,
        "ss_lr_scheduler": facts.schedule,
        "ss_lr_warmup_steps": str(facts.warmup_steps),
        "ss_seed": str(facts.seed),
        "ss_mixed_precision": facts.precision,
        "ss_steps": str(facts.steps),
        "ss_max_train_steps": str(facts.total_steps or facts.steps),
        "ss_num_epochs": str(facts.total_epochs or facts.epochs),
        "ss_epoch": str(facts.epochs),
        "ss_batch_size_per_device": str(facts.batch_size),
        "ss_total_batch_size": str(facts.batch_size * facts.accumulation),
        "ss_gradient_accumulation_steps": str(facts.accumulation),
    }


def _pictures(facts: AdapterFacts) -> dict[str, str]:
    side, folders = facts.resolution, facts.folders
    buckets = {
        str(index): {"resolution": [width, height], "count": count}
        for index, (width, height, count) in enumerate(facts.buckets)
    }
    info = {"buckets": buckets}
    learned, prior = ([one for one in folders if one.regularisation is what] for what in (False, True))
    counts = [sum(one.pictures * one.repeats for one in some) for some in (learned, prior)]
    dataset = {
        "is_dreambooth": True,
        "batch_size_per_device": facts.batch_size,
        "num_train_images": counts[0],
        "num_reg_images": counts[1],
        "resolution": [side, side],
        "enable_bucket": len(buckets) > 1,
        "tag_frequency": tag_frequency(facts),
        "bucket_info": info,
        "subsets": [_subset(folder) for folder in folders],
    }
    return {
        "ss_resolution": f"({side}, {side})",
        "ss_num_train_images": str(counts[0]),
        "ss_num_reg_images": str(counts[1]),
        "ss_enable_bucket": str(len(buckets) > 1),
        "ss_bucket_info": _json(info),
        "ss_dataset_dirs": _json(_dirs(learned)),
        "ss_reg_dataset_dirs": _json(_dirs(prior)),
        "ss_datasets": _json([dataset]),
        "ss_tag_frequency": _json(dataset["tag_frequency"]),
    }


def _subset(folder: Folder) -> dict[str, object]:
    return {
        "img_count": folder.pictures,
        "num_repeats": folder.repeats,
        "image_dir": folder.title,
        "class_tokens": folder.trigger or None,
        "is_reg": folder.regularisation,
    }


def _dirs(folders: Iterable[Folder]) -> dict[str, dict[str, int]]:
    return {one.title: {"n_repeats": one.repeats, "img_count": one.pictures} for one in folders}


def _modelspec(facts: AdapterFacts) -> dict[str, str]:
    fields = {
        "sai_model_spec": "1.0.1",
        "architecture": _ARCHITECTURES.get(facts.base_version, facts.base_version),
        "implementation": _IMPLEMENTATIONS.get(facts.base_version, "diffusers"),
        "resolution": f"{facts.resolution}x{facts.resolution}",
        "prediction_type": "v" if facts.prediction_type.startswith("v") else facts.prediction_type,
    }
    if facts.triggers:
        listed = " or ".join(f'"{trigger}"' for trigger in facts.triggers)
        fields |= {"trigger_phrase": ", ".join(facts.triggers), "usage_hint": f"Put {listed} in the prompt."}
    said = {"author": facts.author, "license": facts.license, "description": facts.description}
    fields |= {key: value for key, value in said.items() if value}
    if facts.clip_skip > 1:
        fields["encoder_layer"] = str(facts.clip_skip)
    if facts.preferred_strength is not None:
        fields["lora_default_weight"] = decimal_text(facts.preferred_strength)
    return {f"modelspec.{key}": value for key, value in fields.items()}


def _cover(facts: AdapterFacts) -> dict[str, str]:
    if facts.cover is None:
        return {}
    text = base64.b64encode(facts.cover).decode()
    fields = {"ssmd_cover_images": _json([text])}  # A1111's: raw base64, without "data:"
    if len(facts.cover) <= MAX_THUMBNAIL_BYTES:
        fields["modelspec.thumbnail"] = f"data:image/png;base64,{text}"
    return fields


def _base_name(facts: AdapterFacts) -> str:
    return without_places(f'"{facts.base_name}"').strip('"')


def _tags(caption: str) -> list[str]:
    return [tag for tag in (" ".join(part.split()).lower() for part in caption.split(",")) if tag]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
