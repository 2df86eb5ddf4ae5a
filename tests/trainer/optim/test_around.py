"""What stands around an optimiser does as that does, whatever of it is asked."""

import pytest
import torch

from tests.trainer.optim.test_flat import filled
from trainer.contract.config import OptimizerSection
from trainer.contract.errors import UserError
from trainer.optim.around import Around
from trainer.optim.average import Averaged
from trainer.optim.flat import adamw
from trainer.optim.norms import NormLimit
from trainer.optim.scaling import Guard, LossScale

KINDS = {
    "around": lambda inner, arena: Around(inner, arena),
    "guard": lambda inner, arena: Guard(inner, arena),
    "scale": lambda inner, arena: LossScale(inner, arena),
    "limit": lambda inner, arena: NormLimit(inner, arena, {}, 1.0),
    "average": lambda inner, arena: Averaged(inner, arena, 0.9, used=False),
}


class Told:
    """An optimiser that notes what it is asked, and answers what nobody else would."""

    def __init__(self) -> None:
        self.heard = []

    def step(self, rates):
        self.heard.append(("step", rates))

    def settle(self, groups):
        self.heard.append(("settle", groups))

    def shown(self):
        return torch.full((1,), 7.0)

    def found(self):
        return 5.0

    def state(self):
        return {"inner": torch.zeros(2)}

    def load(self, state):
        self.heard.append(("load", sorted(state)))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_reaches_the_optimiser_within(kind):
    inner, arena = Told(), filled()
    outer = KINDS[kind](inner, arena)
    outer.step({"unet.A": 0.5})
    outer.settle(["unet.B"])
    outer.load(outer.state())
    assert inner.heard == [("step", {"unet.A": 0.5}), ("settle", ["unet.B"]), ("load", ["inner"])]
    assert outer.found() == 5.0 and outer.shown().item() == 7.0 and "inner" in outer.state()


@pytest.mark.parametrize("kind", ["scale", "average"])
def test_a_checkpoint_without_what_it_keeps_is_refused(kind):
    arena = filled()
    outer = KINDS[kind](adamw(arena, OptimizerSection()), arena)
    state = outer.state()
    with pytest.raises(UserError, match="does not fit"):
        outer.load({name: state[name] for name in outer.optimizer.state()})
    with pytest.raises(UserError, match="does not fit"):
        outer.load({**state, "strange": torch.zeros(1)})
