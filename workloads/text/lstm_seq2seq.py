# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""An encoder-decoder of LSTMs with attention.

The encoder reads both ways (Bahdanau et al. 2015, arXiv:1409.0473). The decoder's hidden states
ask for what they need once they are all known (Luong et al. 2015, arXiv:1508.04025, global
attention, "general" score, without input feeding), so that its LSTM runs through the whole target
at once. Deviations: one layer, no dropout.
"""

import torch
from torch import Tensor, nn

from workloads.text.seq2seq import PADDING, Seq2Seq

__all__ = ["LstmSeq2Seq"]


class LstmSeq2Seq(Seq2Seq):
    """`model_size` units in the encoder each way and in the decoder."""

    stackable = False
    """As `workloads.text.lstm_language` says: on a CPU torch's own LSTM is faster than a stack."""

    def model(self, size: int) -> nn.Module:
        return LstmSeq2SeqModel(
            (self.source_tokens, self.target_tokens),
            (self.source_length, self.target_length),
            size,
        )


class LstmSeq2SeqModel(nn.Module):
    """(n, S + T) packed tokens to (n, T, V) logits of the target."""

    def __init__(self, tokens: tuple[int, int], lengths: tuple[int, int], width: int) -> None:
        super().__init__()
        self._lengths = list(lengths)
        self.source = nn.Embedding(tokens[0], width)
        self.target = nn.Embedding(tokens[1], width)
        self.onward = nn.LSTM(width, width, batch_first=True)
        self.homeward = nn.LSTM(width, width, batch_first=True)
        self.start = nn.Linear(width, width)
        self.decoder = nn.LSTM(width, width, batch_first=True)
        self.score = nn.Linear(2 * width, width, bias=False)
        self.join = nn.Linear(3 * width, width)
        self.head = nn.Linear(width, tokens[1])

    def forward(self, packed: Tensor) -> Tensor:
        source, target = torch.split(packed, self._lengths, 1)
        seen = source != PADDING
        onward, back = self._read(self.source(source), seen)
        read = torch.cat([onward, back], 2)
        hidden = torch.tanh(self.start(back[:, 0]))[None]
        states = self.decoder(self.target(target), (hidden, torch.zeros_like(hidden)))[0]
        scores = states @ self.score(read).transpose(1, 2)
        weights = scores.masked_fill(~seen[:, None, :], -torch.inf).softmax(-1)
        joined = torch.tanh(self.join(torch.cat([states, weights @ read], 2)))
        logits: Tensor = self.head(joined)
        return logits

    def _read(self, embedded: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (n, S, width) states of reading onward, and of reading backward.

        Backward from each source's own last token: padding stays behind it, so that no state of a
        token knows of any.
        """
        places = torch.arange(seen.shape[1], device=seen.device)
        last = seen.sum(1, keepdim=True) - 1
        turned = torch.where(places <= last, last - places, places)
        index = turned[:, :, None].expand_as(embedded)
        backward = self.homeward(embedded.gather(1, index))[0]
        return self.onward(embedded)[0], backward.gather(1, index)
