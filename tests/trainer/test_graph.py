"""A step that cannot be recorded is still taken, with everything as it was before the attempt."""

import torch

from trainer.graph import Graphed


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch):
    total, generator, said = torch.zeros(2), torch.Generator().manual_seed(3), []

    def function(batch):
        total.add_(batch[0] + torch.rand(2, generator=generator))
        return total.sum()

    def record(self, batch):
        function(batch)  # a warm-up that got as far as this
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(Graphed, "_record", record)
    graphed = Graphed(function, [total], [generator], said.append)
    batch = (torch.ones(2),)
    for _ in range(2):
        graphed(batch)
    again = torch.Generator().manual_seed(3)
    assert torch.equal(total, 2 + torch.rand(2, generator=again) + torch.rand(2, generator=again))
    assert len(said) == 1 and "operation not permitted" in said[0]


def test_what_was_forgotten_is_recorded_again(monkeypatch):
    recorded = []

    def record(self, batch):
        recorded.append(batch)
        raise RuntimeError("never on a CPU")

    monkeypatch.setattr(Graphed, "_record", record)
    graphed = Graphed(lambda batch: batch[0].sum(), [])
    for _ in range(2):
        graphed((torch.ones(2),))
    graphed.forget()
    graphed((torch.ones(2),))
    assert len(recorded) == 2
