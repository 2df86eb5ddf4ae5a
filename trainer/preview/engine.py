"""Requests to pictures: one base in memory, adapters read once, texts encoded once."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from trainer.adapters.read import AdapterFile, read_adapter
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.requests import GenerateRequest, Picture
from trainer.device import Engine
from trainer.families.locate import load_family
from trainer.preview.mixer import Mixer
from trainer.protocols import Text
from trainer.sampling import Shot, check_size, denoise, starting_noise, to_images

GPU_BATCH = 8  # pictures in one forward pass
TEXTS_KEPT = 256
CHUNKS = 3  # of 75 tokens, for a long prompt


class PreviewEngine:
    """Draws pictures from one base.

    Args:
        model: the base and how it is opened.
        engine: device, number type, threads.
    """

    def __init__(self, model: ModelSection, engine: Engine) -> None:
        self.model, self.engine = model, engine
        self.family = load_family(model, engine)
        self.mixer = Mixer(self.family.parts)
        self._files: dict[tuple[str, int, int], AdapterFile] = {}
        self._texts: dict[object, Text] = {}
        # On a CPU batching gains little, and a picture drawn alone is the same bits whatever is drawn beside it.
        self.batch = GPU_BATCH if engine.device.type == "cuda" else 1

    def use(self, files: Sequence[str]) -> list[str]:
        """Make these adapter files the active ones; return a sentence for each that does not fit wholly.

        Raises:
            UserError: a file that cannot be used at all.
        """
        adapters = [self._read(Path(file)) for file in files]
        self.mixer.load(adapters)
        return [
            f"{a.path.name}: {len(a.unmatched)} entries have no layer in this base, first {a.unmatched[0]}"
            for a in adapters
            if a.unmatched
        ]

    def _read(self, path: Path) -> AdapterFile:
        if not path.is_file():
            raise UserError("there is no such adapter file", str(path), "Give the path of a .safetensors file.")
        facts = path.stat()
        key = (str(path), facts.st_mtime_ns, facts.st_size)
        if key not in self._files:
            self.mixer.load(())  # module paths must be the base's own while names are matched
            self._files = {known: adapter for known, adapter in self._files.items() if known[0] != key[0]}
            self._files[key] = read_adapter(path, self.family.parts)
            self._texts.clear()
        return self._files[key]

    def draw(
        self, request: GenerateRequest, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[Image.Image]:
        """Yield the pictures of a request, in order.

        Args:
            request: its adapters must be in use.
            on_step: told (denoising steps done, in all); may raise to stop.
        """
        trained = self.mixer.loaded[0].clip_skip if self.mixer.loaded else None
        self.family.skip_layers(request.clip_skip or trained)
        width, height = request.size or (self.family.resolution,) * 2
        check_size(self.family, width, height)
        shot = Shot(width, height, request.steps, request.guidance, request.sampler)
        batches = [request.pictures[i : i + self.batch] for i in range(0, len(request.pictures), self.batch)]
        for number, batch in enumerate(batches):
            text = self._encode(batch)
            rows = [picture.strengths for picture in batch]
            self.mixer.set(rows * 2 if shot.guidance > 1 else rows, self.engine.device)
            noise = starting_noise(self.family, shot, [picture.seed for picture in batch])
            latents = denoise(
                self.family,
                shot,
                noise,
                text,
                lambda step, n=number: on_step(n * shot.steps + step, len(batches) * shot.steps),
            )
            yield from to_images(self.family.decode(latents))

    @torch.no_grad()
    def _encode(self, batch: Sequence[Picture]) -> tuple[Text, Text]:
        """Return the (negative, positive) texts, each under its picture's own strengths, all equally long."""
        chunks = self.family.tokenize([text for p in batch for text in (p.prompt, p.negative)], CHUNKS).shape[2]
        for picture in batch:
            key = self._key(picture, chunks)
            if key not in self._texts:
                while len(self._texts) >= TEXTS_KEPT:
                    self._texts.pop(next(iter(self._texts)))
                self.mixer.set([picture.strengths] * (2 * chunks), self.engine.device)  # chunks are rows of it
                tokens = self.family.tokenize([picture.negative, picture.prompt], chunks, least=chunks)
                self._texts[key] = self.family.encode_tokens(tokens)
        pairs = [self._texts[self._key(picture, chunks)] for picture in batch]
        negative, positive = (Text.join([pair.pick(slice(i, i + 1)) for pair in pairs]) for i in (0, 1))
        return negative, positive

    def _key(self, picture: Picture, chunks: int) -> tuple[object, ...]:
        files = tuple(adapter.path for adapter in self.mixer.loaded)
        return picture.prompt, picture.negative, picture.strengths, files, chunks, self.family.clip_skip
