"""What a study relies on: every method of the suite is one test."""

from digit_pairs import DigitPairs

from workloads.testing import WorkloadConformance


class TestDigitPairs(WorkloadConformance):
    """The suite that scikit-learn's digits in pairs must pass."""

    workload = DigitPairs
