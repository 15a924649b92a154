"""Random crops and reflections: what they are, and that they are a cell's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from tests.workloads.training.stacks import trained, trained_alone
from workloads.axis import AxisError
from workloads.digits import Digits, DigitsCnn
from workloads.images.augmentation import AUGMENTATION
from workloads.images.cifar10 import Cifar10Cnn, Cifar10Mlp
from workloads.images.fashion_mnist import FashionMnistMlp
from workloads.images.mnist import MnistMlp
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.training.sampling import batches, training_shard
from workloads.training.training_inputs import TrainingInputs

STANDARD = (("augmentation", "standard"), ("inputs", "true_pixels"), ("label_noise", 0.0))
NONE = (("augmentation", "none"), *STANDARD[1:])

CELL = Recipe(
    train_examples=40,
    model_size=4,
    batch_size=5,
    learning_rate=0.1,
    momentum=0.9,
    steps=9,
    seed=0,
    axes=STANDARD,
    evaluation_schedule="geometric:2",
)


def augmented(workload, images: torch.Tensor, step: int = 0, axes=STANDARD) -> torch.Tensor:
    seen = TrainingInputs(workload, [replace(CELL, axes=axes)])
    return seen.of_steps(images, step, 1)


def crops(image: torch.Tensor, padding: int, reflects: bool) -> dict[bytes, tuple[int, int, bool]]:
    """Return all images that one (C, H, W) may become, cut out by hand."""
    _, height, width = image.shape
    padded = functional.pad(image, (padding,) * 4)
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            found[crop.contiguous().numpy().tobytes()] = (top, left, False)
            if reflects:
                found[crop.flip(2).contiguous().numpy().tobytes()] = (top, left, True)
    return found


@pytest.mark.parametrize(
    ("workload", "padding", "reflects"),
    [
        (DigitsCnn, 1, False),
        (Digits, 1, False),
        (MnistMlp, 4, False),
        (FashionMnistMlp, 4, True),
        (Cifar10Cnn, 4, True),
        (Cifar10Mlp, 4, True),
    ],
)
def test_an_image_becomes_any_crop_and_where_it_may_any_reflection(workload, padding, reflects):
    number = 4000
    image = torch.rand(workload.image_shape, generator=torch.Generator().manual_seed(0)) + 0.1
    possible = crops(image, padding, reflects)
    shape = (workload.input_features,) if workload.flat else workload.image_shape
    same = image.reshape(1, *shape).expand(number, *shape).contiguous()
    changed = augmented(workload(), same)
    assert changed.shape == same.shape
    # Every result is one of those cut by hand, and each is as frequent as another.
    names = list(possible.values())
    counts = dict.fromkeys(names, 0)
    for one in changed:
        counts[possible[one.numpy().tobytes()]] += 1
    assert len(counts) == (2 * padding + 1) ** 2 * (2 if reflects else 1)
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4  # the draws are fixed


def test_without_augmentation_nothing_is_touched():
    images = torch.rand(6, 64)
    assert augmented(Digits(), images, axes=NONE) is images


def test_every_step_seed_and_example_draws_anew():
    images = torch.arange(64.0).expand(400, 64) + 1
    first, second = (augmented(Digits(), images, step) for step in (0, 1))
    other = TrainingInputs(Digits(), [replace(CELL, seed=1)]).of_steps(images, 0, 1)
    # Of nine offsets two draws agree once in nine: 44 of 400, with four binomial standard errors.
    for a, b in ((first, second), (first, other), (first[:-1], first[1:])):
        assert (a == b).all(1).sum() == pytest.approx(400 / 9, abs=4 * (400 * 8 / 81) ** 0.5)


def test_steps_drawn_together_are_those_drawn_alone_whoever_else_is_there():
    cells = [
        CELL,
        replace(CELL, seed=1),
        replace(CELL, seed=1, axes=NONE),
        replace(CELL, seed=1, axes=(*STANDARD[:2], ("label_noise", 0.5))),
    ]
    images = torch.rand(3, 4, 5, 64, generator=torch.Generator().manual_seed(0))
    kept = images.clone()
    together = TrainingInputs(Digits(), cells).of_steps(images.flatten(0, 2), 7, 3)
    assert torch.equal(images, kept)
    for step in range(3):
        for member, cell in enumerate(cells):
            alone = TrainingInputs(Digits(), [cell]).of_steps(images[step, member], 7 + step, 1)
            assert torch.equal(together.view_as(images)[step, member], alone)


def test_members_that_stay_keep_their_own():
    cells = [replace(CELL, seed=seed) for seed in range(3)]
    seen = TrainingInputs(Digits(), cells)
    seen.keep([2, 0])
    images = torch.rand(2, 5, 64)
    kept = seen.of_steps(images.flatten(0, 1), 3, 1).view_as(images)
    for place, cell in enumerate((cells[2], cells[0])):
        alone = TrainingInputs(Digits(), [cell]).of_steps(images[place], 3, 1)
        assert torch.equal(kept[place], alone)


@pytest.mark.parametrize("workload", [Digits, DigitsCnn])
def test_augmented_cells_come_out_stacked_as_alone(workload):
    cells = [
        CELL,
        replace(CELL, seed=1, learning_rate=0.03),
        replace(CELL, axes=NONE),
        replace(CELL, train_examples=80, steps=5),
        replace(CELL, axes=(*STANDARD[:2], ("label_noise", 1.0))),
    ]
    results = trained(workload(), cells)
    assert results == trained_alone(workload(), cells)
    assert results[0] != results[2]


def test_a_plain_loop_sees_crops_of_the_same_batches():
    pool = load_data(Digits(), dict(STANDARD)).train
    loops = [
        batches(Digits(), cell, training_shard(Digits(), cell, pool))
        for cell in (CELL, replace(CELL, axes=NONE))
    ]
    for _ in range(4):
        (crop, targets), (true, wanted) = map(next, loops)
        assert torch.equal(targets, wanted)
        for image, own in zip(crop, true, strict=True):
            assert image.numpy().tobytes() in crops(own.view(1, 8, 8), 1, False)


def test_evaluations_see_images_as_they_are():
    # With a rate of zero the model stays: losses on whole sets must be those without augmentation.
    still = replace(CELL, learning_rate=0.0, momentum=0.0)
    (with_crops,), (without,) = (
        trained(Digits(), [replace(still, axes=axes)]) for axes in (STANDARD, NONE)
    )
    assert with_crops.train_loss == without.train_loss
    assert with_crops.test_loss == without.test_loss
    assert np.not_equal(with_crops.curve[0].train_loss, without.curve[0].train_loss)


def test_other_augmentations_are_refused():
    with pytest.raises(AxisError, match="allowed: one of none, standard"):
        AUGMENTATION.cast("mixup")
