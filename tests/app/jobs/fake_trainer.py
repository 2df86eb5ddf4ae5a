"""A stand-in for `python -m trainer train RUN_DIR`: it writes the run folder as the trainer does, and learns nothing.

A file `fake.json` in the run folder may hold {"steps", "pause", "fail", "die"}: seconds a step, a message to fail with,
a step to be killed at.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from PIL import Image

from trainer.contract.rundir import RunDir, State


def main(folder: str) -> int:
    run = RunDir(Path(folder))
    plan_file = run.path / "fake.json"
    plan = {"steps": 20, "pause": 0.02, **(json.loads(plan_file.read_text()) if plan_file.exists() else {})}
    if plan.get("mute"):
        sys.stderr.write("no such thing\n")
        return 1
    first = run.status().step
    run.write_status(State.PREPARING, total=plan["steps"])
    sys.stderr.write("reading pictures\n")
    for step in range(first + 1, plan["steps"] + 1):
        time.sleep(plan["pause"])
        run.emit("step", step=step, loss=0.2 / step + 0.05)
        run.write_status(State.TRAINING, step=step, total=plan["steps"])
        if step % 5 == 0:
            Image.new("RGB", (64, 64), (step * 10 % 255, 90, 160)).save(run.samples / f"step-{step:06}-0.png")
        if step == plan.get("die"):
            plan_file.write_text(json.dumps({**plan, "die": None}))
            os.kill(os.getpid(), signal.SIGKILL)
        if step == plan.get("fail"):
            run.write_status(State.FAILED, message="it was told to fail", fix="Tell it otherwise.")
            return 1
        if run.take_request("stop"):
            run.write_status(State.STOPPED)
            return 130
    run.adapter_file.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    run.write_status(State.DONE, step=plan["steps"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
