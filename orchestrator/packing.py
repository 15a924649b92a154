"""Which cells share a trial: packs of one kind, long enough to be worth a trial, balanced.

What a pack holds depends on the cells, the store's measurements and the cluster's size alone, so
that the same plan makes the same packs. No row depends on it.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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

__all__ = ["Kind", "Pack", "Shape", "assumed_seconds", "make_packs"]

PACK_SECONDS = 25.0
"""Predicted length of a pack of a long study. A slot waits 0.05 s between two trials, .2 % of 25 s
(docs/scale.md), while a lost worker repeats little."""

SHORTEST_PACK_SECONDS = 1.0
"""Predicted length of a pack of a short study, which is cut to keep all workers busy: below it a
trial costs more than what it balances."""

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
    Arithmetic.ONE_BY_ONE: 1.2e-4,
    Arithmetic.STACKED_LAYERS: 3e-6,
    Arithmetic.STACKED_MODULES: 3e-5,
    Arithmetic.OWN_LOOP: 1.2e-4,
    Arithmetic.DATA_PARALLEL: 5e-4,
}
"""Assumed fixed cost of a cell's step: Python and starts of operations, shared by a stack (measured
on one CPU thread: see benchmarks/README.md), or of messages between workers."""

FLOPS_PER_SECOND = 4e10
"""Assumed arithmetic rate: one CPU thread on small matrices."""


def assumed_seconds(arithmetic: Arithmetic, steps: int, flops: float) -> float:
    """Return the seconds that the steps and operations of one or many cells are assumed to take.

    Where cells of the shape were measured, it is to be scaled by how long those took.
    """
    return steps * STEP_SECONDS[arithmetic] + flops / FLOPS_PER_SECOND


def make_packs(
    cells: Sequence[Cell],
    choices: Mapping[Kind, Choice],
    kind: Callable[[Cell], Kind],
    seconds: Callable[[Cell], float],
    slots: Callable[[TrialResources], int],
    open_packs: Mapping[str, Sequence[str]],
) -> tuple[Pack, ...]:
    """Return packs of one kind each: first those that go on where one stopped, then the rest.

    Both longest first. `open_packs`: cell_ids of the members of packs with a checkpoint. `kind`:
    of a cell. `seconds`: predicted time of a cell in a stack. `slots`: how many trials that hold
    such resources run at once.
    """
    resumed = _resumed(cells, kind, open_packs)
    going_on = {cell.cell_id for _, members in resumed for cell in members}
    kinds: dict[Kind, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.cell_id not in going_on:
            kinds[kind(cell)].append(cell)

    def pack(members: Sequence[Cell], resumes: str | None = None) -> tuple[float, Pack]:
        common = kind(members[0])
        made = Pack(
            cells=tuple(sorted(members, key=_order)),
            arithmetic=choices[common].arithmetic,
            resources=common.resources,
            resumes=resumes,
        )
        return sum(map(seconds, members)), made

    def parts(members: Sequence[Cell], number: int) -> list[list[Cell]]:
        """Return `members`, of one kind, by the pack that trains them: `number` packs at most."""
        if choices[kind(members[0])].arithmetic is Arithmetic.DATA_PARALLEL:
            # Its workers are in step with one another, not with other cells.
            return [[cell] for cell in members]
        return _stretches(sorted(members, key=_order), number, seconds)

    totals = {common: sum(map(seconds, members)) for common, members in kinds.items()}
    whole = 0.0
    for common, total in totals.items():
        whole += total / slots(common.resources)
    target = min(max(whole / PACKS_PER_SLOT, SHORTEST_PACK_SECONDS), PACK_SECONDS)
    packs: list[tuple[float, Pack]] = []
    for common, members in kinds.items():
        number = min(max(1, round(totals[common] / target)), len(members))
        packs += map(pack, parts(members, number))
    first = [pack(part, pack_id) for pack_id, members in resumed for part in parts(members, 1)]
    return (*_longest_first(first), *_longest_first(packs))


def _order(cell: Cell) -> tuple[int, int, str]:
    """Sort longest first, so that neighbours leave a stack together, and then by seed.

    Cells of one seed and shard begin with one model and see one order of batches, made once.
    """
    return -cell.steps, cell.seed, cell.cell_id


def _stretches(
    cells: Sequence[Cell], number: int, seconds: Callable[[Cell], float]
) -> list[list[Cell]]:
    """Return `cells` cut into at most `number` stretches of equal predicted time."""
    ends = list(itertools.accumulate(map(seconds, cells)))
    stretches: dict[int, list[Cell]] = {}
    for cell, end, own in zip(cells, ends, map(seconds, cells), strict=True):
        middle = end - own / 2
        stretches.setdefault(min(int(number * middle / ends[-1]), number - 1), []).append(cell)
    return list(stretches.values())


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
