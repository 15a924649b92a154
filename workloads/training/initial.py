"""The model that a cell begins with."""

from torch import nn

from workloads.base import Workload
from workloads.recipe import Recipe
from workloads.streams import forked_torch_generator
from workloads.training.dropout import own_dropouts

__all__ = ["initial_model"]


def initial_model(workload: Workload, recipe: Recipe) -> nn.Module:
    """Return the cell's model as it is before the first step, on the CPU, in training mode.

    The same for all cells of one seed and size. Its dropout layers draw from the cell's stream.
    """
    with forked_torch_generator(
        workload.name, recipe.seed, "initialization", str(recipe.model_size)
    ):
        model = workload.model(recipe.model_size).train()
    return own_dropouts(model, workload.name, recipe.seed)
