"""Parameters of each architecture, the arithmetic path of each size, and stacks of them."""

from dataclasses import replace

import pytest
import torch

from tests.workloads.images.test_image_workloads import DigitsResNet
from tests.workloads.needed_data import needs
from tests.workloads.training.stacks import trained, trained_alone
from workloads.data.catalogue import MNIST
from workloads.digits import Digits, DigitsCnn
from workloads.images.cifar10 import Cifar10Cnn, Cifar10Mlp, Cifar10ResNet
from workloads.images.mnist import MnistCnn, MnistMlp, MnistResNet
from workloads.recipe import Recipe
from workloads.training.arithmetic import Arithmetic, choose_arithmetic


def perceptron(inputs: int, width: int) -> int:
    return (inputs + 1) * width + (width + 1) * 10


def convolutions(colours: int, pixels: int, w: int) -> int:
    """Return the parameters of the network whose last images have so many pixels."""
    return (9 * colours + 1) * w + (9 * w + 1) * 2 * w + (2 * w * pixels + 1) * 10


def residual(colours: int, w: int) -> int:
    """Return 3 × 3 kernels without biases, scale and shift of 7 normalizations, and the linear."""
    kernels = colours * w + 2 * w * w + (2 + 4) * w * w + (8 + 16) * w * w
    return 9 * kernels + 2 * (3 * w + 2 * 2 * w + 2 * 4 * w) + (4 * w + 1) * 10


@pytest.mark.parametrize(
    ("workload", "size", "parameters"),
    [
        (Digits, 64, perceptron(64, 64)),
        (MnistMlp, 800, perceptron(784, 800)),  # 636,010: Smith & Le's
        (Cifar10Mlp, 512, perceptron(3072, 512)),
        (DigitsCnn, 8, convolutions(1, 2 * 2, 8)),
        (MnistCnn, 8, convolutions(1, 7 * 7, 8)),
        (Cifar10Cnn, 8, convolutions(3, 8 * 8, 8)),
        (DigitsResNet, 4, residual(1, 4)),
        (MnistResNet, 5, residual(1, 5)),
        # 0.08 M with He et al.'s width, whose next larger one, of 20 layers, has 0.27 M (Table 6).
        (Cifar10ResNet, 16, residual(3, 16)),
    ],
)
def test_parameters_are_those_of_the_formula(workload, size: int, parameters: int):
    model = workload().model(size)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    outputs = model(torch.zeros(2, *workload.image_shape).view(2, *_shape_of_one(workload)))
    assert outputs.shape == (2, 10)


def _shape_of_one(workload) -> tuple[int, ...]:
    return (workload.input_features,) if workload.flat else workload.image_shape


def path(workload, size: int, batch: int, device: str = "cpu") -> Arithmetic:
    axes = tuple(sorted((axis.name, axis.default) for axis in workload.axes))
    return choose_arithmetic(workload(), size, axes, batch, device).arithmetic


@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize(
    ("workload", "size"),
    [
        (Digits, 64),
        (DigitsCnn, 1),
        (DigitsCnn, 16),
        pytest.param(MnistMlp, 64, marks=needs(MNIST)),
        pytest.param(MnistCnn, 8, marks=needs(MNIST)),
    ],
)
def test_small_perceptrons_and_convolutions_take_the_fast_path(workload, size: int, batch: int):
    assert path(workload, size, batch) is Arithmetic.STACKED_LAYERS


@needs(MNIST)
def test_what_keeps_a_processor_busy_by_itself_trains_one_by_one():
    assert path(MnistMlp, 800, 32) is Arithmetic.ONE_BY_ONE
    assert path(MnistCnn, 16, 32) is Arithmetic.ONE_BY_ONE
    assert path(MnistResNet, 4, 8) is Arithmetic.ONE_BY_ONE


@needs(MNIST)
def test_on_a_gpu_all_of_them_are_stacked():
    assert path(MnistMlp, 800, 32, "cuda") is Arithmetic.STACKED_LAYERS
    assert path(MnistCnn, 16, 32, "cuda") is Arithmetic.STACKED_LAYERS
    assert path(MnistResNet, 4, 8, "cuda") is Arithmetic.STACKED_MODULES


def test_a_residual_network_is_stacked_by_torch_func():
    assert path(DigitsResNet, 2, 5) is Arithmetic.STACKED_MODULES


@pytest.mark.parametrize("workload", [Digits, DigitsCnn, DigitsResNet])
@pytest.mark.parametrize("condition", ["true_pixels", "gaussian"])
def test_stacked_cells_come_out_as_alone(workload, condition: str):
    axes = (("augmentation", "none"), ("inputs", condition), ("label_noise", 0.0))
    cell = Recipe(
        train_examples=40,
        model_size=2,
        batch_size=5,
        learning_rate=0.1,
        momentum=0.9,
        steps=9,
        seed=0,
        axes=axes,
        evaluation_schedule="geometric:2",
    )
    noisy = (*axes[:2], ("label_noise", 1.0))
    cells = [
        cell,
        replace(cell, seed=1, learning_rate=0.03),
        replace(cell, train_examples=80, steps=5),
        replace(cell, axes=noisy),
    ]
    assert trained(workload(), cells) == trained_alone(workload(), cells)
