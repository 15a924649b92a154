"""One cell trained by its workload's own loop: its looks and final scores become a result."""

import math
import time
from collections.abc import Callable, Generator, Iterator

import torch

from workloads.cost import model_cost, training_flops
from workloads.errors import WorkloadError
from workloads.outcome import Evaluation, Progress, Score, TrainingResult, completed, diverged
from workloads.recipe import Recipe
from workloads.resident import set_sizes
from workloads.self_trained import CellRun, Finals, Look, SelfTrained
from workloads.streams import forked_torch_generator
from workloads.training.evaluation import evaluation_at
from workloads.training.precision import float32_arithmetic
from workloads.training.scoring import require_metric_names

__all__ = ["run_own_loop"]


def run_own_loop(
    workload: SelfTrained,
    recipe: Recipe,
    device: torch.device | str,
    pause: Callable[[], None] = lambda: None,
) -> TrainingResult:
    """Train one cell and return its outcome; a diverged run is one too.

    `pause` is called whenever the loop yields. Raises `WorkloadError` where the loop does not keep
    its contract, and whatever it raises.
    """
    run = CellRun(workload, recipe, device)
    with (
        forked_torch_generator(workload.name, recipe.seed, "own_loop", device=run.device),
        float32_arithmetic(),
    ):
        return _OwnLoop(workload, run, pause).result()


class _OwnLoop:
    def __init__(self, workload: SelfTrained, run: CellRun, pause: Callable[[], None]) -> None:
        self._workload, self._run, self._pause = workload, run, pause
        self._curve: list[Evaluation] = []
        self._began = time.perf_counter()

    def result(self) -> TrainingResult:
        loop = self._workload.train(self._run)
        if not isinstance(loop, Generator):
            raise self._broken(f"returned {type(loop).__name__}; it must be a generator")
        try:
            for look in self._looks(loop):
                if not (math.isfinite(look.train_loss) and look.validation.is_finite()):
                    return self._diverged()
                last = look.validation
            finals = self._finals(loop)
        finally:
            loop.close()
        if not (finals.train.is_finite() and finals.test.is_finite()):
            return self._diverged()
        return completed(
            self._progress(), self._curve, train=finals.train, validation=last, test=finals.test
        )

    def _looks(self, loop: "Generator[Look | None, None, Finals]") -> Iterator[Look]:
        """Yield the loop's looks, as many as there must be, and note them in the curve."""
        for step in self._run.looks:
            look = self._next(loop)
            if not isinstance(look, Look):
                raise self._broken(
                    f"ended after {len(self._curve)} looks of {len(self._run.looks)}; it must "
                    f"yield one at each of the steps {', '.join(map(str, self._run.looks))}"
                )
            look = Look(
                train_loss=self._number("train_loss", look.train_loss),
                validation=self._plain(look.validation),
            )
            self._curve.append(
                evaluation_at(self._run.recipe, step, look.train_loss, look.validation)
            )
            self._pause()
            yield look

    def _finals(self, loop: "Generator[Look | None, None, Finals]") -> Finals:
        finals = self._next(loop)
        if isinstance(finals, Look):
            raise self._broken(f"yielded more than {len(self._run.looks)} looks")
        if not isinstance(finals, Finals):
            raise self._broken(f"returned {finals!r}; it must return Finals")
        return Finals(train=self._plain(finals.train), test=self._plain(finals.test))

    def _next(self, loop: "Generator[Look | None, None, Finals]") -> object:
        """Return the next look, or what the loop returned."""
        while True:
            try:
                said = next(loop)
            except StopIteration as end:
                return end.value
            if said is not None:
                if not isinstance(said, Look):
                    raise self._broken(f"yielded {said!r}; it must yield a Look, or None")
                return said
            self._pause()

    def _plain(self, score: Score) -> Score:
        """Return the score in Python's numbers, which tables hold."""
        require_metric_names(score.metrics)
        error = self._number("error", score.error)
        if math.isfinite(error) and not 0 <= error <= 1:
            raise self._broken(f"has an error of {error:g}; it must lie in [0, 1]")
        metrics = {name: self._number(name, value) for name, value in score.metrics.items()}
        return Score(self._number("loss", score.loss), error, metrics)

    def _number(self, what: str, value: float) -> float:
        """Return a number of Python for one of another library, such as a tensor's."""
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._broken(f"gives {what} = {value!r}; it must be a number") from error

    def _diverged(self) -> TrainingResult:
        return diverged(self._progress(), self._curve, chance_error=self._workload.chance_error)

    def _progress(self) -> Progress:
        """Return how far the run came: to its last look."""
        recipe = self._run.recipe
        axes = dict(recipe.axes)
        cost, sizes = (
            model_cost(self._workload, recipe.model_size, axes),
            set_sizes(self._workload, axes),
        )
        step, examples_seen = self._curve[-1].step, self._curve[-1].examples_seen
        return Progress(
            parameter_count=cost.parameter_count,
            steps=step,
            epochs=examples_seen / recipe.train_examples,
            examples_seen=examples_seen,
            training_flops=training_flops(cost, examples_seen),
            wall_seconds=time.perf_counter() - self._began,
            validation_examples=sizes.validation,
            test_examples=sizes.test,
        )

    def _broken(self, what: str) -> WorkloadError:
        return WorkloadError(
            f"The loop of workload {self._workload.name!r} {what}. Mend its `train`; "
            "workloads.testing.SelfTrainedConformance shows the place."
        )
