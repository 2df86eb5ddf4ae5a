"""The mathematics of changing an adapter's rank. No layer's whole matrix is made where two small ones say the same.

A change W = up @ down of rank R is taken apart by QR of both factors and an SVD of the R x R matrix between them: it is
exact, and costs what the small matrices cost. Of a convolution, columns are inputs and pixels together. The energy of a
change is the sum of its squared singular values, its squared Frobenius norm; leaving the smallest out makes the least
possible error in that norm (Eckart and Young 1936). Everything is computed in float64.

Shapes: R rank, I inputs, O outputs, k... the sides of a convolution's kernel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from trainer.adapters.read import Update

OVERSAMPLED, POWERS = 16, 4  # of the randomised SVD: more directions than wanted, and passes over the matrix
SEED = 20090  # Halko, Martinsson and Tropp 2009: what is drawn there is the same each time


@dataclass(frozen=True)
class Parts:
    """A change taken apart: left @ diag(values) @ right.

    Attributes:
        left: [O, R], orthonormal columns.
        values: [R], descending.
        right: [R, I * k...], orthonormal rows.
        inner: I, k...
    """

    left: Tensor
    values: Tensor
    right: Tensor
    inner: tuple[int, ...]

    def cut(self, rank: int) -> Update:
        """The best change of a rank, float32; both factors get the roots of the singular values."""
        root = self.values[:rank].sqrt()
        down = (root[:, None] * self.right[:rank]).view(-1, *self.inner)
        up = (self.left[:, :rank] * root).view(len(self.left), -1, *[1] * (len(self.inner) - 1))
        return Update(down.float().contiguous(), up.float().contiguous())


def flat(update: Update) -> tuple[Tensor, Tensor]:
    """Return up [O, R] and down [R, I * k...] in float64."""
    return update.up.double().flatten(1), update.down.double().flatten(1)


def take_apart(update: Update) -> Parts:
    """Take a change of two factors apart, exactly."""
    up, down = flat(update)
    if up.shape[1] > min(len(up), down.shape[1]):  # of more ranks than the layer has: the layer is the smaller one
        return take_whole_apart((up @ down).view(len(up), *update.down.shape[1:]), min(len(up), down.shape[1]))
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    inside, values, across = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    return Parts(left @ inside, values, across @ right.T, tuple(update.down.shape[1:]))


def take_whole_apart(change: Tensor, most: int) -> Parts:
    """Take a whole matrix apart, its `most` largest values.

    Small ones exactly; of large ones a randomised SVD with power iterations (Halko, Martinsson and Tropp 2009,
    arXiv 0909.4061, algorithms 4.4 and 5.1), in the matrix's own type.

    Args:
        change: [O, I, k...].
        most: largest number of singular values.
    """
    matrix = change.flatten(1)
    wanted = most + OVERSAMPLED
    inner = tuple(change.shape[1:])
    if min(matrix.shape) <= 2 * wanted:
        left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
        return Parts(left[:, :most], values[:most], right[:most], inner)
    drawn = torch.randn(matrix.shape[1], wanted, generator=torch.Generator().manual_seed(SEED))
    basis, _ = torch.linalg.qr(matrix @ drawn.to(matrix))
    for _ in range(POWERS):
        other, _ = torch.linalg.qr(matrix.T @ basis)
        basis, _ = torch.linalg.qr(matrix @ other)
    left, values, right = torch.linalg.svd((basis.T @ matrix).double(), full_matrices=False)
    return Parts((basis.double() @ left)[:, :most], values[:most], right[:most], inner)


def side_by_side(updates: Sequence[Update], strengths: Sequence[float]) -> Update:
    """The sum of changes, each times its strength: their ranks side by side. Nothing is lost."""
    down = torch.cat([update.down for update in updates])
    up = torch.cat([update.up * strength for update, strength in zip(updates, strengths, strict=True)], dim=1)
    return Update(down, up)


def energies(values: Tensor) -> list[float]:
    """Singular values -> energy of the largest one, the two largest, ...: [R], ascending."""
    return list(accumulate((values.double() ** 2).tolist()))


def rank_for(running: Sequence[float], share: float, whole: float | None = None) -> int:
    """The smallest rank, at least 1, that keeps a share of the energy.

    Args:
        running: see `energies`.
        share: of the energy, at most 1.
        whole: energy in all, where `running` has not all of it.
    """
    wanted = share * (running[-1] if whole is None else whole) * (1 - 1e-12)  # the sums are rounded
    return next((rank for rank, energy in enumerate(running, 1) if energy >= wanted), len(running))


def compare(made: Update, wanted: Update) -> tuple[float, float]:
    """Return the energy of the difference of two changes, and the energy of the second.

    From inner products of the factors; relative errors below 1e-8 drown in the rounding of float64.
    """
    one, other = flat(made), flat(wanted)
    energy = _inner(other, other)
    return max(0.0, _inner(one, one) + energy - 2 * _inner(one, other)), energy


def relative(error: float, energy: float) -> float:
    """Relative Frobenius error, from energies."""
    return math.sqrt(error / energy) if energy else (math.inf if error else 0.0)


def _inner(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    (up, down), (other_up, other_down) = one, other
    if up.shape[1] * other_up.shape[1] > len(up) * down.shape[1]:  # what is made is the smaller of both ways
        return float(((up @ down) * (other_up @ other_down)).sum())
    return float(((up.T @ other_up) * (down @ other_down.T)).sum())
