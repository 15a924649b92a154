"""The windowed collapse: the exponents that make one curve of all curves.

Each group's curve of error against log₂B is moved by a log₂ε + b log₂N + c log₂ 1/(1-m). Moved
rightly, all have one shape, each with a level and a height of its own. Points count within
`WINDOW` octaves of a group's optimum and above the cliff only: whole curves tell where training
begins to fail, not where it is best.

Every point of a curve helps, where a regression of optima takes three: standard errors are a third
to a fifth of that one's. In exchange it needs one shape for all. Curves that widen by 15 % for
each octave of N move N's exponent by about .05, and optima hardly at all. Where one shape does not
fit, `stretched` curves may have a width that is a power of the factors too.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.batches.curve_shape import DEGREE, CurveShape, spline_basis

__all__ = [
    "WINDOW",
    "Collapse",
    "Curves",
    "collapse_curves",
    "common_shape",
    "stretch_gain",
    "stretched_collapse",
]

Floats = NDArray[np.float64]

WINDOW = 2.5
"""Octaves on both sides of a group's optimum."""
FEWEST_POINTS = 4
"""Of a group in its window: two for level and height, and two that speak of its place."""
PIECES = (1, 2, 3, 4, 6)
"""Numbers of spline pieces across the window, as far as a spline has no more coefficients than half
of the groups have points. Taken is the smallest that foretells held-out groups about as well as the
best does: within one standard error of the difference. Where optima move by the grid's own steps
all curves are known at the same few places, and what a richer spline does between them, with the
place of its minimum, would be arbitrary."""
PARTS = 5
"""Groups are held out in so many parts."""
LEAST_HEIGHT = 0.02
"""Of the mean height. A flat curve speaks of no place; a negative height would turn it over."""
STEPS = 60
CONVERGED_OCTAVES = 1e-6
PIVOTS = 3
"""Times that a stretched collapse is repeated about the optimum that the one before found."""
WIDEST = 4.0
"""Octaves by which a width may differ from the typical one: beyond, curves are folded up."""
SHAPE_OCTAVES = 1e-2
"""Precision of the single groups' places where the shape alone is wanted."""
RANK = 1e-9
"""Of least squares: a constant and a factor of the spline are the groups' levels and heights."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Mean curves of G groups at up to K batch sizes, and which points count."""

    octave: Floats
    """(G, K) log₂ of the batch size; NaN where there is none."""
    mean: Floats
    """(G, K) mean errors."""
    counts: NDArray[np.bool_]
    """(G, K) points inside their window, of groups that have enough."""

    @classmethod
    def windowed(
        cls, octave: Floats, mean: Floats, learned: NDArray[np.bool_], centre: Floats
    ) -> "Curves":
        """Return the curves with their windows about (G,) `centre`s; NaN leaves a group out."""
        with np.errstate(invalid="ignore"):
            inside = learned & (np.abs(octave - centre[:, None]) <= WINDOW + 1e-9)
        return cls(octave, mean, inside & (inside.sum(axis=1) >= FEWEST_POINTS)[:, None])

    @property
    def groups(self) -> NDArray[np.bool_]:
        """(G,) groups that take part."""
        return np.asarray(self.counts.any(axis=1))


@dataclass(frozen=True, eq=False)
class Collapse:
    """One shape, and the exponents that bring all curves onto it."""

    exponents: Floats
    """(d,) octaves by which the optimum moves for an octave of each factor."""
    stretches: Floats
    """(d,) octaves by which a curve's width grows for an octave of each factor; (0,) where all
    curves have one width."""
    shape: CurveShape
    """Of which every group's curve is a moved, raised and stretched copy."""
    origin: Floats
    """(G,) log₂B at which each group's curve has the shape's u = 0."""
    width: Floats
    """(G,) octaves of log₂B for one of u; 1 where all curves have one width."""
    height: Floats
    """(G,) heights, of mean 1; NaN for a group that takes no part."""
    pieces: int
    """Of the spline."""
    mean_square: float
    """Of what the shape leaves, for each of the `freedom` degrees of freedom."""
    freedom: int
    """Points less a level and a height a group, the spline and the exponents."""

    @property
    def folded(self) -> bool:
        """Whether a width reached the farthest that is allowed: nothing is to be read off it."""
        return bool((np.abs(np.log2(self.width)) >= WIDEST).any())

    @property
    def optimum(self) -> Floats:
        """(G,) log₂B_opt of each group by the law."""
        return self.origin + self.shape.lowest * self.width

    def points(self, curves: Curves) -> dict[str, NDArray[Any]]:
        """Return the points that count, one after the other, as they lie on the shape.

        Where all curves are flat and none has a height, there are none.

        Keys: `group`, `log2_batch`, `mean_error`, `octaves_from_optimum` (by the law, over the
        group's width), `scaled_error` (less the group's level, over its height), `shape` (there).
        """
        group, place = np.nonzero(curves.counts & (self.height > 0)[:, None])
        octave, mean = curves.octave[group, place], curves.mean[group, place]
        u = (octave - self.origin[group]) / self.width[group]
        shape = self.shape.value(u) - self.shape.value(np.array(self.shape.lowest))
        number = np.bincount(group, minlength=len(self.height))
        own = mean - self.height[group] * shape
        level = np.bincount(group, own, minlength=len(number)) / np.maximum(number, 1)
        return {
            "group": group,
            "log2_batch": octave,
            "mean_error": mean,
            "octaves_from_optimum": u - self.shape.lowest,
            "scaled_error": (mean - level[group]) / self.height[group],
            "shape": shape,
        }


def collapse_curves(
    curves: Curves, factors: Floats, start: Floats, centre: Floats, pieces: int | None = None
) -> Collapse:
    """Return the collapse of `curves` along (G, d) `factors` in octaves.

    `start`: (d,) exponents to begin with. `centre`: (G,) log₂B_opt to begin with. `pieces`: of the
    spline; by default as many as predict held-out groups best.
    """
    points = _Points(curves, factors, start, centre)
    return points.collapse(pieces, _Moves(start), CONVERGED_OCTAVES)


def stretched_collapse(
    curves: Curves, factors: Floats, start: Collapse, centre: Floats, *, refit: bool = False
) -> Collapse:
    """Return the collapse in which the curves' widths are powers of the factors too.

    `start`: to begin with. `refit`: keep the number of its spline's pieces; else they are chosen
    again once the widths are known.
    """
    points = _Points(curves, factors, start.exponents, centre)
    stretches = start.stretches if len(start.stretches) else np.zeros(factors.shape[1])
    moves, pieces = _Moves(start.exponents, stretches), start.pieces
    found = start
    for _ in range(1 if refit else PIVOTS):
        # Widths stretch curves about u = 0, which must be the optimum for that to move by a law.
        points.zero = float(found.optimum[points.takes_part].mean())
        found = points.collapse(pieces, moves, CONVERGED_OCTAVES)
        moves = _Moves(found.exponents, found.stretches)
        pieces = points.simplest(moves)
    return found


def stretch_gain(curves: Curves, factors: Floats, found: Collapse, centre: Floats) -> float:
    """Return by how much widths would lower the sum of squares of a collapse without, to 2nd order.

    A score test: one step from the collapse, none from a fit with widths.
    """
    points = _Points(curves, factors, found.exponents, centre)
    moves = _Moves(found.exponents, np.zeros(factors.shape[1]))
    return _State(points, moves, found.shape).gain()


def common_shape(curves: Curves, centre: Floats) -> Collapse:
    """Return the collapse in which every group moves freely: the shape, whatever the law.

    `centre`: (G,) log₂B_opt to begin with.
    """
    moving = np.flatnonzero(curves.groups)
    own = np.eye(len(centre))[:, moving[1:]]
    start = centre[moving[1:]] - centre[moving[0]]
    return _Points(curves, own, start, centre).collapse(None, _Moves(start), SHAPE_OCTAVES)


@dataclass(frozen=True, eq=False)
class _Moves:
    """What brings curves onto one another: (d,) exponents and as many stretches, or none."""

    exponents: Floats
    stretches: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def number(self) -> int:
        return len(self.exponents) + len(self.stretches)

    def after(self, step: Floats) -> "_Moves":
        """Return these plus the (number,) `step`."""
        d = len(self.exponents)
        return _Moves(self.exponents + step[:d], self.stretches + step[d:])


class _Points:
    """The points that count, one after the other: P of them, in G groups."""

    def __init__(self, curves: Curves, factors: Floats, start: Floats, centre: Floats) -> None:
        self.group, place = np.nonzero(curves.counts)
        self.takes_part = curves.groups
        self.number = curves.counts.sum(axis=1)
        self.octave = curves.octave[self.group, place]
        self.factors = factors - factors[self.takes_part].mean(axis=0)
        begun = centre - self.factors @ start
        self.zero = float(begun[self.takes_part].mean())
        self.y = self.within(curves.mean[self.group, place])

    def collapse(self, pieces: int | None, start: _Moves, precision: float) -> Collapse:
        """Return the least-squares collapse from `start`: Gauss-Newton steps, each not worse."""
        if pieces is None:
            pieces = self.simplest(start)
        state = _State(self, start, self.first_shape(pieces, start))
        for _ in range(STEPS):
            step = state.step()
            following = state.moved(step)
            while following.loss > state.loss and _octaves_moved(step, start.number) > precision:
                step = step / 2
                following = state.moved(step)
            if following.loss > state.loss:
                break
            state = following
            if _octaves_moved(step, start.number) <= precision:
                break
        free = len(self.y) - 2 * int(self.takes_part.sum()) - pieces - 1 - start.number
        found = Collapse(
            exponents=state.moves.exponents,
            stretches=state.moves.stretches,
            shape=state.shape,
            origin=self.zero + self.factors @ state.moves.exponents,
            width=self.widths(state.moves),
            height=np.where(self.takes_part, state.height, np.nan),
            pieces=pieces,
            mean_square=state.loss / max(free, 1),
            freedom=free,
        )
        return (
            replace(found, exponents=self.slopes(found.optimum)) if start.stretches.size else found
        )

    def slopes(self, optimum: Floats) -> Floats:
        """Return the (d,) slopes of (G,) optima: a stretch moves those that are not at u = 0."""
        taking = self.takes_part
        design = np.column_stack([np.ones(taking.sum()), self.factors[taking]])
        return np.asarray(np.linalg.lstsq(design, optimum[taking], rcond=None)[0][1:])

    def widths(self, moves: _Moves) -> Floats:
        """Return the (G,) widths of the groups."""
        if not moves.stretches.size:
            return np.ones(len(self.number))
        octaves = self.factors @ moves.stretches
        return np.asarray(np.exp2(np.clip(octaves, -WIDEST, WIDEST)))

    def simplest(self, moves: _Moves) -> int:
        """Return the smallest number of pieces that is about as good as the best one."""
        most = max(float(np.median(self.number[self.takes_part])) - DEGREE, 1.0)
        allowed = [number for number in PIECES if number <= most]
        losses = np.array([self.held_out_losses(number, moves) for number in allowed])
        excess = losses - losses[losses.sum(axis=1).argmin()]
        error = excess.std(axis=1, ddof=1) / np.sqrt(excess.shape[1])
        return allowed[int((excess.mean(axis=1) <= error).argmax())]

    def held_out_losses(self, pieces: int, moves: _Moves) -> Floats:
        """Return the squares left of each group that takes part, its shape being the others'."""
        part = np.cumsum(self.takes_part)[self.group] % PARTS
        u = self.u(moves)
        left = np.zeros(len(self.y))
        for held in range(PARTS):
            shape = self.first_shape(pieces, moves, part != held)
            curve = self.within(shape.value(u))
            own = self.y - self.heights(curve)[self.group] * curve
            left = np.where(part == held, own, left)
        return self.sums(left**2)[self.takes_part]

    def first_shape(
        self, pieces: int, moves: _Moves, chosen: NDArray[np.bool_] | None = None
    ) -> CurveShape:
        """Return the shape of the `chosen` points at these moves, heights being alternated."""
        chosen = np.ones(len(self.y), dtype=bool) if chosen is None else chosen
        u = self.u(moves)
        knots = np.linspace(u.min(), u.max(), pieces + 1)
        basis = self.within(spline_basis(u, knots))
        height = np.ones(len(self.number))
        for _ in range(3):
            scaled = (basis * height[self.group][:, None])[chosen]
            coefficients = np.linalg.lstsq(scaled, self.y[chosen], rcond=RANK)[0]
            height = self.heights(basis @ coefficients)
        return CurveShape(knots, np.asarray(coefficients, dtype=np.float64))

    def u(self, moves: _Moves) -> Floats:
        """Return the (P,) octaves above the group's origin, over its width."""
        away = self.octave - self.zero - (self.factors @ moves.exponents)[self.group]
        return np.asarray(away / self.widths(moves)[self.group] if moves.stretches.size else away)

    def within(self, values: Floats) -> Floats:
        """Return (P, …) values less their group's mean."""
        number = np.maximum(self.number, 1).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(values - (self.sums(values) / number)[self.group])

    def sums(self, values: Floats) -> Floats:
        """Return (G, …) sums of (P, …) values."""
        totals = np.zeros((len(self.number), *values.shape[1:]))
        np.add.at(totals, self.group, values)
        return totals

    def heights(self, curve: Floats) -> Floats:
        """Return the (G,) heights at which a (P,) curve, less its means, fits the groups best."""
        power = self.sums(curve**2)
        best = self.sums(curve * self.y) / np.where(power > 0, power, 1.0)
        typical = best[self.takes_part].mean()
        return np.asarray(np.maximum(best, LEAST_HEIGHT * max(typical, 0.0)))


class _State:
    """Moves and shape on the way, with the heights that fit them best, of mean 1."""

    def __init__(self, points: _Points, moves: _Moves, shape: CurveShape) -> None:
        self.points, self.moves = points, moves
        self.u = points.u(moves)
        curve = points.within(shape.value(self.u))
        height = points.heights(curve)
        scale = max(float(height[points.takes_part].mean()), np.finfo(float).tiny)
        self.shape = CurveShape(shape.knots, shape.coefficients * scale)
        self.curve, self.height = curve * scale, height / scale
        self.left = points.y - self.height[points.group] * self.curve
        self.loss = float(self.left @ self.left)

    def step(self) -> Floats:
        """Return the (q + number,) Gauss-Newton step of spline and moves, heights eliminated."""
        return self._step()[0]

    def gain(self) -> float:
        """Return by how much the step lowers the loss where all is linear."""
        step, gradient = self._step()
        return float(step @ gradient)

    def _step(self) -> tuple[Floats, Floats]:
        points, height = self.points, self.height[self.points.group][:, None]
        by_spline = height * spline_basis(self.u, self.shape.knots)
        along = -height * self.shape.slope(self.u)[:, None] * points.factors[points.group]
        parts = [by_spline, along / points.widths(self.moves)[points.group][:, None]]
        if self.moves.stretches.size:
            parts.append(along * (self.u * math.log(2))[:, None])
        jacobian = points.within(np.hstack(parts))
        power = np.maximum(points.sums(self.curve**2), np.finfo(float).tiny)
        share = points.sums(self.curve[:, None] * jacobian) / power[:, None]
        jacobian -= self.curve[:, None] * share[points.group]
        normal = jacobian.T @ jacobian
        ridge = RANK * np.trace(normal) / len(normal)
        normal[np.diag_indices_from(normal)] += ridge
        gradient = jacobian.T @ self.left
        return np.asarray(np.linalg.solve(normal, gradient)), gradient

    def moved(self, step: Floats) -> "_State":
        """Return the state after a step."""
        q = len(self.shape.coefficients)
        shape = CurveShape(self.shape.knots, self.shape.coefficients + step[:q])
        return _State(self.points, self.moves.after(step[q:]), shape)


def _octaves_moved(step: Floats, moves: int) -> float:
    return float(np.abs(step[len(step) - moves :]).max(initial=0.0))
