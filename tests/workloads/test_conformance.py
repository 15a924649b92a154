"""The suite that plug-in authors rely on must catch what it is there to catch."""

import inspect

import pytest

from tests.workloads import broken
from tests.workloads.samples import RareSigns, Signs
from workloads.base import Workload
from workloads.testing import WorkloadConformance


class TestSigns(WorkloadConformance):
    workload = Signs


class TestRareSigns(WorkloadConformance):
    workload = RareSigns


FAULTS = [
    (broken.WithoutVersion, "test_class_fulfils_the_contract", "version is None"),
    (broken.HoldsALock, "test_instances_can_be_pickled", "cannot be sent to a worker"),
    (broken.EmptyTestSet, "test_sets_agree_in_shape_and_type", "A set is empty"),
    (broken.OtherTypeOfTargets, "test_sets_agree_in_shape_and_type", "torch.float32"),
    (broken.InfiniteInputs, "test_sets_agree_in_shape_and_type", "not finite"),
    (broken.TestsOnThePool, "test_no_input_is_in_two_sets", "9 inputs are both in the pool and"),
    (broken.TestsOnThePoolAtAnotherShift, "test_no_input_is_in_two_sets", "set, at shift = 1.0"),
    (broken.OtherTypeAtAnotherShift, "test_sets_agree_in_shape_and_type", "int64 .*, at shift = 1"),
    (broken.DependsOnTheHashSeed, "test_a_fresh_process_sees_the_same", "data differ"),
    (broken.DependsOnGlobalRandomness, "test_a_fresh_process_sees_the_same", "data differ"),
    (broken.DeafAxis, "test_axes_change_what_is_trained_on", "'depth' changes nothing"),
    (broken.StaleFingerprint, "test_axes_change_what_is_trained_on", "not their data_fingerprint"),
    (broken.ChangesItsCache, "test_axes_change_what_is_trained_on", "changed the data at the"),
    (broken.ChangesTheTargets, "test_training_targets_do_not_change_the_pool", "its argument"),
    (broken.TargetsOfAnotherShape, "test_training_targets_do_not_change_the_pool", r"\(95,\)"),
    (broken.NoiseFromElsewhere, "test_training_targets_do_not_change_the_pool", "same stream"),
    (broken.ChangesTheInputs, "test_training_inputs_are_each_examples_own", "its argument"),
    (broken.AugmentsByTheBatch, "test_training_inputs_are_each_examples_own", "on the others"),
    (broken.AugmentsByItself, "test_training_inputs_are_each_examples_own", "not its own"),
    (broken.NoiseFromElsewhere, "test_a_shard_lies_in_every_larger_one", "not the head of the sh"),
    (
        broken.NoiseFromElsewhere,
        "test_a_cell_is_the_same_alone_and_in_a_stack",
        "Cell 0 of a stack",
    ),
    (
        broken.MeanLoss,
        "test_models_of_every_size_build_and_give_one_value_an_example",
        r"loss has shape \(\)",
    ),
    (
        broken.MeanMetric,
        "test_models_of_every_size_build_and_give_one_value_an_example",
        r"metrics\['accuracy'\] has shape \(\)",
    ),
    (
        broken.ErrorAbove1,
        "test_models_of_every_size_build_and_give_one_value_an_example",
        r"\[0, 100\]",
    ),
    (broken.LossAcrossTheBatch, "test_the_loss_of_an_example_does_not_depend_on", "alone"),
    (
        broken.MetricAcrossTheBatch,
        "test_the_loss_of_an_example_does_not_depend_on",
        r"metrics\['share'\] of an example is \[1.0\] alone",
    ),
    (
        broken.MetricOfManyAlone,
        "test_the_loss_of_an_example_does_not_depend_on",
        r"Of one example loss, error are measured, of many loss, error, metrics\['margin'\]",
    ),
    (broken.CentresTheBatch, "test_the_outputs_of_an_example_do_not", "The outputs of an example"),
    (broken.NormalizesByTheBatch, "test_the_outputs_of_an_example_do_not", "depend on those besi"),
    (broken.TakesExamplesForSteps, "test_the_outputs_of_an_example_do_not", "numbers 30 to 59 of"),
    (
        broken.MixesOnceItIsTrained,
        "test_the_outputs_of_an_example_do_not",
        "of 60, computed without",
    ),
    (broken.SqueezesItsOutputs, "test_the_outputs_of_an_example_do_not", r"shape \(2,\) for 1 of"),
    (broken.DropsInEvaluation, "test_an_evaluation_is_the_same_every_time", "self.training"),
    (broken.UnusedLayer, "test_every_parameter_receives_a_gradient", "spare.weight"),
    (broken.InitializedByNumPy, "test_initialization_follows_the_forked", "0.bias"),
    (broken.InitializedAlike, "test_initialization_follows_the_forked", "for every seed"),
    (broken.OverstatedChance, "test_chance_error_is_that_of_the_best", "declared as 0.9"),
    (broken.OverstatedChanceOfOneLogit, "test_chance_error_is_that_of_the_best", "guess has 0.1 "),
    (broken.OverstatedChanceOfAColumn, "test_chance_error_is_that_of_the_best", "guess has 0.1 "),
    (broken.NeverLearns, "test_training_lowers_the_training_loss", "training loss is"),
    (broken.TrainsByACounter, "test_training_twice_gives_the_same_result", "two results"),
    (broken.SeedsTorch, "test_global_generators_stay_as_they_are", "data uses or seeds"),
    (broken.DrawsInItsLoss, "test_global_generators_stay_as_they_are", "loss uses or seeds"),
    (broken.DrawsInItsMetrics, "test_global_generators_stay_as_they_are", "metrics uses or seeds"),
]


def checks() -> list[str]:
    return [name for name in dir(WorkloadConformance) if name.startswith("test_")]


def suite(workload: type[Workload]) -> WorkloadConformance:
    conformance: WorkloadConformance = type("Conformance", (WorkloadConformance,), {})()
    conformance.workload = workload
    return conformance


@pytest.mark.parametrize(
    ("workload", "check", "complaint"), FAULTS, ids=lambda each: getattr(each, "__name__", None)
)
def test_the_suite_catches_a_workload_that_breaks_the_contract(workload, check, complaint):
    (name,) = [name for name in checks() if name.startswith(check)]
    with pytest.raises(AssertionError, match=complaint):
        getattr(suite(workload), name)()


def test_every_check_of_the_suite_is_shown_to_catch_something():
    unproven = [name for name in checks() if not any(name.startswith(c) for _, c, _ in FAULTS)]
    assert unproven == []


def test_every_broken_workload_is_among_the_faults():
    kinds = {
        kind
        for _, kind in inspect.getmembers(broken, inspect.isclass)
        if kind.__module__ == broken.__name__ and issubclass(kind, Workload)
    }
    assert kinds == {kind for kind, *_ in FAULTS}


def test_inputs_may_repeat_where_the_author_says_so():
    conformance = suite(broken.TestsOnThePool)
    conformance.inputs_may_repeat = True
    conformance.test_no_input_is_in_two_sets()


def test_a_size_without_a_lower_bound_must_be_named(monkeypatch: pytest.MonkeyPatch):
    unbounded = type(Signs.model_size)(
        name="model_size", kind=Signs.model_size.kind, meaning="Width."
    )
    monkeypatch.setattr(Signs, "model_size", unbounded)
    with pytest.raises(AssertionError, match="set `sizes`"):
        suite(Signs).test_every_parameter_receives_a_gradient()
