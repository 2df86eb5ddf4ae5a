"""What the exported file says of its run, gathered from where it is known."""

from collections import Counter
from importlib.metadata import version

from trainer import __version__
from trainer.contract.compose import to_toml
from trainer.contract.config import AdapterSection, RunConfig
from trainer.contract.rates import part_rate
from trainer.contract.rundir import RunDir
from trainer.contract.schedules import schedule_name, warmup_steps
from trainer.data.cache import Cache
from trainer.formats.metadata import AdapterFacts
from trainer.protocols import Family

PRECISIONS = {"bf16": "bf16", "fp16": "fp16"}  # of the engine -> as ss_mixed_precision has them
PACKAGES = ("torch", "diffusers", "transformers")


def adapter_facts(
    run: RunDir, config: RunConfig, family: Family, cache: Cache, steps: int, cover: bytes | None
) -> AdapterFacts:
    """Gather the facts of a finished run: `steps` were taken, `cover` is a PNG or None."""
    training, adapter = config.training, config.adapter
    captions = tuple(picture.texts[0] for picture in cache.originals)
    views = steps * training.batch_size * training.accumulation
    return AdapterFacts(
        name=run.name,
        base_version=family.base_version,
        base_name=family.base_name,
        prediction_type=family.prediction,
        clip_skip=family.clip_skip,
        zero_terminal_snr=bool(family.scheduler.get("rescale_betas_zero_snr", False)),
        rank=adapter.rank,
        alpha=adapter.scale * adapter.rank,
        dropout=adapter.dropout,
        method=adapter.method,
        network_args=_network_args(adapter),
        has_text_encoder=adapter.text_encoder,
        trigger=config.dataset.trigger,
        captions=captions if config.export.captions else None,
        pictures=len(captions),
        resolution=max(config.dataset.resolutions(family.resolution)),
        buckets=_buckets(cache),
        steps=steps,
        epochs=max(1, round(views / len(captions))),
        batch_size=training.batch_size,
        accumulation=training.accumulation,
        learning_rate=part_rate(config, "unet"),
        unet_learning_rate=part_rate(config, "unet"),
        text_encoder_learning_rate=part_rate(config, "text_encoder") if adapter.text_encoder else None,
        optimizer=config.optimizer.name,
        schedule=schedule_name(config),
        warmup_steps=warmup_steps(config.schedule.warmup, steps),
        seed=training.seed,
        precision=PRECISIONS.get(run.engine().get("dtype", ""), "no"),
        recipe=to_toml(config),
        versions={"lora-atelier": __version__, **{name: version(name) for name in PACKAGES}},
        cover=cover,
    )


def _network_args(adapter: AdapterSection) -> dict[str, object]:
    """What is not as it is by default, under kohya's names where it has one."""
    found: dict[str, object] = {"targets": adapter.targets}
    if adapter.method != "lora":
        found |= {"algo": "locon", "dora_wd": True} if adapter.method == "dora" else {"algo": adapter.method}
    if adapter.spatial:
        rank = adapter.rank if adapter.conv_rank == "auto" else adapter.conv_rank
        alpha = adapter.scale * rank if adapter.conv_alpha == "auto" else adapter.conv_alpha
        found |= {"conv_dim": rank, "conv_alpha": alpha}
    for name in ("rank_dropout", "module_dropout", "rslora", "ranks", "alphas"):
        if value := getattr(adapter, name):
            found[name] = value
    return found


def _buckets(cache: Cache) -> tuple[tuple[int, int, int], ...]:
    counted = Counter((picture.bucket.width, picture.bucket.height) for picture in cache.pictures)
    return tuple((width, height, count) for (width, height), count in sorted(counted.items()))
