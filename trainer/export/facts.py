"""What the exported file says of its run, gathered from where it is known."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from trainer import __version__
from trainer.contract.compose import to_toml
from trainer.contract.config import AdapterSection, RunConfig
from trainer.contract.errors import UserError
from trainer.contract.rates import part_rate
from trainer.contract.rundir import RunDir
from trainer.contract.schedules import schedule_name, warmup_steps
from trainer.data.cache import Cache
from trainer.data.views import CachedPicture
from trainer.formats.bases import find_base
from trainer.formats.header import file_sha256, short_hash
from trainer.formats.metadata import AdapterFacts, Folder
from trainer.formats.sizes import group_size
from trainer.protocols import Family

PRECISIONS = {"bf16": "bf16", "fp16": "fp16"}  # of the engine -> as ss_mixed_precision has them
PACKAGES = ("torch", "diffusers", "transformers")


class Moment(NamedTuple):
    """When an adapter file is written.

    Attributes:
        name: of the file, without its suffix.
        step: optimiser steps done.
        total: of the whole run.
        steps_per_epoch: optimiser steps of one pass over the set.
        cover: a PNG, or None.
    """

    name: str
    step: int
    total: int
    steps_per_epoch: float
    cover: bytes | None

    def epochs(self, steps: int) -> int:
        """Passes over the set in that many steps, at least one."""
        return max(1, round(steps / self.steps_per_epoch))


def adapter_facts(run: RunDir, config: RunConfig, family: Family, cache: Cache, at: Moment) -> AdapterFacts:
    """Gather the facts of a run at one moment."""
    adapter, export = config.adapter, config.export
    whole, short = _base_hashes(config.model.base)
    return AdapterFacts(
        name=at.name,
        base_version=family.base_version,
        base_name=family.base_name,
        base_sha256=whole,
        base_short_hash=short,
        prediction_type=family.prediction,
        clip_skip=family.clip_skip,
        zero_terminal_snr=bool(family.scheduler.get("rescale_betas_zero_snr", False)),
        rank=adapter.rank,
        alpha=adapter.scale * adapter.rank,
        dropout=adapter.dropout,
        method=adapter.method,
        network_args=_network_args(adapter),
        has_text_encoder=adapter.text_encoder,
        resolution=max(config.dataset.resolutions(family.resolution)),
        precision=PRECISIONS.get(run.engine().get("dtype", ""), "no"),
        recipe=to_toml(config if export.captions else without_captions(config)),
        versions={"lora-atelier": __version__, **{name: version(name) for name in PACKAGES}},
        cover=at.cover,
        preferred_strength=export.preferred_weight,
        author=export.author,
        license=export.license,
        description=export.description,
        **_pictures(run, config, cache),
        **_training(config, at),
    )


def _pictures(run: RunDir, config: RunConfig, cache: Cache) -> dict[str, Any]:
    first, *further = folders(run, config, cache)
    return {
        "trigger": first.trigger,
        "captions": first.captions,
        "pictures": first.pictures,
        "repeats": first.repeats,
        "further": tuple(further),
        "dataset_sha256": fingerprint(cache.originals),
        "buckets": _buckets(cache),
    }


def _training(config: RunConfig, at: Moment) -> dict[str, Any]:
    training = config.training
    return {
        "steps": at.step,
        "epochs": at.epochs(at.step),
        "total_steps": at.total,
        "total_epochs": at.epochs(at.total),
        "batch_size": training.batch_size,
        "accumulation": training.accumulation,
        "learning_rate": part_rate(config, "unet"),
        "unet_learning_rate": part_rate(config, "unet"),
        "text_encoder_learning_rate": part_rate(config, "text_encoder") if config.adapter.text_encoder else None,
        "optimizer": config.optimizer.name,
        "schedule": schedule_name(config),
        "warmup_steps": warmup_steps(config.schedule.warmup, at.total),
        "seed": training.seed,
        "ema": training.ema if config.export.ema else 0.0,
    }


def folders(run: RunDir, config: RunConfig, cache: Cache) -> list[Folder]:
    """The pictures as kohya's trainer would have them lie: a folder for each trigger and number of repeats.

    What is learned comes first, regularisation pictures last.
    """
    groups: dict[tuple[bool, int, str, int], list[CachedPicture]] = {}
    for row in cache.originals:
        number = int(row.key.partition("/")[0])  # of the set
        groups.setdefault((row.prior, number, row.trigger, row.repeats), []).append(row)
    names = [run.name, *(Path(concept.path).name for concept in config.dataset.concepts)]
    return [
        Folder(
            trigger=trigger,
            repeats=repeats,
            pictures=len(rows),
            captions=tuple(row.texts[0] for row in rows) if config.export.captions else None,
            name=names[number],
            regularisation=prior,
        )
        for (prior, number, trigger, repeats), rows in sorted(groups.items(), key=lambda item: item[0][:2])
    ]


def fingerprint(pictures: Sequence[CachedPicture]) -> str:
    """SHA-256 of what is trained on: the content of every picture and mask, and its words. Names and places do not
    count, nor does the order.
    """
    shown = sorted(repr((row.digest, row.mask_digest, row.texts, row.repeats, row.prior)) for row in pictures)
    return hashlib.sha256("\n".join(shown).encode(errors="replace")).hexdigest()


def without_captions(config: RunConfig) -> RunConfig:
    """The same config without what may be words of captions: affixes and sample prompts. Triggers stay."""
    affixes = {"caption_prefix": "", "caption_suffix": ""}
    concepts = tuple(
        concept.model_copy(update={key: value for key, value in affixes.items() if getattr(concept, key)})
        for concept in config.dataset.concepts
    )
    return config.model_copy(
        update={
            "dataset": config.dataset.model_copy(update={**affixes, "concepts": concepts}),
            "sampling": config.sampling.model_copy(update={"prompts": (), "negative": ""}),
        }
    )


def _base_hashes(base: str) -> tuple[str, str]:
    """(SHA-256, AutoV1) of a base that is one file here; nothing of a folder, which has no single hash."""
    path = None
    with suppress(UserError):  # it was there when training began; the adapter is worth writing all the same
        path = find_base(base)
    if path is None or not path.is_file():
        return "", ""
    return _hashes(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _hashes(path: Path, changed: int) -> tuple[str, str]:
    """Read once a process: a base has gigabytes. `changed` makes an overwritten file another one."""
    return file_sha256(path), short_hash(path)


def _network_args(adapter: AdapterSection) -> dict[str, object]:
    """What is not as it is by default, under kohya's names where it has one."""
    return dict(_args(adapter))


def _args(adapter: AdapterSection) -> Iterator[tuple[str, object]]:
    yield "targets", adapter.targets
    if adapter.method != "lora":
        yield "algo", "locon" if adapter.method == "dora" else adapter.method
    if adapter.method == "dora":
        yield "dora_wd", True
    if adapter.spatial:
        size = group_size("conv_", adapter)
        yield "conv_dim", size.rank
        yield "conv_alpha", size.alpha  # over conv_dim the scale, rsLoRA or not
    own = adapter.text_encoder_rank, adapter.text_encoder_alpha
    if adapter.text_encoder and own != ("auto", "auto"):
        size = group_size("text_encoder_", adapter)
        yield "text_encoder_dim", size.rank
        yield "text_encoder_alpha", size.alpha
    for name in ("rank_dropout", "module_dropout", "rslora", "ranks", "alphas"):
        if value := getattr(adapter, name):
            yield name, value


def _buckets(cache: Cache) -> tuple[tuple[int, int, int], ...]:
    counted = Counter((picture.bucket.width, picture.bucket.height) for picture in cache.pictures)
    return tuple((width, height, count) for (width, height), count in sorted(counted.items()))
