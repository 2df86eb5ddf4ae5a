"""CLIP's text encoder (Radford et al., arXiv 2103.00020), with and without a projection, under the names of its files.

Our own, because transformers takes longer to import than a small run to begin, and builds a mask while a CUDA graph is
recorded that it does without otherwise. Layers stand in the order of transformers' modules, in which an adapter's
matrices are drawn.

Shapes: B texts, M tokens, D width, P width of the projection.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEFAULTS: Mapping[str, Any] = {  # what transformers leaves out of a config it may
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
FAULTY_END = 2  # in the configs of CLIP's first release, whose end token is the highest number of a text all the same


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": _quick_gelu,
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
}


class Embeddings(nn.Module):
    """Of the tokens and their places: [B, M] -> [B, M, D]."""

    def __init__(self, vocabulary: int, places: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(places, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


class Attention(nn.Module):
    """Each token attends to itself and to those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, M, D] -> the same."""
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        answer = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(answer.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """[B, M, D] -> the same."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    """[B, M, D] -> the same."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.self_attn = Attention(width, config["num_attention_heads"])
        self.layer_norm1 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = FeedForward(width, config["intermediate_size"], config["hidden_act"])
        self.layer_norm2 = nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """A stack of layers, read where one likes.

    Args:
        config: as transformers writes it.
        projected: whether it has a projection of the end token's state.

    Raises:
        KeyError: the config names an unknown activation.
    """

    def __init__(self, config: Mapping[str, Any], projected: bool) -> None:
        super().__init__()
        config = {**DEFAULTS, **config}
        width = config["hidden_size"]
        self.end = config["eos_token_id"]
        self.embeddings = Embeddings(config["vocab_size"], config["max_position_embeddings"], width)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.final_layer_norm = nn.LayerNorm(width, eps=config["layer_norm_eps"])
        self.text_projection = nn.Linear(width, config["projection_dim"], bias=False) if projected else None

    def forward(self, tokens: Tensor, skip: int = 1) -> tuple[Tensor, Tensor]:
        """Read the encoder.

        Args:
            tokens: [B, M].
            skip: layer counted from the end; 1 is the last.

        Returns:
            [B, M, D], that layer's answer, before the final norm, and [B, P], the end token's projected state behind
            all layers (P = 0 without a projection).
        """
        x = self.embeddings(tokens)
        last = len(self.encoder.layers) - skip
        hidden = x
        for index, layer in enumerate(self.encoder.layers):
            x = layer(x)
            if index == last:
                hidden = x
                if self.text_projection is None:
                    return hidden, x.new_zeros(len(x), 0)
        state = self.final_layer_norm(x)[torch.arange(len(x), device=x.device), self._ends(tokens)]
        return hidden, self.text_projection(state)

    def _ends(self, tokens: Tensor) -> Tensor:
        """[B], place of each text's first end token: it may also be what fills up."""
        return (tokens if self.end == FAULTY_END else (tokens == self.end).int()).argmax(dim=-1)
