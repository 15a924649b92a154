"""Which cells share a trial: packs of one kind, long enough to be worth a trial, balanced.

What a pack holds depends on the cells, the store's measurements and the cluster's size alone, so
that the same plan makes the same packs. No row depends on it.

**What a pack costs.** A step of a stack of n cells takes a + n·b: a for Python and the starts of
operations, once for all, b for a member's own share and its arithmetic. A stack takes as many steps
as the longest of its members, and a pack

    a · (steps of the longest, for every `MOST_STACKED` cells) + Σ (b · steps + its operations).

Cells that train one by one have only what is their own. Measured on one CPU thread with a
perceptron of width 16 and batches of 16: 266 µs a step alone and 5.0 µs a cell's step in a stack of
256 (benchmarks/README.md), where a = 270 and b = 5.8 give 276 and 6.9; on a busier machine 600 µs
a step alone, 700 µs of 15 cells, 2,200 µs of 200. How long cells of the shape really took scales
both, so that it tells how long packs are, but not how many cells a stack needs to pay.
"""

import hashlib
import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from cluster.capacity import TrialResources
from orchestrator.cell import Cell, canonical_json
from workloads.axis import AxisValue
from workloads.optimizer import Optimizer
from workloads.schedules import CONSTANT
from workloads.training.arithmetic import Arithmetic, Choice
from workloads.training.trajectory import Trajectory

__all__ = [
    "MOST_STACKED",
    "Cost",
    "Kind",
    "Pack",
    "Packing",
    "Shape",
    "assumed_seconds",
    "make_packs",
    "shared_seconds",
]

MOST_STACKED = 256
"""Cells that train at once at most: the largest stack that is measured, see stacking.py."""

PAYING = 2.0
"""Seconds that the members of a stack have of their own, for each that they share, from which on it
pays: a cell then takes at most half as much again as in an endless one. Smaller stacks are made for
idle slots alone: a long pack does no harm, as it is saved every minute."""

PACK_SECONDS = 25.0
"""Predicted length of a pack of a long study. A slot waits 0.05 s between two trials, .2 % of 25 s
(docs/scale.md), while a lost worker repeats little."""

SHORTEST_PACK_SECONDS = 1.0
"""Predicted length of a pack of a short study, which is cut to keep all workers busy: below it a
trial costs more than what it balances."""

ROUNDING = 1e-9
"""Of sums of shares of the slots."""

PACKS_PER_SLOT = 4
"""Packs that a worker trains of a short study: started longest first, the last of them ends at
most a quarter of the whole time after the others."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Cells that one Ray Tune trial trains: of one kind, stacked as far as memory goes."""

    cells: tuple[Cell, ...]
    """The members, longest first."""
    arithmetic: Arithmetic
    """How their steps are computed: fixed by their kind."""
    resources: TrialResources
    """What the trial holds; a fraction of a GPU shares the device."""
    resumes: str | None = None
    """`pack_id` whose checkpoint holds members that are under way; None: only its own may."""

    @cached_property
    def pack_id(self) -> str:
        """16 hex digits over the sorted cell_ids and the arithmetic path."""
        identity = [self.arithmetic.value, *sorted(cell.cell_id for cell in self.cells)]
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]

    def holding(self, cells: Sequence[Cell], resumes: str | None) -> "Pack":
        """Return a pack of `cells`, some of this one's, that goes on where `resumes` stopped."""
        return replace(self, cells=tuple(cells), resumes=resumes)


@dataclass(frozen=True)
class Shape:
    """What cells must share to be stacked, and what the cost of a step depends on."""

    model_size: AxisValue
    batch_size: int
    data_fingerprint: str
    optimizer: str = Optimizer.SGD
    later_batches: tuple[tuple[int, int], ...] = ()
    """(First step, batch) of every phase but the first, where the batch grows."""

    @classmethod
    def of(cls, cell: Cell) -> "Shape":
        """Return the shape of a cell."""
        later: tuple[tuple[int, int], ...] = ()
        if cell.batch_size_schedule != CONSTANT:
            _, *rest = Trajectory.of(cell.recipe()).batches
            later = tuple(rest)
        return cls(cell.model_size, cell.batch_size, cell.data_fingerprint, cell.optimizer, later)


class Kind(NamedTuple):
    """What the cells of a pack have in common."""

    shape: Shape
    resources: TrialResources
    """What a trial holds: it may differ within a shape, where a model's cost depends on axes."""


STEP_SECONDS: Mapping[Arithmetic, float] = {
    Arithmetic.ONE_BY_ONE: 2.7e-4,
    Arithmetic.STACKED_LAYERS: 3e-6,
    Arithmetic.STACKED_MODULES: 3e-5,
    Arithmetic.OWN_LOOP: 1.2e-4,
    Arithmetic.DATA_PARALLEL: 5e-4,
}
"""Assumed cost of a cell's step beside its arithmetic: of Python and starts of operations (measured
on one CPU thread: see benchmarks/README.md), or of messages between workers. In a stack, what a
member adds; what all share is what a step costs one by one, as a stack of one takes as long."""

FLOPS_PER_SECOND = 4e10
"""Assumed arithmetic rate: one CPU thread on small matrices."""


class Cost(NamedTuple):
    """Predicted seconds of a cell."""

    own: float
    """Of its own, in a stack or not."""
    shared: float
    """Of a stack in which it is the longest, beside what its members have of their own; 0 where
    cells of the kind train one by one."""


class Packing(NamedTuple):
    """The packs of a plan."""

    packs: tuple[Pack, ...]
    """First those that go on where one stopped, then the rest; both longest first."""
    seconds: float
    """Predicted time of one worker for all of them, as they are cut."""


def assumed_seconds(arithmetic: Arithmetic, steps: int, flops: float) -> float:
    """Return the seconds of their own that steps and operations of one or many cells should take.

    Where cells of the shape were measured, it is to be scaled by how long those took.
    """
    return steps * STEP_SECONDS[arithmetic] + flops / FLOPS_PER_SECOND


def shared_seconds(arithmetic: Arithmetic, steps: float) -> float:
    """Return the seconds that so many steps of a stack should take beside its members' own.

    0 where cells are not stacked. To be scaled like `assumed_seconds`.
    """
    return steps * STEP_SECONDS[Arithmetic.ONE_BY_ONE] if arithmetic.stacks else 0.0


def make_packs(
    cells: Sequence[Cell],
    choices: Mapping[Kind, Choice],
    kind: Callable[[Cell], Kind],
    cost: Callable[[Cell], Cost],
    slots: Callable[[TrialResources], int],
    open_packs: Mapping[str, Sequence[str]],
) -> Packing:
    """Return packs of one kind each, and what they take.

    `open_packs`: cell_ids of the members of packs with a checkpoint. `kind`, `cost`: of a cell;
    within a kind, what is shared grows with the steps. `slots`: how many trials that hold such
    resources run at once.
    """
    resumed = _resumed(cells, kind, open_packs)
    going_on = {cell.cell_id for _, members in resumed for cell in members}
    members: dict[Kind, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.cell_id not in going_on:
            members[kind(cell)].append(cell)
    kinds = {common: _Costed.of(some, cost) for common, some in members.items()}
    numbers = _numbers(kinds, slots)

    def packs(
        common: Kind, cells: _Costed, number: int, resumes: str | None = None
    ) -> Iterator[tuple[float, Pack]]:
        """Yield the packs of `cells`, of one kind, and their seconds: `number` packs at most."""
        arithmetic = choices[common].arithmetic
        # Workers that train a cell together are in step with one another, not with other cells.
        alone = arithmetic is Arithmetic.DATA_PARALLEL
        for part in cells.each() if alone else cells.cut(number):
            pack = Pack(
                cells=tuple(part.cells),
                arithmetic=arithmetic,
                resources=common.resources,
                resumes=resumes,
            )
            yield part.seconds, pack

    first: list[tuple[float, Pack]] = []
    for pack_id, some in resumed:
        first += packs(kind(some[0]), _Costed.of(some, cost), 1, pack_id)
    rest: list[tuple[float, Pack]] = []
    for common, costed in kinds.items():
        rest += packs(common, costed, numbers[common])
    return Packing(
        packs=(*_longest_first(first), *_longest_first(rest)),
        seconds=math.fsum(seconds for seconds, _ in (*first, *rest)),
    )


@dataclass(frozen=True)
class _Costed:
    """Cells of one kind and their costs."""

    cells: Sequence[Cell]
    """Longest first."""
    costs: Sequence[Cost]
    """Of each."""

    @classmethod
    def of(cls, cells: Sequence[Cell], cost: Callable[[Cell], Cost]) -> "_Costed":
        ordered = sorted(cells, key=_order)
        return cls(ordered, [*map(cost, ordered)])

    @cached_property
    def own(self) -> float:
        """Seconds that the cells have of their own."""
        return sum(cost.own for cost in self.costs)

    @cached_property
    def seconds(self) -> float:
        """Seconds of one pack of all the cells: the first of a stack is its longest."""
        return self.own + sum(cost.shared for cost in self.costs[::MOST_STACKED])

    def paying(self, resources: TrialResources) -> int:
        """Return how many stacks that pay the cells make in trials that hold `resources`.

        Judged by the longest. On a GPU, whose rate is not the assumed one, whole stacks pay.
        """
        if resources.gpus > 0:
            return len(self.cells) // MOST_STACKED
        return int(self.own / (PAYING * self.costs[0].shared))

    def cut(self, number: int) -> Iterator["_Costed"]:
        """Yield the cells in at most `number` stretches of about equal time."""
        share = max(number / len(self.cells), 1 / MOST_STACKED)
        weights = [cost.own + share * cost.shared for cost in self.costs]
        ends = list(itertools.accumulate(weights))
        places = (
            min(int(number * (end - weight / 2) / ends[-1]), number - 1)
            for end, weight in zip(ends, weights, strict=True)
        )
        first = 0
        for _, some in itertools.groupby(places):
            last = first + len(list(some))
            yield _Costed(self.cells[first:last], self.costs[first:last])
            first = last

    def each(self) -> Iterator["_Costed"]:
        """Yield every cell by itself."""
        for cell, cost in zip(self.cells, self.costs, strict=True):
            yield _Costed([cell], [cost])


def _numbers(
    kinds: Mapping[Kind, _Costed], slots: Callable[[TrialResources], int]
) -> dict[Kind, int]:
    """Return in how many packs the cells of each kind go at most.

    In as many as keep them short, or give each slot a few. Stacks are not cut below what pays but
    to give every slot a pack; then each slot gets as many as the others.
    """
    whole = math.fsum(costed.seconds / slots(common.resources) for common, costed in kinds.items())
    target = min(max(whole / PACKS_PER_SLOT, SHORTEST_PACK_SECONDS), PACK_SECONDS)
    fewest = _one_a_slot(kinds, slots)
    numbers = {}
    for common, costed in kinds.items():
        number = min(max(1, round(costed.seconds / target)), len(costed.cells))
        if costed.costs[0].shared > 0:
            # Each pack takes what is shared anew: what it saves is its cells' own time.
            number = min(number, max(1, round(costed.own / SHORTEST_PACK_SECONDS)))
            least = min(fewest[common], number)
            number = least * max(1, min(number, costed.paying(common.resources)) // least)
        numbers[common] = number
    return numbers


def _one_a_slot(
    kinds: Mapping[Kind, _Costed], slots: Callable[[TrialResources], int]
) -> dict[Kind, int]:
    """Return the fewest packs of each kind by which every slot gets one: the longest are cut."""
    numbers = dict.fromkeys(kinds, 1)
    idle = 1.0 - math.fsum(1 / slots(common.resources) for common in kinds)
    # Words decide between equals: the same in every order of the study file.
    longest = [(-costed.seconds, repr(common), common) for common, costed in kinds.items()]
    heapq.heapify(longest)
    while longest:
        _, words, common = heapq.heappop(longest)
        share = 1 / slots(common.resources)
        if numbers[common] < len(kinds[common].cells) and share <= idle + ROUNDING:
            numbers[common] += 1
            idle -= share
            seconds = kinds[common].seconds / numbers[common]
            heapq.heappush(longest, (-seconds, words, common))
    return numbers


def _order(cell: Cell) -> tuple[int, int, str]:
    """Sort longest first, so that neighbours leave a stack together, and then by seed.

    Cells of one seed and shard begin with one model and see one order of batches, made once.
    """
    return -cell.steps, cell.seed, cell.cell_id


def _longest_first(packs: Sequence[tuple[float, Pack]]) -> list[Pack]:
    ordered = sorted(packs, key=lambda item: (-item[0], item[1].pack_id))
    return [pack for _, pack in ordered]


def _resumed(
    cells: Sequence[Cell], kind: Callable[[Cell], Kind], open_packs: Mapping[str, Sequence[str]]
) -> list[tuple[str, list[Cell]]]:
    """Return the cells that go on where a pack stopped, by that pack; each cell once.

    A pack may be open twice, under its old name and under the one that it went on with.
    """
    wanted = {cell.cell_id: cell for cell in cells}
    resumed: list[tuple[str, list[Cell]]] = []
    for pack_id, members in sorted(open_packs.items(), key=lambda item: (len(item[1]), item[0])):
        mine = [wanted.pop(cell_id) for cell_id in members if cell_id in wanted]
        for common in dict.fromkeys(map(kind, mine)):
            resumed.append((pack_id, [cell for cell in mine if kind(cell) == common]))
    return resumed
