"""The rows of a run's cache, and the latents that they name."""

from dataclasses import dataclass, field

from torch import Tensor

from trainer.data.store import Store, Tensors
from trainer.pictures.buckets import Box, Bucket, Size
from trainer.pictures.epochs import Share, Turn
from trainer.protocols import Posterior

HELD = 2 * 2**30  # bytes of latents that stay in host memory; the rest is read again when it is drawn


@dataclass(frozen=True)
class View:
    """A crop of a picture, or its mirror image.

    Attributes:
        box: the part that is kept, (left, top, right, bottom) in pixels of the picture.
        mirrored: whether it is the mirror image.
        sizes: see `trainer.protocols.Batch`.
        latents, mask: keys in the store; `mask` is empty where the picture has none.
    """

    box: Box
    mirrored: bool
    sizes: tuple[int, ...]
    latents: str
    mask: str = ""


@dataclass(frozen=True)
class CachedPicture:
    """A picture at one resolution, as training sees it.

    Attributes:
        key: tells the picture from the others of the run.
        name: what the user calls it.
        file, digest, size: where it lay, SHA-256 of its file, upright (width, height) in pixels.
        mask_file: where its mask lay, "" where the mask is its own alpha channel or there is none.
        background: colour behind transparent parts.
        texts: that it is trained with; a view draws one.
        resolution: the one it is shown at.
        bucket: size in pixels it is brought to.
        repeats, prior, share: see `trainer.pictures.epochs.Turn`.
        sides: 2 where it may be mirrored, else 1.
        views: its crops; where it may be mirrored, each followed by its mirror image.
        mask_digest: SHA-256 of the mask's file.
        held: whether it is held out, see `trainer.pictures.holdout`.
        trigger: word that calls it.
    """

    key: str
    name: str
    file: str
    digest: str
    size: Size
    mask_file: str
    background: str
    texts: tuple[str, ...]
    resolution: int
    bucket: Bucket
    repeats: int
    prior: bool
    sides: int
    views: tuple[View, ...]
    mask_digest: str = ""
    share: Share | None = None
    held: bool = False
    trigger: str = ""

    @property
    def turn(self) -> Turn:
        """As an epoch counts it."""
        return Turn(self.bucket, self.repeats, self.prior, self.share)


@dataclass
class Latents:
    """What views name, by key: in memory as far as `HELD` allows, else from the disk.

    Attributes:
        store: where it lies.
    """

    store: Store
    _held: dict[str, Tensors] = field(default_factory=dict)
    _bytes: int = 0

    def find(self, key: str) -> bool:
        """Whether an entry is there, and whole."""
        return key in self._held or self._hold(key, self.store.get(key))

    def add(self, key: str, tensors: Tensors) -> None:
        """Keep a new entry."""
        self.store.put(key, tensors)
        self._hold(key, tensors)

    def posterior(self, view: View) -> Posterior:
        """[C, h, w] each."""
        stored = self._read(view.latents)
        return Posterior(stored["mean"], stored["std"])

    def mask(self, view: View) -> Tensor:
        """[h, w] float32, 0 to 1."""
        return self._read(view.mask)["mask"]

    def _hold(self, key: str, tensors: Tensors | None) -> bool:
        if tensors is not None and self._bytes < HELD:
            self._held[key] = tensors
            self._bytes += sum(tensor.nbytes for tensor in tensors.values())
        return tensors is not None

    def _read(self, key: str) -> Tensors:
        return self._held.get(key) or self.store.read(key)
