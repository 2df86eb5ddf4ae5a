"""A UNet with its adapter on the device: which layers learn, which kernels compute, how the base is held."""

from dataclasses import asdict, replace

from trainer.adapters.adapter import Adapter
from trainer.contract.catalog import pick, resolve
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.ladder import RUNGS
from trainer.contract.rundir import RunDir
from trainer.device import Engine, choose_attention
from trainer.formats.sizes import check_patterns, parameters, sizes_of
from trainer.kernels.check import trouble
from trainer.memory import plan
from trainer.protocols import Family, Target


def training_side(family: Family, config: RunConfig) -> int:
    """Side in pixels of the square whose area the run's largest pictures have."""
    return max(config.dataset.resolutions(family.resolution))


def with_kernels(run: RunDir, engine: Engine) -> Engine:
    """Go without our kernels where they cannot run, and without torch's compiler where they can.

    Raises:
        UserError: they were asked for by name.
    """
    if engine.kernels == "triton" and (reason := trouble()):
        if run.config().engine.kernels == "triton":
            raise UserError(f"our kernels cannot run here: {reason}", "engine.kernels", "Leave it at auto.")
        run.emit("notice", text=f"slower, without our own kernels, which cannot run here: {reason}")
        engine = replace(engine, kernels="torch")
    if engine.compile and engine.kernels == "triton":
        text = "without torch's compiler: our kernels fuse the same already (engine.kernels=torch does without them)"
        run.emit("notice", text=text)
        engine = replace(engine, compile=False)
    return engine


def load_adapted(run: RunDir, family: Family, config: RunConfig, pixels: int) -> tuple[Engine, Adapter]:
    """Choose how the UNet is held, load it so, and put the adapter into it.

    Args:
        run: is told what was chosen.
        family: its UNet is not loaded yet.
        config: the run's.
        pixels: latent pixels of a batch.
    """
    options, side = config.adapter, training_side(family, config)
    shapes = family.attentions(config.training.batch_size, side, side) if family.engine.device.type == "cuda" else []
    family.engine, found = choose_attention(family.engine, shapes)
    if found:
        run.emit("attention", **asdict(found))
    targets, trained = trained_layers(family, config)
    engine = family.engine = plan(run, family.engine, family, pixels, trained)
    parts = {target.part: family.part(target.part) for target in targets}
    adapter: Adapter = resolve(pick("adapter.method", options.method))(targets, parts, options, config.training.seed)
    family.checkpoint(RUNGS[engine.rung].share)
    return engine, adapter


def trained_layers(family: Family, config: RunConfig) -> tuple[list[Target], int]:
    """The layers that get an update, and how many numbers are trained; the UNet is not loaded for it.

    Raises:
        UserError: a pattern fits no layer.
    """
    options = config.adapter
    shapes = family.shapes(family.targets(options.targets, options.text_encoder, options.patterns))
    check_patterns(shapes, options)
    sizes = sizes_of(shapes, options)
    return list(sizes), parameters(shapes, sizes)


def latent_pixels(family: Family, config: RunConfig) -> int:
    """Latent pixels of one picture of the run, about."""
    side = training_side(family, config)
    _, height, width = family.latent_shape(side, side)
    return height * width
