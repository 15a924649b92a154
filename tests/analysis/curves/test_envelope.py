import numpy as np
import pytest

from analysis.curves.envelope import candidates, comparable, cross_fit


def cross_fit_by_loops(logs):
    """The definition, cell by cell, for complete tables."""
    sizes, _, seeds = logs.shape
    scores = np.empty((sizes, seeds))
    for m in range(sizes):
        for s in range(seeds):
            others = [t for t in range(seeds) if t != s]
            scores[m, s] = logs[m, logs[m][:, others].mean(axis=1).argmin(), s]
    return scores


def test_each_seed_is_scored_on_the_choice_of_the_others():
    logs = np.random.default_rng(0).normal(size=(5, 4, 6))
    np.testing.assert_array_equal(cross_fit(logs).log_error, cross_fit_by_loops(logs))


def test_the_score_of_equal_choices_is_not_biased_by_choosing():
    logs = np.random.default_rng(1).normal(size=(4000, 5, 5))
    envelope = cross_fit(logs)
    naive = np.take_along_axis(logs, envelope.best[:, None, None], axis=1).mean()
    # Mean of 20,000 unit normals, in part correlated: sd at most 1/sqrt(4000) = .016; three of it.
    assert abs(envelope.log_error.mean()) < 0.048
    # The best of 5 means of 5 seeds lies E[max of 5 normals] = 1.163 / sqrt(5) = .52 too low.
    assert naive == pytest.approx(-0.52, abs=0.03)


def test_a_clear_winner_is_chosen_for_every_seed():
    logs = np.random.default_rng(2).normal(scale=0.01, size=(3, 4, 5))
    logs[:, 2] -= 1
    envelope = cross_fit(logs)
    assert (envelope.choice == 2).all()
    assert (envelope.best == 2).all()
    np.testing.assert_array_equal(envelope.log_error, logs[:, 2])


def test_a_choice_without_all_seeds_of_its_size_takes_no_part():
    logs = np.zeros((1, 2, 3))
    logs[0, 1] = [-5, -5, np.nan]
    assert candidates(logs).tolist() == [[True, False]]
    envelope = cross_fit(logs)
    assert envelope.choice.tolist() == [[0, 0, 0]]
    assert envelope.log_error.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("seeds_of", "choices", "seeds", "doubtful"),
    [
        (("01234", "01234"), "01", "01234", False),
        (("01234", "0123"), "01", "0123", False),  # a lost cell
        (("01234", "012"), "01", "012", False),
        (("01234", "01"), "0", "01234", True),  # too few shared; 1 is ahead
        (("01", "01234"), "1", "01234", False),  # 0 is behind
        (("012", "234", "01234"), "02", "012", False),  # of equal ones the last is left out
        (("01", "23"), "0", "01", True),  # no seed shared: by their own
        (("01234", ""), "0", "01234", False),
        (("", ""), "", "", False),
    ],
)
def test_choices_are_compared_over_the_seeds_that_they_share(seeds_of, choices, seeds, doubtful):
    logs = np.full((1, len(seeds_of), 5), np.nan)
    for choice, own in enumerate(seeds_of):
        logs[0, choice, [int(seed) for seed in own]] = -choice
    told = comparable(logs, needed=3)
    assert "".join(map(str, np.flatnonzero(told.choices[0]))) == choices
    assert "".join(map(str, np.flatnonzero(told.seeds[0]))) == seeds
    assert told.doubtful.tolist() == [doubtful]


def test_a_seed_that_a_size_lacks_has_no_score_there():
    logs = np.zeros((1, 2, 4))
    logs[0, :, 3] = np.nan
    logs[0, 1, :3] = -1
    envelope = cross_fit(logs)
    assert envelope.choice.tolist() == [[1, 1, 1, -1]]
    assert np.isnan(envelope.log_error[0, 3])


def test_one_seed_cannot_choose_among_several_but_a_single_choice_needs_none():
    several, single = np.zeros((1, 2, 1)), np.zeros((1, 1, 1))
    assert np.isnan(cross_fit(several).log_error).all()
    assert cross_fit(single).log_error.tolist() == [[0.0]]


def test_equal_choices_go_to_the_first():
    assert (cross_fit(np.zeros((2, 3, 4))).choice == 0).all()
