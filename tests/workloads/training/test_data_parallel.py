"""A cell on several processes is the cell on one: same batches and looks, equal to rounding."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from typing_extensions import override

from workloads.base import Workload
from workloads.digits import Digits
from workloads.errors import WorkloadError
from workloads.outcome import TrainingResult, TrainingStatus
from workloads.recipe import Recipe
from workloads.training.arithmetic import Arithmetic
from workloads.training.data_parallel import DataParallel, require_divisible
from workloads.training.lockstep import Lockstep, train

RECIPE = Recipe(
    train_examples=500,
    model_size=16,
    batch_size=50,
    learning_rate=0.1,
    momentum=0.9,
    steps=60,
    seed=3,
    axes=(("inputs", "true_pixels"), ("label_noise", 0.1)),
)


class Dropped(Digits):
    """Digits, with dropout."""

    name = "dropped digits"

    @override
    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, size), nn.ReLU(), nn.Dropout(0.3), nn.Linear(size, 10), nn.Dropout(0.1)
        )


class Normalized(Digits):
    """Digits, with statistics of the whole batch."""

    name = "normalized digits"

    @override
    def model(self, size: int) -> nn.Module:
        return nn.Sequential(nn.Linear(64, size), nn.BatchNorm1d(size), nn.Linear(size, 10))


def _rank(
    rank: int, ranks: int, folder: str, kind: type[Workload], recipe: Recipe, stop: int
) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    saved = Path(folder) / "saved.pt"
    lockstep = Lockstep(kind(), [recipe], Arithmetic.DATA_PARALLEL, "cpu")
    if saved.exists():
        lockstep.load(torch.load(saved), [0])

    def pause() -> None:
        if stop and lockstep.step >= stop:
            if rank == 0:
                torch.save(lockstep.state(), saved)
            distributed.barrier()
            raise SystemExit

    ((_, result),) = lockstep.run(pause)
    torch.save(result, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def together(
    folder: Path, recipe: Recipe, *, kind: type[Workload] = Digits, ranks: int = 2, stop: int = 0
) -> TrainingResult | None:
    """Train on `ranks` processes, which must agree; `stop`: save and end at a pause from there."""
    (folder / "meet").unlink(missing_ok=True)
    multiprocessing.spawn(_rank, (ranks, str(folder), kind, recipe, stop), nprocs=ranks)
    if stop:
        return None
    results = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
    first = replace(results[0], wall_seconds=0.0)
    assert all(replace(result, wall_seconds=0.0) == first for result in results)
    return results[0]


def assert_alike(one: TrainingResult, several: TrainingResult | None) -> None:
    assert several is not None
    assert several.status is one.status
    assert (several.steps, several.examples_seen) == (one.steps, one.examples_seen)
    assert [look.step for look in several.curve] == [look.step for look in one.curve]
    for ours, theirs in zip(several.curve, one.curve, strict=True):
        # float32 rounds at 6e-8, and sums are taken in another order at each of 60 steps
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=2e-5)
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=2e-5)
        assert ours.noise_scale == theirs.noise_scale
    assert several.train_loss == pytest.approx(one.train_loss, rel=2e-5)
    assert several.test_loss == pytest.approx(one.test_loss, rel=2e-5)


@pytest.mark.parametrize(
    ("changes", "ranks"),
    [
        ({}, 2),
        ({"batch_size": 7, "weight_decay": 0.01}, 3),  # parts of 2, 2 and 3
        ({"optimizer": "adam", "learning_rate": 0.003}, 2),
        ({"batch_size": 1}, 2),  # a process without an example
        ({"batch_size_schedule": "increase:5@0.5", "learning_rate_schedule": "cosine"}, 2),
    ],
)
def test_several_processes_train_the_cell_of_one(tmp_path, changes, ranks):
    recipe = replace(RECIPE, **changes)
    one = train(Digits(), recipe, device="cpu")
    assert_alike(one, together(tmp_path, recipe, ranks=ranks))


def test_dropout_masks_are_those_of_the_whole_batch(tmp_path):
    recipe = replace(RECIPE, batch_size=33)
    one = train(Dropped(), recipe, device="cpu")
    assert_alike(one, together(tmp_path, recipe, kind=Dropped))
    other = train(Dropped(), replace(recipe, seed=4), device="cpu")
    assert other.train_loss != pytest.approx(one.train_loss, rel=1e-3)


def test_a_diverging_cell_diverges_everywhere(tmp_path):
    recipe = replace(RECIPE, learning_rate=1e6)
    one = train(Digits(), recipe, device="cpu")
    several = together(tmp_path, recipe)
    assert one.status is TrainingStatus.DIVERGED
    assert several is not None
    assert several.status is TrainingStatus.DIVERGED
    assert several.steps == one.steps


def test_a_saved_cell_goes_on_with_another_number_of_processes(tmp_path):
    recipe = replace(RECIPE, steps=600)
    one = train(Digits(), recipe, device="cpu")
    together(tmp_path, recipe, ranks=2, stop=20)
    assert (tmp_path / "saved.pt").exists()
    assert_alike(one, together(tmp_path, recipe, ranks=3))


def test_batch_normalization_is_refused():
    with pytest.raises(WorkloadError, match="'1' is a BatchNorm1d"):
        DataParallel(Normalized(), Normalized().model(4), RECIPE, torch.device("cpu"))


@pytest.mark.parametrize(
    ("layer", "fault"),
    [
        (nn.InstanceNorm1d(4, track_running_stats=True), "statistics are of the whole batch"),
        (nn.AlphaDropout(0.1), "draws from torch's generator"),
        (nn.RReLU(), "draws from torch's generator"),
        (nn.LSTM(4, 4, num_layers=2, dropout=0.1), "draws from torch's generator"),
        (nn.TransformerEncoderLayer(4, 1), "draws from torch's generator"),  # in its attention
    ],
)
def test_layers_whose_parts_are_not_those_of_the_whole_are_refused(layer, fault):
    with pytest.raises(WorkloadError, match=fault):
        require_divisible(nn.Sequential(layer))


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm1d(4),
        nn.Dropout(0.1),
        nn.AlphaDropout(0.0),
        nn.LSTM(4, 4),
        nn.TransformerEncoderLayer(4, 1, dropout=0.0),
    ],
)
def test_layers_without_draws_and_statistics_are_divisible(layer):
    require_divisible(nn.Sequential(layer))
