"""The blocks of a Stable Diffusion UNet with fewer and larger kernels than diffusers' own.

Each takes over the layers of one of diffusers' blocks under the same names, so that module paths, and all that hangs on
them, stay as they are. A block that does something else than these do is left alone.

Shapes: B pictures, C channels, h x w latent pixels, T tokens (h w of them for a picture), L tokens of the caption.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from trainer.attention import Attend
from trainer.kernels.reference import Kernels

WIDEST_GROUP = 128  # channels; our kernel's limit


def narrow(norm: nn.GroupNorm) -> bool:
    """Whether our kernel takes groups of that many channels."""
    return norm.num_channels // norm.num_groups <= WIDEST_GROUP


class Normalise(nn.Module):
    """A group normalisation, with the SiLU after it where there is one.

    Args:
        norm: its weights.
        kernels: computes it.
        silu: whether the SiLU follows.
    """

    def __init__(self, norm: nn.GroupNorm, kernels: Kernels, silu: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.groups, self.eps = norm.weight, norm.bias, norm.num_groups, norm.eps
        self.kernels, self.silu = kernels, silu

    def forward(self, x: Tensor, shift: Tensor | None = None, conv_bias: Tensor | None = None) -> Tensor:
        """[B, C, h, w] -> the same; `shift` [B, C] and `conv_bias` [C] are added first."""
        return self.kernels.group_norm(
            x, self.weight, self.bias, self.groups, self.eps, self.silu, shift=shift, conv_bias=conv_bias
        )


class Resnet(nn.Module):
    """Two convolutions and a way around them; biases are added where the data is read anyway."""

    def __init__(self, block: ResnetBlock2D, kernels: Kernels, _: Attend) -> None:
        super().__init__()
        self.norm1, self.norm2 = (Normalise(norm, kernels, silu=True) for norm in (block.norm1, block.norm2))
        self.conv1, self.conv2, self.conv_shortcut = block.conv1, block.conv2, block.conv_shortcut
        self.time_emb_proj, self.kernels = block.time_emb_proj, kernels
        self.bias1, self.bias2 = self.conv1.bias, self.conv2.bias
        self.conv1.bias = self.conv2.bias = None

    @staticmethod
    def fits(block: ResnetBlock2D) -> bool:
        """Whether a block does what this one does."""
        return (
            block.time_embedding_norm in ("default", "group")  # the second is what a VAE's say, and means nothing there
            and (block.skip_time_act or block.time_emb_proj is None)
            and block.upsample is None
            and block.downsample is None
            and block.output_scale_factor == 1.0
            and isinstance(block.nonlinearity, nn.SiLU)
            and narrow(block.norm1)
            and narrow(block.norm2)
        )

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """x [B, C, h, w], timestep embedding after its activation [B, E], none in a VAE -> [B, C', h, w]."""
        hidden = self.conv1(self.norm1(x))
        shift = hidden.new_zeros(hidden.shape[:2]) if self.time_emb_proj is None else self.time_emb_proj(temb)
        if shift.requires_grad:  # SDXL's comes from the pooled text, whose encoder may be trained: see `group_norm`
            hidden = self.conv2(self.norm2(hidden + (shift + self.bias1)[:, :, None, None]))
        else:
            hidden = self.conv2(self.norm2(hidden, shift, self.bias1))
        around = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return self.kernels.add_bias(around, hidden, self.bias2)


class CrossAttention(nn.Module):
    """Attention to the picture itself or to the caption.

    Attributes:
        shared: names of the layers that read the same input.
        packed: computes these together, where an adapter offers to: [B, L, D] -> as many [B, L, C].
    """

    def __init__(self, block: Attention, attend: Attend, shared: tuple[str, ...]) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = block.to_q, block.to_k, block.to_v, block.to_out
        self.heads, self.attend, self.shared = block.heads, attend, shared
        self.packed: Callable[[Tensor], Sequence[Tensor]] | None = None

    @staticmethod
    def fits(block: Attention) -> bool:
        """Whether a block does what this one does."""
        extras = (block.group_norm, block.spatial_norm, block.norm_cross, block.norm_q, block.norm_k)
        return not any(extras) and not block.residual_connection and block.rescale_output_factor == 1.0

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, T, C], what it attends to [B, L, D] -> [B, T, C]."""
        names = ("to_q", "to_k", "to_v")
        parts = {} if self.packed is None else dict(zip(self.shared, self.packed(context), strict=True))
        parts |= {
            name: self.get_submodule(name)(x if name == "to_q" else context) for name in names if name not in parts
        }
        query, key, value = (parts[name].unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in names)
        hidden = self.attend(query, key, value)
        return self.to_out[0](hidden.transpose(1, 2).flatten(2))


class GatedLinear(nn.Module):
    """The first half of a feed-forward."""

    def __init__(self, block: GEGLU, kernels: Kernels) -> None:
        super().__init__()
        self.proj, self.kernels = block.proj, kernels

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, D]."""
        return self.kernels.gated_gelu(self.proj(x))


class TransformerBlock(nn.Module):
    """Self-attention, attention to the caption, feed-forward."""

    def __init__(self, block: BasicTransformerBlock, kernels: Kernels, attend: Attend) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = block.norm1, block.norm2, block.norm3
        self.attn1 = CrossAttention(block.attn1, attend, shared=("to_q", "to_k", "to_v"))
        self.attn2 = CrossAttention(block.attn2, attend, shared=("to_k", "to_v"))
        self.ff, self.kernels = block.ff, kernels
        self.ff.net[0] = GatedLinear(self.ff.net[0], kernels)

    @staticmethod
    def fits(block: BasicTransformerBlock) -> bool:
        """Whether a block does what this one does."""
        return (
            block.norm_type == "layer_norm"
            and block.pos_embed is None
            and not block.only_cross_attention
            and block.attn2 is not None
            and isinstance(block.ff.net[0], GEGLU)
            and CrossAttention.fits(block.attn1)
            and CrossAttention.fits(block.attn2)
        )

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x [B, T, C], text [B, L, D] -> [B, T, C]."""
        normed = self.norm1(x)
        x, normed = self._add(x, self.attn1(normed, normed), self.norm2)
        x, normed = self._add(x, self.attn2(normed, text), self.norm3)
        return x + self.ff(normed)

    def _add(self, x: Tensor, more: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        if norm._forward_hooks:  # an adapter changes it, in Preview: it has to be called
            return x + more, norm(x + more)
        return self.kernels.add_norm(x, more, norm.weight, norm.bias, norm.eps)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a picture.

    Attributes:
        gradient_checkpointing: set by diffusers, with `_gradient_checkpointing_func`, which then runs each block.
    """

    def __init__(self, block: Transformer2DModel, kernels: Kernels, attend: Attend) -> None:
        super().__init__()
        self.norm = Normalise(block.norm, kernels, silu=False)
        self.proj_in, self.proj_out, self.linear = block.proj_in, block.proj_out, block.use_linear_projection
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(part, kernels, attend) for part in block.transformer_blocks
        )
        self.gradient_checkpointing = False

    @staticmethod
    def fits(block: Transformer2DModel) -> bool:
        """Whether a block does what this one does."""
        blocks = block.transformer_blocks
        return block.is_input_continuous and narrow(block.norm) and all(map(TransformerBlock.fits, blocks))

    @property
    def alone(self) -> bool:
        """Whether there is one block only. What is around it would keep as much as it does, and goes with it."""
        return len(self.transformer_blocks) == 1

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, whole: bool = False, **_: object
    ) -> tuple[Tensor]:
        """Pictures [B, C, h, w] and text [B, L, D] -> [B, C, h, w]; of diffusers' other arguments none is ever set.

        `whole`: this is already computed under checkpointing.
        """
        again = self.gradient_checkpointing and torch.is_grad_enabled() and not whole
        if again and self.alone:
            return self._gradient_checkpointing_func(self, hidden_states, encoder_hidden_states, True)
        x, size = self.norm(hidden_states), hidden_states.shape[2:]
        x = self.proj_in(_rows(x)) if self.linear else _rows(self.proj_in(x))
        for block in self.transformer_blocks:
            if again:
                x = self._gradient_checkpointing_func(block, x, encoder_hidden_states)
            else:
                x = block(x, encoder_hidden_states)
        x = _picture(self.proj_out(x), size) if self.linear else self.proj_out(_picture(x, size))
        return (hidden_states + x,)


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _picture(x: Tensor, size: torch.Size) -> Tensor:
    return x.unflatten(1, size).permute(0, 3, 1, 2)


BLOCKS = (ResnetBlock2D, BasicTransformerBlock, Resnet, TransformerBlock)  # of either kind, none inside another
SWAPS = ((ResnetBlock2D, Resnet), (Transformer2DModel, SpatialTransformer))


def lean(unet: nn.Module, kernels: Kernels, attend: Attend = F.scaled_dot_product_attention) -> None:
    """Put the blocks above in the places of diffusers' own, in a `UNet2DConditionModel`."""
    if unet.time_embed_act is None:  # once for all blocks, instead of in each
        unet.time_embed_act = nn.SiLU()
        for block in unet.modules():
            if isinstance(block, ResnetBlock2D):
                block.skip_time_act = True
    _swap(unet, kernels, attend)


def lean_decoder(decoder: Any, kernels: Kernels) -> None:
    """The same in the decoder of an `AutoencoderKL`.

    At its sizes ATen's normalisation, which works with one block of threads for each group, takes a third of the time.
    """
    _swap(decoder, kernels, F.scaled_dot_product_attention)


def _swap(model: Any, kernels: Kernels, attend: Attend) -> None:
    for path, block in list(model.named_modules()):
        for theirs, ours in SWAPS:
            if isinstance(block, theirs) and ours.fits(block):
                parent, _, name = path.rpartition(".")
                setattr(model.get_submodule(parent), name, ours(block, kernels, attend))
    if model.conv_norm_out is not None and narrow(model.conv_norm_out) and isinstance(model.conv_act, nn.SiLU):
        model.conv_norm_out, model.conv_act = Normalise(model.conv_norm_out, kernels, silu=True), nn.Identity()


def recomputable(unet: nn.Module) -> list[nn.Module]:
    """What can be computed again as a whole in the backward pass, in the order of the modules."""
    whole = [module for module in unet.modules() if isinstance(module, SpatialTransformer) and module.alone]
    inside = {id(module.transformer_blocks[0]) for module in whole}
    found = (module for module in unet.modules() if isinstance(module, BLOCKS) or module in whole)
    return [module for module in found if id(module) not in inside]


def our_kernels() -> Kernels:
    """Our kernels. Needs Triton."""
    from trainer.kernels.fused import FUSED  # noqa: PLC0415 - imports Triton

    return FUSED
