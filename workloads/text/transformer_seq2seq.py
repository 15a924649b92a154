# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""A small encoder-decoder transformer (Vaswani et al. 2017), pre-norm, with learned places."""

import torch
from torch import Tensor, nn

from workloads.text.seq2seq import PADDING, Seq2Seq
from workloads.text.transformer import CrossBlock, SelfBlock, TokenEmbedding

__all__ = ["TransformerSeq2Seq"]

LAYERS = 2
"""Of the encoder and of the decoder each."""


class TransformerSeq2Seq(Seq2Seq):
    """Two blocks read the source, two write the target; without dropout."""

    def model(self, size: int) -> nn.Module:
        return TransformerSeq2SeqModel(
            (self.source_tokens, self.target_tokens),
            (self.source_length, self.target_length),
            size,
        )


class TransformerSeq2SeqModel(nn.Module):
    """(n, S + T) packed tokens to (n, T, V) logits of the target."""

    def __init__(self, tokens: tuple[int, int], lengths: tuple[int, int], width: int) -> None:
        super().__init__()
        self._lengths = list(lengths)
        self.source = TokenEmbedding(tokens[0], lengths[0], width)
        self.target = TokenEmbedding(tokens[1], lengths[1], width)
        self.encoder = nn.ModuleList(SelfBlock(width, causal=False) for _ in range(LAYERS))
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(CrossBlock(width) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens[1])

    def forward(self, packed: Tensor) -> Tensor:
        source, target = torch.split(packed, self._lengths, 1)
        seen = (source != PADDING)[:, None, None, :]
        read = self.source(source)
        for block in self.encoder:
            read = block(read, seen)
        read = self.encoder_norm(read)
        written = self.target(target)
        for block in self.decoder:
            written = block(written, read, seen)
        logits: Tensor = self.head(self.norm(written))
        return logits
