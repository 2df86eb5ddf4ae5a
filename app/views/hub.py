"""What the Hub's cache holds on this machine: models that were fetched, how much room they take, and making room.

Other programs use the same cache, so that it is said what goes before it goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CacheNotFound, constants, scan_cache_dir

from app.jobs import queue
from app.views.cards import size_text
from trainer.contract.errors import UserError


@dataclass(frozen=True)
class Kept:
    """Something that was fetched.

    Attributes:
        key: kind and name, such as `model/owner/name`.
        name: its id on the Hub.
        size: bytes on the disk.
    """

    key: str
    name: str
    size: int

    @property
    def label(self) -> str:
        """Name and size, for people."""
        return f"{self.name} ({size_text(self.size)})"


def place() -> Path:
    """Folder of the cache: `HF_HUB_CACHE`, else `HF_HOME`, else the Hub's own default."""
    return Path(constants.HF_HUB_CACHE)


def kept() -> list[Kept]:
    """What is there, the largest first. Takes a while where there is much."""
    try:
        found = scan_cache_dir(place()).repos
    except CacheNotFound:
        return []
    rows = [Kept(f"{repo.repo_type}/{repo.repo_id}", repo.repo_id, repo.size_on_disk) for repo in found]
    return sorted(rows, key=lambda row: -row.size)


def remove(home: Path, keys: Sequence[str]) -> int:
    """Delete what was fetched of these; return how many bytes that were.

    Raises:
        UserError: a run is going on, which may be reading it.
    """
    going = queue.running(home)
    if going is not None:
        raise UserError(
            f"'{going.run.name}' is running, and may read its base from there", "Hub cache", "Stop it first."
        )
    found = scan_cache_dir(place())
    wanted = [repo for repo in found.repos if f"{repo.repo_type}/{repo.repo_id}" in keys]
    strategy = found.delete_revisions(*(revision.commit_hash for repo in wanted for revision in repo.revisions))
    strategy.execute()
    return int(strategy.expected_freed_size)
