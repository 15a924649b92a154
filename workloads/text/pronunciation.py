"""Pronunciation: the phones of an English word from its letters (grapheme to phoneme)."""

from workloads.text.cmudict import Cmudict
from workloads.text.lstm_seq2seq import LstmSeq2Seq
from workloads.text.transformer_seq2seq import TransformerSeq2Seq

__all__ = ["PronunciationLstm", "PronunciationTransformer"]


class PronunciationLstm(Cmudict, LstmSeq2Seq):
    """Words by LSTMs with attention."""

    name = "pronunciation_lstm"
    version = 1


class PronunciationTransformer(Cmudict, TransformerSeq2Seq):
    """Words by a transformer."""

    name = "pronunciation_transformer"
    version = 1
