"""Workloads that break the contract, each in one way; at the top level, where a study looks."""

import itertools
import random
import threading

import numpy as np
import torch
from torch import nn

from tests.workloads.samples import RareSigns, Signs
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


class TestsOnThePoolAtAnotherShift(Signs):
    def data(self, axes):
        data = super().data(axes)
        return Data(data.train, data.validation, data.train) if axes["shift"] else data


class OtherTypeAtAnotherShift(OtherTypeOfTargets):
    def data(self, axes):
        return super().data(axes) if axes["shift"] else Signs.data(self, axes)


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


class MeanMetric(Signs):
    def metrics(self, outputs, targets):
        return {"accuracy": 1 - self.error(outputs, targets).mean()}


class MetricAcrossTheBatch(Signs):
    def metrics(self, outputs, targets):
        losses = self.loss(outputs, targets)
        return {"share": losses / losses.sum()}


class MetricOfManyAlone(Signs):
    def metrics(self, outputs, targets):
        return {"margin": outputs.diff().abs()[:, 0]} if len(outputs) > 1 else {}


class _Mixing(nn.Module):
    """A hidden layer, what is done with it across examples, and the rest."""

    def __init__(self, size, mix):
        super().__init__()
        self.first, _, self.last = Signs().model(size)
        self.mix = mix

    def forward(self, inputs):
        return self.last(self.mix(torch.tanh(self.first(inputs))))


class _Centred(nn.Module):
    def forward(self, hidden):
        return hidden - hidden.mean(0)


class _ClosedGate(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.gate = nn.Parameter(torch.zeros(size))

    def forward(self, hidden):
        return self.scale * hidden + self.gate * hidden.roll(1, 0)


class _AlongExamples(nn.LSTM):
    def forward(self, hidden):
        outputs, _ = super().forward(hidden)  # of one sequence
        return outputs


class CentresTheBatch(Signs):
    def model(self, size):
        return _Mixing(size, _Centred())


class NormalizesByTheBatch(Signs):
    def model(self, size):
        return _Mixing(size, nn.BatchNorm1d(size, track_running_stats=False))


class TakesExamplesForSteps(Signs):
    def model(self, size):
        return _Mixing(size, _AlongExamples(size, size))


class MixesOnceItIsTrained(Signs):
    def model(self, size):
        return _Mixing(size, _ClosedGate(size))


class SqueezesItsOutputs(Signs):
    def model(self, size):
        model = super().model(size)
        model.register_forward_hook(lambda module, inputs, outputs: outputs.squeeze())
        return model


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


class OverstatedChanceOfOneLogit(RareSigns):
    chance_error = 0.9


class OverstatedChanceOfAColumn(OverstatedChanceOfOneLogit):
    def model(self, size):
        return super().model(size)[:-1]


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


class DrawsInItsMetrics(Signs):
    def metrics(self, outputs, targets):
        return {"noisy": self.loss(outputs, targets) + 0 * torch.rand(())}
