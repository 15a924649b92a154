"""One small workload for each kind of model that the engine tells apart, all on the digits."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from workloads.axis import AxisValues
from workloads.base import Data, Split
from workloads.digits import Digits
from workloads.recipe import Recipe

SIDE = 8
CLASSES = 10

DIGITS = Recipe(
    train_examples=64,
    model_size=16,
    batch_size=5,
    learning_rate=0.1,
    momentum=0.9,
    steps=12,
    seed=3,
    axes=(("label_noise", 0.0),),
    evaluation_schedule="geometric:4",
)


class Perceptron(Digits):
    """Linear, ReLU, Linear, of any width."""

    name = "perceptron"


class TanhPerceptron(Digits):
    name = "tanh perceptron"

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, size), nn.Tanh(), nn.Linear(size, 11, bias=False), nn.Linear(11, 10)
        )


class GeluPerceptron(Digits):
    name = "gelu perceptron"

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(nn.Linear(64, size), nn.GELU(), nn.Linear(size, CLASSES))


class ImageDigits(Digits):
    """The digits as (1, 8, 8) images."""

    def data(self, axes: AxisValues) -> Data:
        data = super().data(axes)
        return Data(*(_shaped(s, 1, SIDE, SIDE) for s in (data.train, data.validation, data.test)))


class Convolutions(ImageDigits):
    """Two convolutions and a pooling layer; `model_size` channels."""

    name = "convolutions"

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, size, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(size, 3, 2, bias=False),
            nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(27, CLASSES)),
        )


class Normed(ImageDigits):
    """Dropout, layer norm and group norm, and one dropout layer called twice."""

    name = "normed"

    def model(self, size: int) -> nn.Module:
        return NormedModel(size)


class NormedModel(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.channels = nn.Linear(64, 4 * size)
        self.groups = nn.GroupNorm(2, 4)
        self.norm = nn.LayerNorm(4 * size)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4 * size, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.channels(images.flatten(1))
        hidden = self.groups(hidden.view(len(hidden), 4, -1)).flatten(1)
        hidden = self.drop(torch.relu(hidden))
        return self.head(self.drop(self.norm(hidden)))


class Tokens(Digits):
    """Each pixel's brightness is a token; their embeddings are averaged."""

    name = "tokens"

    def data(self, axes: AxisValues) -> Data:
        data = super().data(axes)
        splits = (data.train, data.validation, data.test)
        return Data(*(Split((s.inputs * 16).long(), s.targets) for s in splits))

    def model(self, size: int) -> nn.Module:
        return TokensModel(size)


class TokensModel(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, size)
        self.head = nn.Linear(64 * size, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(tokens)).flatten(1))


class Rows(Digits):
    """An image's rows are eight steps of a sequence."""

    name = "rows"

    def data(self, axes: AxisValues) -> Data:
        data = super().data(axes)
        return Data(*(_shaped(s, SIDE, SIDE) for s in (data.train, data.validation, data.test)))


class RowsLstm(Rows):
    name = "rows lstm"
    settings: ClassVar[dict[str, Any]] = {}

    def model(self, size: int) -> nn.Module:
        return LastOutput(nn.LSTM(SIDE, size, batch_first=True, **self.settings), size)


class RowsLstmWithDropout(RowsLstm):
    name = "rows lstm with dropout"
    settings: ClassVar[dict[str, Any]] = {"num_layers": 2, "dropout": 0.1}


class RowsGru(Rows):
    name = "rows gru"

    def model(self, size: int) -> nn.Module:
        return LastOutput(nn.GRU(SIDE, size, batch_first=True), size)


class LastOutput(nn.Module):
    """Classify by a recurrent layer's last output."""

    def __init__(self, recurrent: nn.Module, size: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(size, CLASSES)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.recurrent(rows)[0][:, -1])


class RowsTransformer(Rows):
    """One encoder layer over the rows."""

    name = "rows transformer"
    dropout = 0.0

    def model(self, size: int) -> nn.Module:
        layer = nn.TransformerEncoderLayer(
            SIDE, nhead=2, dim_feedforward=size, dropout=self.dropout, batch_first=True
        )
        return nn.Sequential(layer, nn.Flatten(), nn.Linear(64, CLASSES))


class RowsTransformerWithDropout(RowsTransformer):
    name = "rows transformer with dropout"
    dropout = 0.1


class BatchNormed(Digits):
    name = "batch normed"

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, size),
            nn.BatchNorm1d(size),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(size, CLASSES),
        )


class FunctionalDropout(Digits):
    """Draws from torch's own generator, which no layer shows."""

    name = "functional dropout"

    def model(self, size: int) -> nn.Module:
        return FunctionalDropoutModel(size)


class FunctionalDropoutModel(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(64, size), nn.Linear(size, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(functional.dropout(self.hidden(inputs), 0.5, self.training))


def _shaped(split: Split, *shape: int) -> Split:
    return Split(split.inputs.reshape(-1, *shape), split.targets)
