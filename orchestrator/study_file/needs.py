"""What the trials of a study will hold, as far as it is certain without the workload's data."""

import logging

import torch

from cluster.capacity import Requirement
from orchestrator.study_file.study import Study
from workloads.axis import AxisValue, AxisValues
from workloads.base import BaseWorkload, Workload
from workloads.cost import trainable_parameters
from workloads.self_trained import SelfTrained
from workloads.streams import forked_torch_generator

__all__ = ["resource_needs"]

logger = logging.getLogger(__name__)


def resource_needs(study: Study) -> tuple[Requirement, ...]:
    """Return what trials hold by each rule of the resources under which cells fall for certain.

    A rule alone has all cells. Under which of several they fall, the parameters of their models
    say: of those that can be built here, in grids whose `where` leaves out no model.
    """
    rules = study.resources.rules
    cases = {0: ""} if len(rules) == 1 else {}
    if len(rules) > 1:
        for size, axes in _models(study).items():
            parameters = _parameters(study.workload, size, axes)
            if parameters is not None:
                rule = rules.index(study.resources.rule_for(parameters))
                cases.setdefault(rule, f" (model_size {size}, {parameters:,} parameters)")
    return tuple(
        Requirement(
            purpose=f"Rule {rule + 1} of {len(rules)} under 'resources'{case}",
            resources=rules[rule].trial(),
        )
        for rule, case in cases.items()
    )


def _models(study: Study) -> dict[AxisValue, AxisValues]:
    """Return the sizes that some cell has for certain, each with axes of the workload's own."""
    own = [axis.name for axis in study.workload.axes]
    return {
        size: {name: grid.axes[name][0] for name in own}
        for grid in study.grids
        if grid.where is None or grid.where.names.isdisjoint({"model_size", *own})
        for size in grid.axes["model_size"]
    }


def _parameters(workload: BaseWorkload, size: AxisValue, axes: AxisValues) -> int | None:
    """Return how many parameters a model has; None where that takes what is not here."""
    try:
        if isinstance(workload, SelfTrained):
            return int(workload.cost(size, axes).parameter_count)
        if not isinstance(workload, Workload):
            return None
        with forked_torch_generator(workload.name, "cost"), torch.device("meta"):
            model = workload.model(size)
        return trainable_parameters(model)
    except Exception as error:  # a plug-in's code, away from its nodes: planning there will tell
        logger.info("The model of size %s was not built: %s: %s", size, type(error).__name__, error)
        return None
