"""Packages that a config asks for beyond those that every installation has."""

import importlib.util

from trainer.contract.catalog import check_package, optimizer_row
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError


def check_packages(config: RunConfig) -> None:
    """Look for the packages that a run will need, without importing them.

    Raises:
        UserError: one is not installed; says how to.
    """
    check_package(optimizer_row(config.optimizer.name))
    if config.tracking.wandb and importlib.util.find_spec("wandb") is None:
        fix = "Run: python -m pip install wandb && wandb login. Or set tracking.wandb=false."
        raise UserError("Weights & Biases needs the package wandb, which is not installed", "tracking.wandb", fix)
