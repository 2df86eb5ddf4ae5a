"""Distributions of timesteps against hand-worked values, and as what they are drawn from."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.catalog import TIMESTEPS, resolve
from trainer.contract.compose import compose
from trainer.contract.config import ObjectiveSection
from trainer.data.noising import Noising
from trainer.objectives.timesteps import early, in_range, late, logit_normal, stratified, uniform

HALF = torch.tensor([0.5])


def test_distributions_by_hand():
    options = ObjectiveSection(timestep_mean=0.5, timestep_std=2.0, timestep_bias=2.0)
    assert uniform(HALF, options).item() == 0.5
    assert early(HALF, options).item() == 0.25 and late(HALF, options).item() == 0.75
    one_deviation = torch.tensor([0.84134475])
    torch.testing.assert_close(logit_normal(HALF, options), torch.sigmoid(torch.tensor([0.5])))
    torch.testing.assert_close(logit_normal(one_deviation, options), torch.sigmoid(torch.tensor([2.5])))


@pytest.mark.parametrize("name", TIMESTEPS)
def test_every_distribution_rises_from_0_to_1(name):
    shares = resolve(TIMESTEPS[name])(torch.linspace(0, 1, 101), ObjectiveSection())
    assert shares[0] == 0 and shares[-1] == 1 and (shares.diff() >= 0).all()


def test_strata_and_ranges_by_hand():
    at = stratified(torch.tensor([0.0, 0.5]), torch.tensor([3, 0]), 4)
    torch.testing.assert_close(at, torch.tensor([0.75, 0.125]))
    assert in_range(torch.tensor([0.0, 0.5, 1.0]), 200, 600).tolist() == [200, 400, 599]


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        ({}, (0, 1000)),
        ({"min_timestep": 0.2, "max_timestep": 0.6}, (200, 600)),
        ({"min_timestep": 200, "max_timestep": 600}, (200, 600)),
        ({"min_timestep": 1, "max_timestep": 1}, (1, 1000)),
    ],
)
def test_ranges_are_shares_or_numbers(given_, found):
    assert ObjectiveSection(**given_).timestep_range(1000) == found


def noising(accumulation=1, seed=0, rank=0, processes=1, **options) -> Noising:
    training = {"steps": 1, "batch_size": 4, "accumulation": accumulation, "seed": seed}
    config = compose([{"dataset": {"path": "x"}, "training": training, "objective": options}], "keep")
    return Noising(config, 1000, rank * 4, processes * 4)


def test_without_options_timesteps_are_those_of_earlier_versions():
    """A run that was begun before there were ranges and distributions goes on with the same draws."""
    assert noising().timesteps(5).tolist() == [429, 509, 73, 616]


@pytest.mark.parametrize("name", TIMESTEPS)
def test_timesteps_keep_to_their_range_and_their_distribution(name):
    drawn = torch.cat([noising(timesteps=name, min_timestep=0.4, max_timestep=900).timesteps(at) for at in range(99)])
    assert drawn.min() >= 400 and drawn.max() < 900
    middle = {"uniform": 650, "logit_normal": 650, "early": 400 + 500 / 3, "late": 400 + 500 * 2 / 3}[name]
    assert drawn.float().mean() == pytest.approx(middle, abs=20)


@given(step=st.integers(0, 10**6), accumulation=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_stratified_each_step_covers_the_range_once(step, accumulation, seed):
    drawing = noising(accumulation, seed, stratified=True)
    drawn = torch.cat([drawing.timesteps(step * accumulation + micro) for micro in range(accumulation)])
    width = 1000 / (4 * accumulation)
    for part, timestep in enumerate(sorted(drawn.tolist())):
        assert part * width - 1 < timestep < (part + 1) * width


def test_two_processes_share_out_the_range_and_draw_noise_of_their_own():
    both = [noising(rank=rank, processes=2, stratified=True, pyramid_iterations=3) for rank in range(2)]
    parts = [int(at * 8 / 1000) for one in both for at in one.timesteps(7).tolist()]
    assert sorted(parts) == list(range(8)), "no timestep of this step lies at the edge of its part"
    first, second = (one.noise(7, (4, 8, 8)) for one in both)
    assert not any(torch.equal(one, other) for one in first for other in second)


def test_stratified_steps_are_not_all_in_the_same_order():
    drawing = noising(stratified=True)
    assert len({tuple(drawing.timesteps(step).argsort().tolist()) for step in range(20)}) > 5


@pytest.mark.parametrize("options", [{}, {"noise_offset": 0.1}, {"pyramid_iterations": 6, "pyramid_discount": 0.5}])
def test_noise_is_a_function_of_seed_and_micro_step(options):
    one, again = (noising(**options).noise(3, (4, 8, 8)) for _ in range(2))
    assert torch.equal(one, again) and one.shape == (4, 4, 8, 8)
    assert not torch.equal(one, noising(**options).noise(4, (4, 8, 8)))
    assert not torch.equal(one, noising(seed=1, **options).noise(3, (4, 8, 8)))
    assert torch.equal(one, noising().noise(3, (4, 8, 8))) == (not options)


def test_input_perturbation_is_only_there_where_it_is_asked_for():
    noise = noising().noise(3, (4, 8, 8))
    assert noising().added(3, noise) is None
    added = noising(input_perturbation=0.1).added(3, noise)
    assert 0.09 < (added - noise).std() < 0.11 and torch.equal(added, noising(input_perturbation=0.1).added(3, noise))
