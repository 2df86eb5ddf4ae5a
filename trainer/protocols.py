"""The shapes that the loop, the sampler and the exporter are written against.

Shapes: B batch, C latent channels, h x w latent size, H x W pixels, L tokens, D text width, P pooled width (0 where a
family has no pooled text), K text encoders, N chunks of a caption, M tokens of a chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainer.attention import Shape
from trainer.device import Engine
from trainer.formats.targets import Target
from trainer.formats.vocabulary import Tokenizer


@dataclass(frozen=True)
class Posterior:
    """What the VAE says of a picture: mean and standard deviation, scaled as the UNet expects.

    [C, h, w] float32, or [B, C, h, w] of several.
    """

    mean: Tensor
    std: Tensor


class Text(NamedTuple):
    """What the UNet is told in words.

    Attributes:
        hidden: [B, L, D].
        pooled: [B, P].
    """

    hidden: Tensor
    pooled: Tensor

    def pick(self, rows: Tensor | slice) -> "Text":
        """Some rows of a table of texts."""
        return Text(self.hidden[rows], self.pooled[rows])

    @staticmethod
    def join(texts: "Sequence[Text]") -> "Text":
        """Batches of texts, one after the other."""
        return Text(*(torch.cat(part) for part in zip(*texts, strict=True)))


class Family(Protocol):
    """A model family: everything that knows how its base is built. One file each in `trainer/families`.

    Its parts are loaded when they are first needed, so that a run never holds what it does not use.

    Attributes:
        engine: device, number type, layout.
        encoders: names of its text encoders, which are parts that can be trained, like `unet`.
        tokenizers: of its text encoders.
        parts: the UNet and the text encoders, loaded when this is asked for.
        scheduler: the base's noise schedule as diffusers writes it.
        prediction: `epsilon` or `v_prediction`.
        resolution: side in pixels that the base was made for.
        step: picture sides must be multiples of this, in pixels.
        clip_skip: text encoder layer that is read, counted from the end; 1 also where a family leaves no choice.
        base_version: how the base's kind is called in `ss_base_model_version`.
        base_name: how people call this base.
    """

    engine: Engine
    encoders: tuple[str, ...]
    tokenizers: Sequence[Tokenizer]
    parts: Mapping[str, nn.Module]
    scheduler: dict[str, Any]
    prediction: str
    resolution: int
    step: int
    clip_skip: int
    base_version: str
    base_name: str

    def part(self, name: str) -> nn.Module:
        """A part on the device, loaded now if it was not."""

    def release(self, *names: str) -> None:
        """Forget parts; whoever needs one again loads it again."""

    def park(self, *names: str) -> None:
        """Keep parts in host memory; they visit the device when they are used."""

    def layout(self) -> Mapping[str, Sequence[str]]:
        """Module paths of every part; of a text encoder that is not loaded, none."""

    def tokenize(self, texts: Sequence[str], limit: int = 1, least: int = 1) -> Tensor:
        """Texts -> [B, K, N, M] token ids on the CPU, as many chunks as the longest needs, at
        least `least` and at most `limit`."""

    def skip_layers(self, skip: int | None) -> None:
        """Read another layer of the text encoder from now on, counted from the end; None for the base's own."""

    def too_long(self, text: str, limit: int) -> bool:
        """Whether a text does not fit into `limit` chunks."""

    def encode_tokens(self, tokens: Tensor, weights: Tensor | None = None) -> Text:
        """[B, K, N, M] -> text embeddings, with gradient where a text encoder is trained.

        Args:
            tokens: as `tokenize` gives them.
            weights: of the same shape, how much each token counts; None for all alike. Not for training.
        """

    def encode_pictures(self, pixels: Tensor) -> Posterior:
        """[B, 3, H, W] in -1..1 -> their posteriors, [B, C, h, w]."""

    def identity(self, part: str) -> str:
        """All that decides what a VAE or text encoder makes of something: files, number type, device, options.

        Nothing is loaded for it.
        """

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 3, H, W] in -1..1."""

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Text, sizes: Tensor) -> Tensor:
        """The UNet's answer, [B, C, h, w]; `sizes` as in `Batch`."""

    def attentions(self, pictures: int, width: int, height: int) -> list[Shape]:
        """The UNet's attentions for a batch of pictures of that size, about."""

    def checkpoint(self, share: str) -> None:
        """Compute UNet blocks again in the backward pass instead of keeping what they saw: `none`, `half`, `full`."""

    def regions(self) -> list[nn.Module]:
        """The blocks of the UNet that may be compiled, none inside another."""

    def kept_bytes(self, share: str) -> float:
        """What the UNet keeps for the backward pass, in bytes for each latent pixel of a batch; an estimate."""

    def unet_bytes(self, base: str) -> int:
        """What the UNet's weights take on the device if they are stored so, told without loading them.

        Args:
            base: as in `trainer.contract.ladder.Rung`.
        """

    def shapes(self, targets: Sequence[Target]) -> dict[Target, torch.Size]:
        """Shapes of some layers' weights, told without loading the UNet."""

    def targets(self, preset: str, text_encoder: bool, patterns: Sequence[str] = ()) -> list[Target]:
        """Layers of a target preset, in the order of the model; the UNet is not loaded for it.

        Args:
            preset: as in `AdapterSection.targets`.
            text_encoder: with those of the text encoders too.
            patterns: of paths, instead of a preset.

        Raises:
            UserError: a pattern fits no layer.
        """

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture of that size."""


class Batch(NamedTuple):
    """One micro-step, on the device.

    Attributes:
        clean, noise: [B, C, h, w] float32.
        timesteps: [B] int64.
        captions: [B] int64, rows of the run's caption table.
        sizes: [B, 6] float32, of the crop that was made: original height and width, top, left, target height and width,
            in pixels (SDXL's micro-conditioning, arXiv 2307.01952, section 2.2).
        weight: what each latent pixel counts, [B, 1, h, w] float32 where a picture of the run has a mask, [B, 1, 1, 1]
            where only whole pictures count less; None, in every batch of a run, where all count alike.
        hidden, pooled: of the captions, see `Text`; None, in every batch of a run, where the table is on the device.
        added: the noise that is put into the input where it is not `noise`, of the same shape; None in every batch of
            a run where it is.
        prior: [B, 1, 1, 1] bool, samples that learn what the base answers without the adapter; None where none does.
    """

    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    captions: Tensor
    sizes: Tensor
    weight: Tensor | None = None
    hidden: Tensor | None = None
    pooled: Tensor | None = None
    added: Tensor | None = None
    prior: Tensor | None = None


class Optimizer(Protocol):
    """Steps an arena. Rates are given with each step, so that a schedule is a pure function of the step."""

    def step(self, rates: Mapping[str, float]) -> None:
        """Change the master by the gradient; `rates` holds a learning rate for every group that still learns."""

    def settle(self, groups: Sequence[str]) -> None:
        """Leave groups that learn no more as they are to be used: `rates` has none for them from now on."""

    def shown(self) -> Tensor | None:
        """The matrices as they are to be used, [N], where those are not the ones that are trained: an average.

        None: the master. Nothing is changed, not in the last bit.
        """

    def found(self) -> float:
        """What the given rates are multiplied by at this moment, by an optimiser that finds the rate itself; else 1."""

    def state(self) -> dict[str, Tensor]:
        """Tensors to be saved: views, not copies."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises:
            UserError: it is another optimiser's.
        """


class Report(Protocol):
    """Hears how a run is going; `trainer.console` shows it to a person."""

    def told(self, what: str, done: int, total: int) -> None:
        """What is being prepared, how much of it is done, of how much."""

    def said(self, text: str) -> None:
        """A sentence that should not be overlooked."""

    def training(self, step: int, total: int) -> None:
        """Training starts after `step` steps."""

    def step(self, step: int, loss: float, rate: float) -> None:
        """A finished step."""


class Run(Protocol):
    """What the loop drives.

    Attributes:
        total: optimiser steps of the whole run.
        accumulation: micro-steps in an optimiser step.
        optimizer: steps the adapter.
    """

    total: int
    accumulation: int
    optimizer: Optimizer

    def restore(self) -> int:
        """Take back the newest checkpoint, tell what the rest will take; return the number of steps it holds."""

    def zero(self) -> Tensor:
        """Clear the gradient; return a zero loss on the device."""

    def learn(self, micro_step: int) -> Tensor:
        """Forward and backward: add a micro-step's share to the gradient; return its loss, a scalar on the device."""

    def clip(self) -> Tensor:
        """Limit the gradient; return its norm before."""

    def rates(self, step: int) -> Mapping[str, float]:
        """Learning rate of every group for the step that follows `step`."""

    def record(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Note a finished step, without waiting for the device."""

    def due(self, step: int) -> bool:
        """Whether anything rare may have to be done after this step. Cheap."""

    def attend(self, step: int) -> bool:
        """Do what is due: report, sample, save, answer requests. False: someone asked to stop, and all is saved."""

    def finish(self, step: int) -> None:
        """Save the end and write the adapter file."""
