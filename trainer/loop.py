"""The training loop, on one screen. It names no model, adapter, optimiser or page: those vary below it."""

from trainer.protocols import Run


def train(run: Run) -> bool:
    """Train from the last checkpoint to the last step, or until someone asks to stop.

    Everything random is a function of the micro-step, so a run that was killed and resumed takes the same steps.

    Returns:
        Whether the last step was reached; False when stopped, with everything saved.

    Raises:
        UserError: the loss stays without numbers, or the disk is full; the last checkpoint stands.
    """
    step = run.restore()
    while step < run.total:
        loss = run.zero()
        for micro in range(step * run.accumulation, (step + 1) * run.accumulation):
            loss += run.learn(micro)
        norm = run.clip()
        run.optimizer.step(run.rates(step))
        step += 1
        run.record(step, loss, norm)
        if run.due(step) and not run.attend(step):
            return False
    run.finish(step)
    return True
