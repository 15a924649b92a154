# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""A small decoder-only transformer: learned places, pre-norm, embeddings not tied."""

from torch import Tensor, nn

from workloads.text.next_token import NextToken
from workloads.text.transformer import SelfBlock, TokenEmbedding

__all__ = ["TransformerLanguage"]

LAYERS = 2
"""Two, the fewest that can copy from context (Olsson et al. 2022, arXiv:2209.11895)."""


class TransformerLanguage(NextToken):
    """Two causal blocks, without dropout."""

    def model(self, size: int) -> nn.Module:
        return TransformerLanguageModel(self.tokens, self.context, size)


class TransformerLanguageModel(nn.Module):
    """(n, L) tokens to (n, L, V) logits of the next, each from those up to its own place."""

    def __init__(self, tokens: int, context: int, width: int) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(tokens, context, width)
        self.blocks = nn.ModuleList(SelfBlock(width, causal=True) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits
