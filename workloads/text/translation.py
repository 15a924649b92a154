"""The translation workloads: English verses into Spanish, two architectures."""

from workloads.text.bible import Bible
from workloads.text.lstm_seq2seq import LstmSeq2Seq
from workloads.text.transformer_seq2seq import TransformerSeq2Seq

__all__ = ["TranslationLstm", "TranslationTransformer"]


class TranslationLstm(Bible, LstmSeq2Seq):
    """Verses by LSTMs with attention."""

    name = "translation_lstm"
    version = 1


class TranslationTransformer(Bible, TransformerSeq2Seq):
    """Verses by a transformer."""

    name = "translation_transformer"
    version = 1
