"""The mathematics of changing a rank, against whole matrices in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.adapters.read import Update
from trainer.export.svd import compare, energies, rank_for, relative, side_by_side, take_apart, take_whole_apart


def whole(update):
    return update.up.double().flatten(1) @ update.down.double().flatten(1)


@st.composite
def updates(draw):
    rank, outputs, inputs = draw(st.integers(1, 12)), draw(st.integers(1, 10)), draw(st.integers(1, 10))
    kernel = draw(st.sampled_from([(), (1, 1), (3, 3)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    down = torch.randn(rank, inputs, *kernel, generator=generator)
    return Update(down, torch.randn(outputs, rank, *[1] * len(kernel), generator=generator))


@settings(max_examples=60, deadline=None)
@given(updates(), st.integers(1, 12))
def test_a_cut_is_the_best_of_its_rank_and_its_error_is_what_the_values_say(update, rank):
    parts, matrix = take_apart(update), whole(update)
    cut = parts.cut(rank)
    assert cut.down.shape[1:] == update.down.shape[1:] and cut.up.shape[2:] == update.up.shape[2:]
    best = torch.linalg.svdvals(matrix)
    count = min(len(best), len(parts.values))
    torch.testing.assert_close(parts.values[:count], best[:count], rtol=1e-9, atol=1e-9)
    left_out = float(best[rank:].square().sum())
    error, energy = compare(cut, update)
    assert float((whole(cut) - matrix).square().sum()) == pytest.approx(left_out, rel=1e-4, abs=1e-8)
    assert error == pytest.approx(left_out, rel=1e-4, abs=1e-8)
    assert energy == pytest.approx(float(matrix.square().sum()), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(updates(), st.floats(-2, 2), st.floats(-2, 2))
def test_ranks_side_by_side_are_the_sum(update, one, other):
    again = Update(update.down.flip(0) * 2, update.up + 1)
    summed = side_by_side([update, again], [one, other])
    torch.testing.assert_close(whole(summed), one * whole(update) + other * whole(again), rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0.01, 1))
def test_the_rank_is_the_smallest_that_holds_the_share(values, share):
    running = energies(torch.tensor(sorted(values, reverse=True), dtype=torch.float64))
    rank = rank_for(running, share)
    assert 1 <= rank <= len(running) and running[rank - 1] >= share * running[-1] * (1 - 1e-9)
    assert rank == 1 or running[rank - 2] < share * running[-1]


def test_a_large_matrix_is_taken_apart_by_chance_as_by_the_book():
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(200, 120, generator=generator))[0] for _ in range(2))
    matrix = left * 0.8 ** torch.arange(120) @ right.T
    parts = take_whole_apart(matrix, 10)
    torch.testing.assert_close(parts.values.float(), 0.8 ** torch.arange(10.0), rtol=1e-4, atol=0)
    error, energy = (float(one.square().sum()) for one in (matrix - whole(parts.cut(10)).float(), matrix))
    assert relative(error, energy) == pytest.approx(0.8**10, rel=1e-3)
    assert torch.equal(take_whole_apart(matrix, 10).right, parts.right), "drawn the same each time"
