"""A stand-in for `python -m trainer serve`: it speaks the protocol and draws nothing. The prompt says what to do."""

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

from PIL import Image

waiting: "queue.Queue[dict | None]" = queue.Queue()
cancelled: set[str] = set()


def say(name: str, kind: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"id": name, "kind": kind, **values}) + "\n")
    sys.stdout.flush()


def listen() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "cancel" in message:
            cancelled.add(message["cancel"])
        else:
            waiting.put(message)
    waiting.put(None)


threading.Thread(target=listen, daemon=True).start()
sys.stdout.write("a library says hello\n")
while (request := waiting.get()) is not None:
    name, prompt = request["id"], request["pictures"][0]["prompt"]
    if prompt == "die":
        os._exit(3)
    if prompt == "wrong":
        say(name, "error", problem="this is wrong", where="prompt", fix="Write something else.")
        continue
    for step in range(100 if prompt == "slow" else 3):
        if name in cancelled:
            say(name, "cancelled")
            break
        say(name, "progress", step=step, steps=100)
        time.sleep(0.05)
    else:
        folder = Path(request["out"])
        files = [str(folder / f"{name}-{number}.png") for number in range(len(request["pictures"]))]
        if folder.is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                Image.new("RGB", (16, 8)).save(file)
        say(
            name,
            "done",
            files=files,
            seconds=0.1,
            pid=os.getpid(),
        )
