"""The randomization tests of Zhang et al. 2017, §2: what stands in the place of the images."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from workloads.digits import Digits, DigitsCnn
from workloads.images.image_classification import (
    IMAGES_AT_ONCE,
    Condition,
    _drawn_from,
    _each_in_its_own_order,
    _gaussian_tables,
    _in_order,
)
from workloads.streams import permutation


def inputs(condition: Condition, workload=Digits) -> list[np.ndarray]:
    data = workload().data({"inputs": condition.value})
    return [split.inputs.numpy() for split in (data.train, data.validation, data.test)]


def colours(images: int, side: int = 8) -> np.ndarray:
    """Return images whose every pixel is another colour: (p, 2 p, 3 p) at place p."""
    places = np.arange(side * side, dtype=np.uint8)
    one = np.stack([places, 2 * places, 3 * places]).reshape(1, 3, side, side)
    return np.repeat(one, images, axis=0)


def test_shuffled_pixels_are_one_permutation_of_all_images_of_all_sets():
    true = np.concatenate(inputs(Condition.TRUE))
    shuffled = np.concatenate(inputs(Condition.SHUFFLED))
    # The pixels' columns, through all images of all sets, are the same ones in another order.
    columns, moved = ([column.tobytes() for column in each.T] for each in (true, shuffled))
    assert Counter(columns) == Counter(moved)
    assert columns != moved


def test_a_shuffled_pixel_keeps_its_colour():
    images = colours(3)
    order = permutation(64, "a test")
    shuffled = _in_order(images, order)
    assert shuffled.flags.c_contiguous
    for image in shuffled.reshape(3, 3, 64):
        np.testing.assert_array_equal(image[0], order)
        np.testing.assert_array_equal(image, images[0].reshape(3, 64)[:, order])


def test_random_pixels_are_each_images_own_pixels():
    for true, random in zip(inputs(Condition.TRUE), inputs(Condition.RANDOM), strict=True):
        assert (true != random).any(axis=1).all()
        np.testing.assert_array_equal(np.sort(true), np.sort(random))


def test_the_order_of_random_pixels_is_each_images_own_and_keeps_colours():
    orders = _each_in_its_own_order(colours(6000), "a test").reshape(6000, 3, 64)
    assert len({order.tobytes() for order in orders[:, 0]}) == 6000
    np.testing.assert_array_equal(np.sort(orders[:, 0]), np.tile(np.arange(64), (6000, 1)))
    np.testing.assert_array_equal(orders[:, 1], 2 * orders[:, 0])
    np.testing.assert_array_equal(orders[:, 2], 3 * orders[:, 0].astype(np.uint8))
    # Any pixel is anywhere alike, a dark one too: its low bits must not decide its place.
    for pixel in (0, 1, 63):
        counts = np.bincount(np.nonzero(orders[:, 0] == pixel)[1], minlength=64)
        assert stats.chisquare(counts).pvalue > 1e-4  # the draws are fixed


def test_the_order_of_an_images_pixels_does_not_depend_on_how_many_there_are():
    images = colours(IMAGES_AT_ONCE + 3)
    many = _each_in_its_own_order(images, "a test")
    few = _each_in_its_own_order(images[:5], "a test")
    np.testing.assert_array_equal(many[:5], few)
    assert len({image.tobytes() for image in many}) == len(many)


def test_gaussian_inputs_have_the_pools_mean_and_variance():
    true = inputs(Condition.TRUE)[0].astype(float)
    for noise in (each.astype(float) for each in inputs(Condition.GAUSSIAN)):
        assert noise.shape[1:] == true.shape[1:]
        number = noise.size
        # Four standard errors of a Gaussian's mean and variance.
        assert noise.mean() == pytest.approx(true.mean(), abs=4 * true.std() / number**0.5)
        assert noise.var() == pytest.approx(true.var(), rel=4 * (2 / number) ** 0.5)
        standardized = (noise.ravel() - true.mean()) / true.std()
        assert stats.kstest(standardized, "norm").pvalue > 1e-4
    pool, validation, test = inputs(Condition.GAUSSIAN)
    assert len({row.tobytes() for row in (*pool, *validation, *test)}) == 1797


def test_gaussian_noise_matches_each_colours_own_moments():
    draws = np.random.default_rng(0)
    scale = np.array([10, 100, 250])[:, None, None]
    pool = (draws.random((500, 3, 8, 8)) * scale).astype(np.uint8)
    noise = _drawn_from(_gaussian_tables(pool, 255), (3000, 3, 8, 8), "a test")
    for channel in range(3):
        true, drawn = pool[:, channel] / 255, noise[:, channel]
        assert drawn.mean() == pytest.approx(true.mean(), abs=4 * true.std() / drawn.size**0.5)
        assert drawn.std() == pytest.approx(true.std(), rel=4 * (1 / (2 * drawn.size)) ** 0.5)
    correlations = np.corrcoef(noise.transpose(1, 0, 2, 3).reshape(3, -1))
    assert np.abs(correlations - np.eye(3)).max() < 4 / (3000 * 64) ** 0.5


@pytest.mark.parametrize("condition", Condition)
def test_labels_are_true_in_every_condition(condition: Condition):
    true, other = (
        Digits().data({"inputs": each}) for each in (Condition.TRUE.value, condition.value)
    )
    assert torch.equal(true.train.targets, other.train.targets)
    assert torch.equal(true.test.targets, other.test.targets)


@pytest.mark.parametrize("condition", Condition)
def test_architectures_of_a_data_set_see_the_same_images(condition: Condition):
    for vectors, images in zip(inputs(condition), inputs(condition, DigitsCnn), strict=True):
        assert images.shape[1:] == (1, 8, 8)
        np.testing.assert_array_equal(vectors, images.reshape(-1, 64))
