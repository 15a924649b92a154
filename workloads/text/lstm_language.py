# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""A language model of one LSTM layer between an embedding and a linear layer, not tied."""

from torch import Tensor, nn

from workloads.text.next_token import NextToken

__all__ = ["LstmLanguage"]


class LstmLanguage(NextToken):
    """One LSTM layer, without dropout; Hestness et al. 2017, §4.2, stack two to four."""

    stackable = False
    """On a CPU torch's own LSTM, one operation a sequence, is faster than stacks of its steps: by a
    factor of 1.4 (32 cells of width 16, 64 steps) to 4 (8 or 32 cells of width 64)."""

    def model(self, size: int) -> nn.Module:
        return LstmLanguageModel(self.tokens, size)


class LstmLanguageModel(nn.Module):
    """(n, L) tokens to (n, L, V) logits of the next, each from those up to its own place."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.recurrent = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.recurrent(self.embedding(tokens))[0])
        return logits
