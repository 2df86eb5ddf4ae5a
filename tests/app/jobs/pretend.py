"""An executor whose processes are rows of a dictionary: what they do is up to a test."""

from pathlib import Path

living: dict[str, Path] = {}  # handle -> run folder


def submit(run_dir: Path, token: str, card: str) -> str:
    living[token] = run_dir
    return token


def adopt(token: str) -> str:
    return token if token in living else ""


def poll(handle: str) -> bool:
    return handle in living


def stop(handle: str) -> None:
    living.pop(handle, None)
