"""Requests to pictures: one base in memory, adapters read once, texts encoded once, as few passes as may be."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from trainer.adapters.read import AdapterFile, read_adapter
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture
from trainer.device import Engine, ran_out
from trainer.families.locate import load_family
from trainer.families.prompts import level, together
from trainer.preview.merging import Merger
from trainer.preview.mixer import Mixer
from trainer.preview.plan import MOST, Pass, plan
from trainer.preview.recorded import Recorded
from trainer.preview.slots import GIB, Slots
from trainer.preview.strengths import Row, row, scheduled
from trainer.preview.texts import Texts
from trainer.protocols import Text
from trainer.sampling import Progress, Shot, check_size, denoise, noise_sources, small, to_images

# Latent pixels of a pass. On a CPU eight of the practice base's pictures: there a pass is bound by the number of its
# operations, and eight at once took 3.5 s where eight alone took 4.7; one of 512 px keeps two cores busy by itself.
# A GPU tries eight of 1024 px, and takes half of what did not fit.
CPU_PIXELS, GPU_PIXELS = 8 * 16**2, 8 * 128**2
# Rows of a batch times steps from which it pays to build adapters into the weights: on the practice base an adapter of
# rank 16 adds a tenth to every row, and to build it in takes as long as a quarter of a row.
MERGE_FROM = 12
HOST_ROOM = 8 * GIB  # of adapters that were read
DEVICE_SHARE = 0.2  # of a GPU's memory that adapters may hold


@dataclass(frozen=True)
class Watcher:
    """Who is told how a request is going; each may raise to stop.

    Attributes:
        step: (denoising steps done, in all).
        frames: (small pictures of what is there so far, their places in the request, steps done).
        picture: (place in the request, file), of each picture as soon as it is written.
    """

    step: Callable[[int, int], None] = lambda done, total: None
    frames: Callable[[list[Image.Image], Sequence[int], int], None] = lambda images, places, done: None
    picture: Callable[[int, Path], None] = lambda place, file: None


class Drawn(NamedTuple):
    """A finished picture.

    Attributes:
        place: in the request.
        image: RGB.
        clip_skip: text encoder layer that its prompt was read from, see `Family`.
    """

    place: int
    image: Image.Image
    clip_skip: int


class PreviewEngine:
    """Draws pictures from one base.

    Args:
        model: the base and how it is opened.
        engine: device, number type, threads.
    """

    def __init__(self, model: ModelSection, engine: Engine) -> None:
        self.model, self.engine = model, engine
        self.family = load_family(model, engine)
        on_gpu = engine.device.type == "cuda"
        room = int(DEVICE_SHARE * torch.cuda.get_device_properties(engine.device).total_memory) if on_gpu else HOST_ROOM
        self.slots = Slots(engine.device, engine.dtype, room)
        self.mixer = Mixer(self.family.parts, self.slots)
        self.merger = Merger(self.family.parts, self.mixer.layout)
        self.recorded = Recorded(self.family, self.mixer) if engine.graph else None
        self.texts = Texts(self.family, self.mixer)
        self._files: dict[tuple[str, int, int], AdapterFile] = {}  # in the order of their last use
        self.batch, self.pixels = MOST, GPU_PIXELS if on_gpu else CPU_PIXELS

    def use(self, files: Sequence[str]) -> list[str]:
        """Make these adapter files the active ones; return a sentence for each that does not fit wholly.

        Raises:
            UserError: a file that cannot be used at all.
        """
        adapters = [self._read(Path(file)) for file in files]
        self.mixer.load(adapters)
        self._forget(adapters)
        partly = [(adapter.path.name, adapter.fit) for adapter in adapters if adapter.fit and not adapter.fit.whole]
        return [f"{name}: {' '.join([found.summary(), *found.lines()])}" for name, found in partly]

    def _read(self, path: Path) -> AdapterFile:
        if not path.is_file():
            raise UserError("there is no such adapter file", str(path), "Give the path of a .safetensors file.")
        facts = path.stat()
        key = (str(path), facts.st_mtime_ns, facts.st_size)
        adapter = self._files.pop(key, None)
        if adapter is None:
            for known in [known for known in self._files if known[0] == key[0]]:
                self._drop(known)
            adapter = read_adapter(path, self.family.parts, self.family.base_name)
        self._files[key] = adapter
        return adapter

    def _forget(self, used: Sequence[AdapterFile]) -> None:
        """Give up what was not used for longest, where adapters take too much memory."""
        for key, adapter in list(self._files.items()):
            if self.slots.held()[1] <= HOST_ROOM:
                return
            if not any(adapter is one for one in used):
                self._drop(key)

    def _drop(self, key: tuple[str, int, int]) -> None:
        self.slots.forget(self._files.pop(key))
        self.texts.forget()  # they know adapters by their identity, which another may get now

    def draw(self, request: GenerateRequest, watcher: Watcher = Watcher()) -> Iterator[Drawn]:
        """Yield the pictures of a request as they are finished, which may be another order than that of the request.

        Args:
            request: its adapters must be in use, and its prompts without tags.
            watcher: is told how it goes.
        """
        size = request.size or (self.family.resolution,) * 2
        check_size(self.family, *size)
        skips, texts = zip(*(self._read_prompts(request, picture) for picture in request.pictures), strict=True)
        waiting = plan(request, [together(pair) for pair in texts], self._most(size))
        done, total = 0, sum(map(request.steps_of, range(len(request.pictures))))
        try:
            while waiting:
                now = waiting.pop(0)
                latents = self._pass(request, now, [texts[place] for place in now.places], watcher, (done, total))
                if latents is None:
                    self.pixels = self._pixels(size) * len(now.places) // 2
                    waiting = [half for one in (now, *waiting) for half in one.halves() if half.places]
                    continue
                done += now.steps * len(now.places)
                for place, own in zip(now.places, latents.split(1), strict=True):
                    yield Drawn(place, to_images(self.family.decode(own))[0], skips[place])
        finally:
            self.merger.restore()
            if self.recorded:
                self.recorded.leave()

    def _pixels(self, size: tuple[int, int]) -> int:
        """Latent pixels of a picture."""
        _, height, width = self.family.latent_shape(*size)
        return height * width

    def _most(self, size: tuple[int, int]) -> int:
        """Pictures in a pass."""
        return max(1, min(self.batch, self.pixels // self._pixels(size)))

    def _read_prompts(self, request: GenerateRequest, picture: Picture) -> tuple[int, tuple[Text, Text]]:
        """Clip skip, and what the UNet is told by the (negative, positive) prompts.

        Where the request says nothing they are read as the first adapter that the picture uses was trained.
        """
        loaded, pairs = self.mixer.loaded, zip(self.mixer.loaded, picture.strengths, strict=True)
        first = next((adapter for adapter, strength in pairs if strength), loaded[0] if loaded else None)
        self.family.skip_layers(request.clip_skip or (first.clip_skip if first else None))
        said = self.texts.of(picture.negative, picture), self.texts.of(picture.prompt, picture)
        return self.family.clip_skip, said

    def _pass(
        self,
        request: GenerateRequest,
        now: Pass,
        texts: Sequence[tuple[Text, Text]],
        watcher: Watcher,
        steps: tuple[int, int],
    ) -> Tensor | None:
        """Draw one batch: [B, C, h, w] clean latents; None where so many do not fit the device.

        `steps` are (done before it, in all).
        """
        size = request.size or (self.family.resolution,) * 2
        guidance = tuple(map(request.guidance_of, now.places))
        shot = Shot(*size, now.steps, guidance, now.sampler, rescale=request.rescale)
        pictures = [request.pictures[place] for place in now.places]
        before, total = steps

        def progress(step: int, clean: Callable[[], Tensor]) -> None:
            done = before + len(pictures) * step
            watcher.step(done, total)
            if request.frames and step % request.frames == 0 and step < shot.steps:
                watcher.frames(to_images(self.family.decode(small(clean()))), now.places, done)

        try:
            return self._denoise(shot, pictures, level(texts), progress)
        except RuntimeError as error:
            if len(pictures) == 1 or not ran_out(error):
                raise
        if self.recorded:
            self.recorded.forget()
        torch.cuda.empty_cache()
        return None

    def _denoise(self, shot: Shot, pictures: Sequence[Picture], text: tuple[Text, Text], on_step: Progress) -> Tensor:
        changing = any(scheduled(picture.strengths) for picture in pictures)
        twice, mixer = shot.asked_twice(len(pictures)), self.mixer
        merged = not changing and self._merge(pictures, shot.steps * (len(pictures) + len(twice)))

        def rows(share: float | None) -> list[Row]:
            found = [row(picture.strengths, mixer.layout, share) for picture in pictures]
            return [*(found[place] for place in twice), *found]

        def prepare(share: float) -> None:
            if not changing and (share or family is self.recorded):
                return  # as it was before
            if merged:
                mixer.set([[0.0] * len(mixer.loaded)], self.engine.device)
            elif family is self.recorded:
                self.recorded.take(rows(share))
            else:
                mixer.set(rows(share), self.engine.device)

        # Asked for all that may come: a schedule only leaves adapters out.
        family = self.recorded if self.recorded and self.recorded.take(rows(None)) else self.family
        noise, sources = noise_sources(self.family, shot, [picture.seed for picture in pictures])
        return denoise(family, shot, noise, text, on_step, sources, prepare)

    def _merge(self, pictures: Sequence[Picture], rows: int) -> bool:
        """Build the adapters into the UNet's weights where that is faster for so many rows, and right.

        Not in fewer bits than fp32: a small change would be rounded away there, and a picture of a sweep would be
        another than the same one alone. Recorded passes read the weights where they are, and pay little for adapters.
        """
        found = {row(picture.strengths, self.mixer.layout) for picture in pictures}
        same, loaded = found.pop(), self.mixer.loaded
        exact = self.engine.dtype == torch.float32 and self.recorded is None
        if found or rows < MERGE_FROM or not exact or not self.merger.fits(loaded, same):
            self.merger.restore()
            return False
        self.merger.merge(loaded, self.mixer.held, same)
        return True
