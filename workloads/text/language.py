"""The language workloads: characters and words of the State of the Union, two architectures."""

from workloads.text.lstm_language import LstmLanguage
from workloads.text.sotu import SotuCharacters, SotuWords
from workloads.text.transformer_language import TransformerLanguage

__all__ = ["CharactersLstm", "CharactersTransformer", "WordsLstm", "WordsTransformer"]


class CharactersLstm(SotuCharacters, LstmLanguage):
    """Characters by an LSTM."""

    name = "characters_lstm"
    version = 1


class CharactersTransformer(SotuCharacters, TransformerLanguage):
    """Characters by a transformer."""

    name = "characters_transformer"
    version = 1


class WordsLstm(SotuWords, LstmLanguage):
    """Words by an LSTM."""

    name = "words_lstm"
    version = 1


class WordsTransformer(SotuWords, TransformerLanguage):
    """Words by a transformer."""

    name = "words_transformer"
    version = 1
