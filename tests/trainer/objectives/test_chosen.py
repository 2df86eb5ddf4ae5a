"""The objective in a run: every row learns something of its own, from a real model and real pictures."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import make_pictures
from tests.trainer.objectives.rows import ROWS
from trainer.assemble import AssembledRun, assemble
from trainer.console import Reporter
from trainer.contract.catalog import LOSSES, WEIGHTINGS
from trainer.contract.compose import compose
from trainer.contract.config import ObjectiveSection
from trainer.contract.rundir import create_run
from trainer.objectives.chosen import Objective
from trainer.objectives.diffusion import alphas_cumprod
from trainer.protocols import Batch


@pytest.fixture(scope="module", params=[False, True], ids=["frozen text encoder", "trained text encoder"])
def run(request, tiny_sd, tmp_path_factory) -> AssembledRun:
    """A run of two pictures and as many of regularisation, with a mask, whose adapter is not zero any more."""
    home = tmp_path_factory.mktemp("home")
    folder, prior = make_pictures(home / "set", 2), make_pictures(home / "prior", 2)
    layer = {
        "model": {"base": str(tiny_sd), "device": "cpu"},
        "dataset": {"path": str(folder), "concepts": [{"path": str(prior), "regularisation": True}]},
        "adapter": {"rank": 4, "text_encoder": request.param},
        "training": {"steps": 3, "batch_size": 4, "threads": 1},
        "sampling": {"every": "never"},
    }
    assembled = assemble(create_run(home, "run", compose([layer])), Reporter(None))
    arena = assembled.adapter.arena
    arena.master.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    arena.publish()
    return assembled


def with_objective(run: AssembledRun, **options) -> AssembledRun:
    changed = {"objective": run.config.objective.model_copy(update=options)}
    config = run.config.model_copy(update=changed)
    batches = replace(run.batches, config=config)
    return replace(run, config=config, batches=batches, objective=Objective(
        config.objective, run.family.prediction, run.objective.signal
    ))  # fmt: skip


def learned(run: AssembledRun, micro_step: int = 0) -> tuple[float, torch.Tensor]:
    run.zero()
    loss = run.learn(micro_step).item()
    return loss, run.adapter.arena.grad.clone()


@pytest.mark.parametrize("name", ROWS)
def test_every_row_learns_in_its_own_way_and_the_same_way_again(run, name):
    loss, gradient = learned(with_objective(run, **ROWS[name]))
    assert gradient.isfinite().all() and gradient.abs().max() > 0 and 0 < loss < 10
    again, same = learned(with_objective(run, **ROWS[name]))
    assert again == loss and torch.equal(same, gradient)
    plain, before = learned(with_objective(run))
    assert plain != loss and not torch.equal(before, gradient)


def test_what_the_base_answers_is_kept_by_the_pictures_of_regularisation(run):
    """With the adapter at zero they are learned already; else they pull back to the base, and the others learn on."""
    keeping, arena = with_objective(run, prior="base"), run.adapter.arena
    batch = keeping.batches.batch(0)
    assert batch.prior.flatten().tolist().count(True) == 2
    others = batch._replace(prior=torch.zeros_like(batch.prior))
    all_prior = batch._replace(prior=torch.ones_like(batch.prior))
    assert keeping._forward_backward(all_prior) > 0
    assert torch.equal(keeping._forward_backward(others), keeping._forward_backward(batch._replace(prior=None)))
    kept = arena.master.clone()
    arena.master.zero_()
    arena.publish()
    assert keeping._forward_backward(all_prior) == 0
    assert keeping._forward_backward(batch) < keeping._forward_backward(others)
    arena.master.copy_(kept)
    arena.publish()


def test_a_batch_without_regularisation_pictures_needs_no_second_forward_pass(run):
    pictures = [replace(one, prior=False) for one in run.batches.cache.pictures]
    batches = with_objective(run, prior="base").batches
    assert batches._prior(pictures) is None
    assert with_objective(run).batches.batch(0).prior is None


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("loss", LOSSES)
def test_with_a_zero_terminal_snr_everything_is_derived_from_the_fixed_schedule(weighting, loss):
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
    signal = alphas_cumprod({**schedule, "rescale_betas_zero_snr": True})
    options = ObjectiveSection(weighting=weighting, loss=loss)
    objective = Objective(options, "v_prediction", signal)
    clean, noise = torch.ones(2, 4, 2, 2), torch.full((2, 4, 2, 2), 2.0)
    batch = Batch(clean, noise, torch.tensor([0, 999]), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 6))
    assert torch.equal(objective.noisy(batch)[1], noise[1]), "the last timestep is pure noise"
    answer = torch.zeros_like(clean, requires_grad=True)
    value = objective.loss(answer, batch, None)
    value.backward()
    assert value.isfinite() and answer.grad.isfinite().all()
    unfixed = Objective(options, "v_prediction", alphas_cumprod(schedule)).loss(answer, batch, None)
    assert unfixed != value


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ROWS)
def test_nothing_waits_for_a_value_or_branches_on_one(name, prediction):
    """Tensors without values: whatever a CUDA graph could not hold is an error with them."""
    meta = {"device": "meta"}
    objective = Objective(ObjectiveSection(**ROWS[name]), prediction, torch.empty(1000, **meta))
    latents, rows = torch.empty(2, 4, 8, 8, **meta), torch.empty(2, dtype=torch.int64, **meta)
    batch = Batch(latents, latents, rows, rows, torch.empty(2, 6, **meta), added=latents)
    parts, prior = torch.empty(2, 1, 8, 8, **meta), torch.empty(2, 1, 1, 1, dtype=torch.bool, **meta)
    batch = batch._replace(weight=parts, prior=prior)
    answer = objective.noisy(batch).requires_grad_()
    loss = objective.loss(answer, batch, latents.bfloat16())
    loss.backward()
    assert loss.shape == () and answer.grad.shape == latents.shape
    with pytest.raises(RuntimeError):
        loss.item()
