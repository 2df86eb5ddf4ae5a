"""Optimisers of torch's kind over the arena: the same steps, saved and taken up again, settled, shown."""

import pytest
import torch

from tests.trainer.optim.test_flat import SLOTS, filled
from trainer.adapters.arena import Arena, Slot
from trainer.contract.catalog import OPTIMIZERS, resolve
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.optim.build import build, plain, rehearse
from trainer.optim.foreign import Foreign
from trainer.optim.saved import REST
from trainer.optim.scaling import LossScale

FOREIGN = [name for name, row in OPTIMIZERS.items() if not row.path.startswith("trainer.")]
RATES = {"unet.A": 0.01, "unet.B": 0.01}


def config(name="adamw", **options):
    return compose([{"dataset": {"path": "x"}, "optimizer": {"name": name, **options}}])


def gradients(count: int, arena: Arena):
    """Fills the arena's gradient, anew for every step; what lies between the matrices gets none."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        arena.grad.zero_()
        for names in arena.members.values():
            for name in names:
                arena.view(arena.grad, name).normal_(generator=generator)
        yield


def wide(dtype=torch.float32) -> Arena:
    """Matrices large enough for 8-bit states, with room between them."""
    slots = [Slot(f"{layer}.{letter}", f"{part}.{letter}", (70, 65) if letter == "A" else (65, 70))
             for part, layer in (("unet", "a"), ("text_encoder", "b")) for letter in "AB"]  # fmt: skip
    arena = Arena(slots, torch.device("cpu"), dtype)
    for index, slot in enumerate(slots):
        arena.view(arena.master, slot.name).normal_(generator=torch.Generator().manual_seed(index))
    arena.publish()
    return arena


@pytest.mark.parametrize("name", FOREIGN)
def test_its_steps_are_those_of_the_class_by_itself(name):
    arena, row, options = filled(), OPTIMIZERS[name], config(name).optimizer
    ours = plain(arena, options)
    theirs = {slot.name: torch.nn.Parameter(arena.view(arena.master, slot.name).clone()) for slot in SLOTS}
    groups = [
        {"params": [theirs[slot.name] for slot in SLOTS if slot.group == group], "lr": 0.01} for group in arena.groups
    ]
    known = {"betas": (0.9, 0.99), "eps": 1e-8, "momentum": 0.9, "weight_decay": 0.01}
    arguments = {key: known[key] for key in row.passes} | dict(row.arguments)
    optimizer = resolve(row)(groups, **arguments)
    if row.averages:
        optimizer.train()
    for _ in gradients(8, arena):
        for slot in SLOTS:
            theirs[slot.name].grad = arena.view(arena.grad, slot.name).clone()
        ours.step(RATES)
        optimizer.step()
    for slot in SLOTS:
        torch.testing.assert_close(arena.view(arena.master, slot.name), theirs[slot.name].detach())
    between = torch.ones_like(arena.master, dtype=torch.bool)
    for slot in SLOTS:
        arena.view(between, slot.name).fill_(False)
    assert arena.master[between].abs().sum() == 0, "the room between the matrices stays empty"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_saved_and_loaded_it_goes_on_bit_for_bit(name, dtype):
    arena, other = wide(dtype), wide(dtype)
    rates = dict.fromkeys(arena.groups, OPTIMIZERS[name].rate)
    first, fresh = (build(each, config(name)) for each in (arena, other))
    for step, _ in enumerate(gradients(6, arena)):
        if step == 3:
            fresh.load({key: tensor.clone() for key, tensor in first.state().items()})
            other.master.copy_(arena.master)
        other.grad.copy_(arena.grad)  # now: some change it
        first.step(rates)
        if step >= 3:
            fresh.step(rates)
    assert torch.equal(arena.master, other.master)
    for key, tensor in first.state().items():
        assert torch.equal(tensor, fresh.state()[key]), key
        assert tensor.dtype == fresh.state()[key].dtype


def test_in_bf16_the_fp32_master_is_stepped():
    arena, plain_arena = wide(torch.bfloat16), wide()
    ours, theirs = plain(arena, config("sgd").optimizer), plain(plain_arena, config("sgd").optimizer)
    rates = dict.fromkeys(arena.groups, 1e-4)
    arena.grad.fill_(0.5)
    plain_arena.grad.fill_(0.5)
    ours.step(rates)
    theirs.step(rates)
    assert torch.equal(arena.master, plain_arena.master) and arena.master.dtype == torch.float32
    assert torch.equal(arena.work, plain_arena.master.bfloat16())
    assert isinstance(build(wide(torch.float16), config("prodigy")), LossScale)


def test_states_of_8_bits_stay_so():
    arena = wide()
    optimizer = plain(arena, config("adamw8bit").optimizer)
    for _ in gradients(2, arena):
        optimizer.step(dict.fromkeys(arena.groups, 1e-3))
    kinds = {key.rpartition("/")[2]: tensor.dtype for key, tensor in optimizer.state().items()}
    assert kinds["state1"] == kinds["state2"] == torch.uint8
    tables = [key for key in optimizer.state() if "qmap" in key]
    assert len(tables) == 2, "a table that all share is kept once"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_has_settled_stays_and_the_rest_goes_on(name):
    arena, other = wide(), wide()
    optimizer, fresh = plain(arena, config(name).optimizer), plain(other, config(name).optimizer)
    rates = dict.fromkeys(arena.groups, OPTIMIZERS[name].rate)
    text = [group for group in arena.groups if group.startswith("text_encoder")]
    learning = {group: rate for group, rate in rates.items() if group not in text}
    for step, _ in enumerate(gradients(9, arena)):
        if step == 3:
            used = optimizer.shown()
            used = arena.master.clone() if used is None else used
            optimizer.settle(text)
            for group in text:
                assert torch.equal(arena.master[arena.groups[group]], used[arena.groups[group]])
        if step == 6:  # a run that is taken up again settles anew
            fresh.load({key: tensor.clone() for key, tensor in optimizer.state().items()})
            other.master.copy_(arena.master)
            fresh.settle(text)
            assert torch.equal(other.master, arena.master)
        before = arena.master.clone()
        other.grad.copy_(arena.grad)
        optimizer.step(rates if step < 3 else learning)
        if step >= 6:
            fresh.step(learning)
            assert torch.equal(other.master, arena.master)
        for group, part in arena.groups.items():
            assert torch.equal(before[part], arena.master[part]) == (step >= 3 and group in text), (group, step)
    shown = optimizer.shown()
    if shown is not None:
        for group in text:
            assert torch.equal(shown[arena.groups[group]], arena.master[arena.groups[group]])


def test_the_schedule_free_average_is_shown_and_nothing_changes():
    arena, other = wide(), wide()
    looked, undisturbed = (plain(each, config("schedulefree").optimizer) for each in (arena, other))
    rates = dict.fromkeys(arena.groups, 0.01)
    for step, _ in enumerate(gradients(5, arena)):
        other.grad.copy_(arena.grad)
        looked.step(rates)
        undisturbed.step(rates)
        before = arena.master.clone()
        shown = looked.shown()
        assert torch.equal(arena.master, before)
        assert torch.equal(shown, before) == (step == 0), "the first step is its own average"
    assert torch.equal(arena.master, other.master)
    z = looked.optimizer.state[looked.optimizer.param_groups[0]["params"][0]]["z"]
    part = arena.groups[next(iter(arena.groups))]
    y = 0.9 * shown[part] + 0.1 * z  # the paper's equation 3, beta 0.9
    torch.testing.assert_close(y, arena.master[part], rtol=1e-4, atol=1e-5)


def test_prodigy_raises_its_rate_by_itself():
    arena = filled()
    optimizer = plain(arena, config("prodigy").optimizer)
    found = []
    for _ in range(30):
        arena.grad.copy_(arena.master)  # towards zero
        optimizer.step(dict.fromkeys(arena.groups, 1.0))
        found.append(optimizer.found())
    assert found[-1] > 100 * found[0]
    assert build(filled(torch.float16), config("sgd")).found() == 1.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_planner_knows_what_it_keeps(name):
    arena = wide(torch.bfloat16)
    optimizer = plain(arena, config(name).optimizer)
    for _ in gradients(2, arena):
        optimizer.step(dict.fromkeys(arena.groups, 1e-3))
    kept = sum(tensor.nbytes for key, tensor in optimizer.state().items() if key != REST and "qmap" not in key)
    if isinstance(optimizer, Foreign):
        kept += optimizer._grad.nbytes
    assert kept / arena.master.numel() <= OPTIMIZERS[name].bytes + 0.1


class Forgetful(torch.optim.SGD):
    """Keeps a number where nobody saves it."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            group["lr"] /= self.steps
        return super().step(closure)


class Strange(torch.optim.SGD):
    """Keeps something that is no number."""

    def step(self, closure=None):
        self.state[self.param_groups[0]["params"][0]]["kept"] = object()
        return super().step(closure)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": f"{__name__}.Forgetful"}, ["Forgetful", "go on differently"]),
        ({"name": f"{__name__}.Strange"}, ["Strange", "kept", "object"]),
        ({"name": "torch.optim.LBFGS"}, ["LBFGS"]),
        ({"name": "torch.optim.Nothing"}, ["Nothing", "spelt"]),
        ({"name": "torch.nn.Linear"}, ["not a torch.optim.Optimizer"]),
        ({"name": "subprocess.call"}, ["not a torch.optim.Optimizer"]),
        ({"name": "prodigy", "arguments": {"d_cof": 2}}, ["d_cof", "Did you mean d_coef"]),
        ({"name": "came", "arguments": {"clip": 2}}, ["no argument 'clip'", "It has", "clip_threshold"]),
        ({"name": "prodigy", "arguments": {"d0": -1}}, ["d0"]),
        ({"name": "lion", "arguments": {"d0": 1}}, ["optimizer.arguments"]),
        ({"name": "came", "arguments": {"lr": 1e-3}}, ["optimizer.learning_rate instead"]),
        ({"name": "transformers.optimization.Adafactor"}, ["Adafactor", "relative_step"]),
    ],
)
def test_what_cannot_be_trained_with_says_so_before_anything_is_loaded(options, words):
    with pytest.raises(UserError) as caught:
        rehearse(config(**options))
    for word in words:
        assert word in str(caught.value)


def test_the_rehearsal_has_the_parts_and_rates_of_the_run():
    """By its dotted name nothing is known of a class: that it wants one rate is found out by trying."""
    trained = {"text_encoder": True}
    with pytest.raises(UserError, match="different lr"):
        rehearse(compose([{"dataset": {"path": "x"}, "optimizer": {"name": "prodigyopt.Prodigy"}, "adapter": trained}]))
    until = {**trained, "text_encoder_until": "50%"}
    for name in OPTIMIZERS:
        rehearse(compose([{"dataset": {"path": "x"}, "optimizer": {"name": name}, "adapter": until}]))


@pytest.mark.parametrize("name", ["torch.optim.NAdam", "torch.optim.Adafactor", "pytorch_optimizer.SOAP"])
def test_any_class_can_be_named(name):
    rehearse(config(name))
    assert isinstance(plain(filled(), config(name).optimizer), Foreign)


def test_arguments_go_over_those_of_the_row():
    given = {"d_coef": 2, "safeguard_warmup": False, "betas": [0.8, 0.9]}
    group = plain(filled(), config("prodigy", arguments=given).optimizer).optimizer.param_groups[0]
    assert (group["d_coef"], group["safeguard_warmup"], group["betas"]) == (2, False, (0.8, 0.9))
    assert group["use_bias_correction"] is True


@pytest.mark.parametrize("change", ["", "groups", "name"])
def test_a_state_of_another_optimiser_is_refused(change):
    arena = filled()
    optimizer = plain(arena, config("prodigy").optimizer)
    for _ in gradients(1, arena):
        optimizer.step(RATES)
    saved = dict(optimizer.state())
    if change:
        text = bytes(saved[REST].tolist()).decode()
        text = (
            text.replace("unet.A", "unet.C") if change == "name" else text.replace('"groups": [{', '"groups": [{}, {')
        )
        saved[REST] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    else:
        del saved[REST]
    with pytest.raises(UserError, match="does not fit"):
        optimizer.load(saved)
