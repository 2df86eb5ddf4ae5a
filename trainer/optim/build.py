"""From a row of the catalogue to an optimiser; and its rehearsal, before any weight is loaded."""

import difflib
import inspect
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from types import MappingProxyType
from typing import Any

import torch

from trainer.adapters.arena import Arena, Slot
from trainer.contract.catalog import PASSED, check_package, optimizer_row, resolve
from trainer.contract.config import OptimizerSection, RunConfig
from trainer.contract.errors import UserError
from trainer.contract.rates import peak_rates
from trainer.contract.rows import OptimizerRow
from trainer.formats.sizes import Size
from trainer.optim.average import Averaged
from trainer.optim.foreign import Foreign
from trainer.optim.norms import NormLimit
from trainer.optim.scaling import Checked, Guard, LossScale
from trainer.protocols import Optimizer, Target


def build(arena: Arena, config: RunConfig, sizes: Mapping[Target, Size] = MappingProxyType({})) -> Checked:
    """The optimiser of a run, with a guard or a loss scale around it, a limit of norms and an average if asked for.

    Args:
        arena: is stepped.
        config: the run's.
        sizes: of the layers, for the limit of their norms.

    Raises:
        UserError: see `plain`.
    """
    optimizer: Optimizer = plain(arena, config.optimizer)
    if config.adapter.max_norm:
        optimizer = NormLimit(optimizer, arena, sizes, config.adapter.max_norm)
    if config.training.ema:
        optimizer = Averaged(optimizer, arena, config.training.ema, config.export.ema)
    return (LossScale if arena.work.dtype == torch.float16 else Guard)(optimizer, arena)


def plain(arena: Arena, options: OptimizerSection) -> Optimizer:
    """What a row of the catalogue, or a dotted name, stands for.

    Raises:
        UserError: its package is missing, it is no optimiser, or it does not take its arguments.
    """
    row = optimizer_row(options.name)
    kind = _imported(row)
    if row.path.startswith("trainer."):
        if options.arguments:
            problem = f"{row.title} takes no more arguments than it has settings"
            raise UserError(problem, "optimizer.arguments", "Leave them empty.")
        return kind(arena, options)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise UserError(f"{options.name} is not a torch.optim.Optimizer", "optimizer.name", "Name such a class.")
    known = _known(kind)
    _check_arguments(known, row, options)
    passed = {name: _passed(name, options) for name in row.passes}
    if "lr" in known:
        passed["lr"] = row.rate if options.learning_rate == "auto" else options.learning_rate
    try:
        with redirect_stdout(io.StringIO()):  # some have something to say there
            arguments = {**passed, **dict(row.arguments), **options.arguments}
            return Foreign(arena, kind, arguments, row.whole, row.one_rate)
    except Exception as error:  # whatever a class of somebody else's raises
        problem = f"{row.title} cannot be made so: {error}"
        raise UserError(problem, "optimizer.arguments", "See the documentation of the class.") from error


def _passed(name: str, options: OptimizerSection) -> Any:
    """An argument's value: one setting, or a tuple of several."""
    values = tuple(getattr(options, setting) for setting in PASSED[name])
    return values if len(values) > 1 else values[0]


def _known(kind: type) -> list[str]:
    """Arguments of a class and of those it is made from; the first two are itself and the parameters."""
    makers = [base.__init__ for base in kind.__mro__ if base not in (torch.optim.Optimizer, object)]
    return [name for maker in makers for name in inspect.signature(maker).parameters]


def _check_arguments(known: Sequence[str], row: OptimizerRow, options: OptimizerSection) -> None:
    """Some classes take anything and pass over what they do not know; a misspelt argument would have no effect."""
    for name in options.arguments:
        if name == "lr":
            problem = f"{row.title} is given its rate by the schedule, step by step"
            raise UserError(problem, "optimizer.arguments", "Set optimizer.learning_rate instead of lr.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(dict.fromkeys(known[2:]))}."
            raise UserError(f"{row.title} has no argument '{name}'", "optimizer.arguments", hint)


def _imported(row: OptimizerRow) -> Any:
    check_package(row)
    try:
        return resolve(row)
    except (ImportError, AttributeError) as error:
        problem = f"there is no {row.title} to be imported: {error}"
        raise UserError(problem, "optimizer.name", "Check how its name is spelt.") from error


def rehearse(config: RunConfig) -> None:
    """Train two small matrices: a few steps, a save, a step; then load what was saved and take that step again.

    What cannot be trained with, or would not go on exactly after a stop, says so here: nothing is loaded for it.

    Raises:
        UserError: see `plain`; or it cannot be stepped, saved, or taken up again.
    """
    name = config.optimizer.name
    try:
        whole, again = _rehearsed(config)
    except UserError:
        raise
    except Exception as error:  # whatever a class of somebody else's raises
        problem = f"{name} cannot be used here: {type(error).__name__}: {error}"
        raise UserError(problem, "optimizer.name", "Take another optimiser.") from error
    if not torch.equal(whole.master, again.master):
        problem = f"{name} keeps something that cannot be saved: a run that is stopped would go on differently"
        raise UserError(problem, "optimizer.name", "Take another optimiser.")


def _rehearsed(config: RunConfig) -> tuple[Arena, Arena]:
    """The same matrices, trained through and with a save in between."""
    parts = ("text_encoder", "unet") if config.adapter.text_encoder else ("unet",)
    slots = [Slot(f"{part}.a.{letter}", f"{part}.{letter}", shape) for part in parts for letter, shape in _SHAPES]
    through, after = arenas = [Arena(slots, torch.device("cpu"), torch.float32) for _ in range(2)]
    for arena in arenas:
        arena.master.copy_(torch.linspace(-1, 1, len(arena.master)))
    rates = peak_rates(config, through.groups)
    optimizer = plain(through, config.optimizer)
    for step in range(4):
        if step == 2 and config.adapter.text_encoder_until != "end":
            optimizer.settle([group for group in rates if not group.startswith("unet.")])
            rates = {group: rate for group, rate in rates.items() if group.startswith("unet.")}
        through.grad.copy_(torch.linspace(0.5 * step - 1, 1, len(through.grad)))
        if step == 3:
            after.master.copy_(through.master)
            fresh = plain(after, config.optimizer)
            fresh.load({name: tensor.clone() for name, tensor in optimizer.state().items()})
            fresh.settle([group for group in through.groups if group not in rates])
            after.grad.copy_(through.grad)
            fresh.step(rates)
        optimizer.step(rates)
    return through, after


_SHAPES = (("A", (4, 8)), ("B", (8, 4)))
