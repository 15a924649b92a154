"""Blocks of a pre-norm transformer, made of layers that stack.

Pre-norm, because it trains without a warm-up of the learning rate (Xiong et al. 2020,
arXiv:2002.04745). Attention has no biases: one on the keys would have no gradient.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CrossBlock", "SelfBlock", "TokenEmbedding"]

HEADS = 4
"""Heads of attention; fewer where four do not divide the width."""

EXPANSION = 4
"""Hidden units of a block's perceptron per unit of width (Vaswani et al. 2017, §3.3)."""

PLACE_SCALE = 0.1
"""Standard deviation of a place's embedding at first: a token's, of 1, must stay legible."""


class TokenEmbedding(nn.Module):
    """(n, L) tokens to (n, L, width): what the token is, plus where it stands, both learned."""

    def __init__(self, tokens: int, places: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(tokens, width)
        self.place = nn.Parameter(torch.randn(places, width) * PLACE_SCALE)

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102  (the class says it)
        embedded: Tensor = self.token(tokens) + self.place[: tokens.shape[1]]
        return embedded


class SelfBlock(nn.Module):
    """Attention of a sequence to itself, then a perceptron, each added to what it is given."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width, bias=False)
        self.perceptron = _Perceptron(width)
        self._heads, self._causal = math.gcd(HEADS, width), causal

    def forward(self, hidden: Tensor, seen: Tensor | None = None) -> Tensor:
        """`hidden`: (n, L, width). `seen`: (n, 1, 1, L), False where nobody may look."""
        queries, keys, values = _by_head(self.project(self.norm(hidden)), 3, self._heads)
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen, is_causal=self._causal
        )
        joined: Tensor = hidden + self.join(_together(attended))
        deeper: Tensor = joined + self.perceptron(joined)
        return deeper


class CrossBlock(nn.Module):
    """Causal attention of a sequence to itself, then attention to another, then a perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width, bias=False)
        self.cross_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.source = nn.Linear(width, 2 * width, bias=False)
        self.cross_join = nn.Linear(width, width, bias=False)
        self.perceptron = _Perceptron(width)
        self._heads = math.gcd(HEADS, width)

    def forward(self, hidden: Tensor, source: Tensor, seen: Tensor) -> Tensor:
        """`hidden`: (n, T, width). `source`: (n, S, width). `seen`: (n, 1, 1, S)."""
        queries, keys, values = _by_head(self.project(self.norm(hidden)), 3, self._heads)
        attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        hidden = hidden + self.join(_together(attended))
        (queries,) = _by_head(self.query(self.cross_norm(hidden)), 1, self._heads)
        keys, values = _by_head(self.source(source), 2, self._heads)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        joined: Tensor = hidden + self.cross_join(_together(attended))
        deeper: Tensor = joined + self.perceptron(joined)
        return deeper


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, EXPANSION * width)
        self.down = nn.Linear(EXPANSION * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        down: Tensor = self.down(functional.gelu(self.up(self.norm(hidden))))
        return down


def _by_head(projected: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Return `parts` of (n, L, parts · width), each (n, heads, L, width / heads)."""
    n, length, _ = projected.shape
    return projected.view(n, length, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _together(attended: Tensor) -> Tensor:
    """Return (n, heads, L, d) as (n, L, heads · d)."""
    return attended.transpose(1, 2).flatten(2)
