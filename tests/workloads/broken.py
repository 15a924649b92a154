"""Workloads that break the contract, each in one way; at the top level, where a study looks."""

import itertools
import random
import threading

import numpy as np
import torch
from torch import nn

from tests.workloads.samples import Signs
from workloads.axis import Axis, AxisKind
from workloads.base import Data, Split


class WithoutVersion(Signs):
    version = None


class HoldsALock(Signs):
    def __init__(self):
        self.lock = threading.Lock()


class EmptyTestSet(Signs):
    def data(self, axes):
        data = super().data(axes)
        return Data(data.train, data.validation, Split(data.test.inputs[:0], data.test.targets[:0]))


class OtherTypeOfTargets(Signs):
    def data(self, axes):
        data = super().data(axes)
        return Data(data.train, data.validation, Split(data.test.inputs, data.test.targets.float()))


class InfiniteInputs(Signs):
    def data(self, axes):
        data = super().data(axes)
        return Data(
            data.train, Split(data.validation.inputs / 0, data.validation.targets), data.test
        )


class TestsOnThePool(Signs):
    def data(self, axes):
        data = super().data(axes)
        return Data(
            data.train, data.validation, Split(data.train.inputs[-9:], data.train.targets[-9:])
        )


class DependsOnTheHashSeed(Signs):
    def data(self, axes):
        data = super().data(axes)
        order = [int(word) for word in {str(i) for i in range(len(data.train))}]
        return Data(
            Split(data.train.inputs[order], data.train.targets[order]), data.validation, data.test
        )


class DependsOnGlobalRandomness(Signs):
    def data(self, axes):
        data = super().data(axes)
        return Data(
            Split(data.train.inputs + torch.rand(()), data.train.targets),
            data.validation,
            data.test,
        )


class DeafAxis(Signs):
    axes = (
        *Signs.axes,
        Axis(name="depth", kind=AxisKind.INTEGER, meaning="Unused.", default=1, minimum=1),
    )


class StaleFingerprint(Signs):
    def data_fingerprint(self, axes):
        return "0123456789abcdef"


class ChangesItsCache(Signs):
    cache = Signs().data({"shift": 0.0})

    def data(self, axes):
        self.cache.train.inputs.add_(float(axes["shift"]))
        return self.cache


class ChangesTheTargets(Signs):
    def training_targets(self, targets, axes, stream):
        targets[0] = 1 - targets[0]
        return targets


class TargetsOfAnotherShape(Signs):
    def training_targets(self, targets, axes, stream):
        return targets[:-1]


class NoiseFromElsewhere(Signs):
    calls = itertools.count()

    def training_targets(self, targets, axes, stream):
        noise = np.random.default_rng(next(self.calls)).random(len(targets)) < 0.5
        return torch.where(torch.from_numpy(noise), 1 - targets, targets)


class ChangesTheInputs(Signs):
    def training_inputs(self, inputs, axes, draw):
        return inputs.mul_(2)


class AugmentsByTheBatch(Signs):
    def training_inputs(self, inputs, axes, draw):
        return inputs - inputs.mean(0)


class AugmentsByItself(Signs):
    def training_inputs(self, inputs, axes, draw):
        return inputs + torch.tensor(np.random.default_rng().random(inputs.shape)).float()


class MeanLoss(Signs):
    def loss(self, outputs, targets):
        return super().loss(outputs, targets).mean()


class ErrorAbove1(Signs):
    def error(self, outputs, targets):
        return super().error(outputs, targets) * 100


class LossAcrossTheBatch(Signs):
    def loss(self, outputs, targets):
        losses = super().loss(outputs, targets)
        return losses - losses.mean() + 1


class DropsInEvaluation(Signs):
    def model(self, size):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = Signs().model(size)

            def forward(self, inputs):
                return self.layers(nn.functional.dropout(inputs, 0.2))

        return Model()


class UnusedLayer(Signs):
    def model(self, size):
        model = super().model(size)
        model.spare = nn.Linear(2, 2)
        model.forward = lambda inputs: model[2](model[1](model[0](inputs)))
        return model


class InitializedByNumPy(Signs):
    def model(self, size):
        model = super().model(size)
        model[0].bias.data.fill_(np.random.rand())  # noqa: NPY002
        return model


class InitializedAlike(Signs):
    def model(self, size):
        model = super().model(size)
        fixed = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.data.normal_(generator=fixed)
        return model


class OverstatedChance(Signs):
    chance_error = 0.9


class NeverLearns(Signs):
    def loss(self, outputs, targets):
        losses = super().loss(outputs, targets)
        return 2 * losses.detach() - losses


class TrainsByACounter(Signs):
    calls = itertools.count()

    def loss(self, outputs, targets):
        return super().loss(outputs, targets) * (1 + next(self.calls) % 7)


class SeedsTorch(Signs):
    def data(self, axes):
        torch.manual_seed(0)
        return super().data(axes)


class DrawsInItsLoss(Signs):
    def loss(self, outputs, targets):
        return super().loss(outputs, targets) + 0 * random.random()
