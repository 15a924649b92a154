"""What every column of the store is: its type, its unit and its meaning, written once.

Every Parquet file of the store carries the schema's version and its table's name in the file's
metadata, and unit and meaning in each field's. Nothing is inferred: rows are checked against the
schema by name before they are written, and a file whose columns differ is no part of the store.

`model_size` is a double. One schema must hold widths (64), width multipliers (0.5) and depths, and
a text column would sort 128 before 16 and break every numeric fit; a double holds integers up to
2**53 exactly. Sizes that are text are therefore refused; give such a workload a numeric size.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import pyarrow as pa

from analysis import columns as c
from orchestrator.errors import StoreError

__all__ = [
    "HOW_IT_WENT",
    "MIGRATIONS",
    "SCHEMAS",
    "SCHEMA_VERSION",
    "Status",
    "Table",
    "schema_version",
    "upgraded",
]

SCHEMA_VERSION = 3
"""Raised with every change of a schema below, together with an entry in `MIGRATIONS`."""

VERSION_KEY = b"scaling_study.schema_version"
TABLE_KEY = b"scaling_study.table"


class Table(StrEnum):
    """The store's tables; each is a folder of Parquet files by this name."""

    CELLS = "cells"
    CURVES = "curves"
    FAILURES = "failures"
    GRIDS = "grids"


HOW_IT_WENT = frozenset(
    {
        c.WALL_SECONDS,
        c.PACK_WALL_SECONDS,
        c.STARTED_AT,
        c.PACK_ID,
        c.PACKED_CELLS,
        c.HOST,
        c.DEVICE_NAME,
    }
)
"""Columns of `cells` that tell how a cell was trained; no other may depend on that."""


class Status(StrEnum):
    """How a cell with a row in `cells` ended."""

    COMPLETED = "completed"
    DIVERGED = "diverged"


Migration = Callable[[Table, pa.Table], pa.Table]


def _with_weight_decay(table: Table, data: pa.Table) -> pa.Table:
    """Return a table of version 1 with the weight decay that its cells had: none."""
    if table is Table.CELLS:
        return data.append_column(c.WEIGHT_DECAY, pa.array([0.0] * len(data), NUMBER))
    return data


def _with_schedules(table: Table, data: pa.Table) -> pa.Table:
    """Return a table of version 2 with what its cells had: constant batches, and no metrics.

    The rate and batch of a look stood in `cells` alone; `analysis.load_curves` fills them in.
    """
    if table is Table.CELLS:
        for name, value in ((c.BATCH_SIZE_SCHEDULE, "constant"), (c.WORKLOAD_METRICS, "{}")):
            data = data.append_column(name, pa.array([value] * len(data), TEXT))
    if table is Table.CURVES:
        unknown = {c.LEARNING_RATE: NUMBER, c.BATCH_SIZE: COUNT, c.NOISE_SCALE: NUMBER}
        for name, kind in unknown.items():
            data = data.append_column(name, pa.nulls(len(data), kind))
    return data


MIGRATIONS: dict[int, Migration] = {1: _with_weight_decay, 2: _with_schedules}
"""By version n: how a table of version n becomes one of version n + 1."""

TEXT = pa.string()
COUNT = pa.int64()
NUMBER = pa.float64()
TIME = pa.timestamp("us", tz="UTC")


def _field(
    name: str, kind: pa.DataType, unit: str, meaning: str, *, nullable: bool = False
) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "meaning": meaning})


def _schema(table: Table, fields: Sequence[pa.Field]) -> pa.Schema:
    metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode(), TABLE_KEY: table.value.encode()}
    return pa.schema(fields, metadata=metadata)


_CELL_ID = _field(c.CELL_ID, TEXT, "16 hex digits", "hash of everything that determines the result")
_PACK_ID = _field(c.PACK_ID, TEXT, "name", "pack that trained the cell")

_CELLS = [
    _CELL_ID,
    _field(c.WORKLOAD, TEXT, "name", "what was trained"),
    _field(c.WORKLOAD_VERSION, COUNT, "version", "version that the workload declares"),
    _field(
        c.DATASET_FRACTION, NUMBER, "share of the pool", "size of the training shard, in (0, 1]"
    ),
    _field(c.TRAIN_EXAMPLES, COUNT, "examples", "size of the training shard"),
    _field(c.MODEL_SIZE, NUMBER, "the workload's own", "value of the workload's size axis"),
    _field(c.PARAMETER_COUNT, COUNT, "parameters", "trainable parameters of the model"),
    _field(c.BATCH_SIZE, COUNT, "examples per step", "batch size, at the beginning"),
    _field(c.LEARNING_RATE, NUMBER, "1", "learning rate, which its schedule multiplies"),
    _field(c.MOMENTUM, NUMBER, "1", "momentum, in [0, 1); beta 1 of adam and adamw"),
    _field(
        c.WEIGHT_DECAY,
        NUMBER,
        "1",
        "that times the weights joins the gradient; with adamw it shrinks the weights",
    ),
    _field(c.SEED, COUNT, "replicate", "source of all the cell's randomness"),
    _field(c.BUDGET, TEXT, "words", "the budget as the study gave it; steps is what it came to"),
    _field(c.OPTIMIZER, TEXT, "name", "update rule: sgd (heavy ball), nesterov, adam, adamw"),
    _field(c.LEARNING_RATE_SCHEDULE, TEXT, "name", "how the learning rate changes along training"),
    _field(c.BATCH_SIZE_SCHEDULE, TEXT, "name", "how the batch grows along training"),
    _field(c.EVALUATION_SCHEDULE, TEXT, "name", "when the validation set is looked at"),
    _field(c.WORKLOAD_AXES, TEXT, "JSON object", "value of every axis that the workload declares"),
    _field(c.CHANCE_ERROR, NUMBER, "share of examples", "error of a guess that ignores the input"),
    _field(c.VALIDATION_EXAMPLES, COUNT, "examples", "size of the validation set"),
    _field(c.TEST_EXAMPLES, COUNT, "examples", "size of the test set"),
    _field(c.STATUS, TEXT, "completed or diverged", "how training ended"),
    _field(c.STEPS, COUNT, "steps", "updates made"),
    _field(c.EPOCHS, NUMBER, "epochs", "passes over the shard"),
    _field(c.EXAMPLES_SEEN, COUNT, "examples", "examples trained on, repeats counted"),
    _field(
        c.TRAINING_FLOPS, NUMBER, "FLOP", "arithmetic of training; a double, as it passes 2**63"
    ),
    _field(c.WALL_SECONDS, NUMBER, "seconds", "the cell's share of its pack's wall time"),
    _field(
        c.PACK_WALL_SECONDS,
        NUMBER,
        "seconds",
        "wall time of the trial, since its last start, until this row",
    ),
    _field(
        c.TRAIN_LOSS,
        NUMBER,
        "loss per example",
        "loss over the full shard at the end; null when diverged",
        nullable=True,
    ),
    _field(
        c.TRAIN_ERROR,
        NUMBER,
        "share of examples",
        "error over the full shard at the end; the chance error when diverged",
    ),
    _field(
        c.VALIDATION_LOSS,
        NUMBER,
        "loss per example",
        "loss over the validation set at the end; null when diverged",
        nullable=True,
    ),
    _field(
        c.VALIDATION_ERROR,
        NUMBER,
        "share of examples",
        "error over the validation set at the end; the chance error when diverged",
    ),
    _field(
        c.TEST_LOSS,
        NUMBER,
        "loss per example",
        "loss over the test set at the end; null when diverged",
        nullable=True,
    ),
    _field(
        c.TEST_ERROR,
        NUMBER,
        "share of examples",
        "error over the test set at the end; the chance error when diverged",
    ),
    _field(
        c.BEST_VALIDATION_LOSS,
        NUMBER,
        "loss per example",
        "least validation loss of all evaluations; null when diverged",
        nullable=True,
    ),
    _field(
        c.BEST_VALIDATION_ERROR,
        NUMBER,
        "share of examples",
        "least validation error of all evaluations; the chance error when diverged",
    ),
    _field(
        c.BEST_VALIDATION_STEP,
        COUNT,
        "steps",
        "first step of the least validation error; null when diverged",
        nullable=True,
    ),
    _field(
        c.GENERALIZATION_GAP,
        NUMBER,
        "share of examples",
        "test_error - train_error; null when diverged",
        nullable=True,
    ),
    _field(c.VALIDATION_EVALUATIONS, COUNT, "evaluations", "looks at the validation set"),
    _field(
        c.WORKLOAD_METRICS,
        TEXT,
        "JSON object",
        "means over validation and test set at the end, of what the workload measures beside loss "
        "and error; empty when diverged",
    ),
    _PACK_ID,
    _field(c.PACKED_CELLS, COUNT, "cells", "cells that trained together in the pack"),
    _field(
        c.ARITHMETIC,
        TEXT,
        "name",
        "how it was trained: stacked (layers, modules), one by one, data parallel, or own loop",
    ),
    _field(c.DEVICE_NAME, TEXT, "name", "device that trained the cell"),
    _field(c.HOST, TEXT, "name", "machine that trained the cell"),
    _field(c.STARTED_AT, TIME, "UTC", "when the attempt that ended began"),
    _field(c.CODE_VERSION, TEXT, "version", "version of scaling-study"),
    _field(c.WORKLOAD_SOURCE, TEXT, "hash", "hash of the workload's source"),
    _field(c.TORCH_VERSION, TEXT, "version", "version of torch"),
    _field(c.RAY_VERSION, TEXT, "version", "installed version of Ray", nullable=True),
]

_CURVES = [
    _CELL_ID,
    _PACK_ID,
    _field(c.STEP, COUNT, "steps", "updates made before this evaluation"),
    _field(c.EPOCH, NUMBER, "epochs", "passes over the shard before this evaluation"),
    _field(c.EXAMPLES_SEEN, COUNT, "examples", "examples trained on, repeats counted"),
    _field(
        c.TRAIN_LOSS,
        NUMBER,
        "loss per example",
        "mean over the examples trained on since the last evaluation; null when not finite",
        nullable=True,
    ),
    _field(
        c.VALIDATION_LOSS,
        NUMBER,
        "loss per example",
        "loss over the validation set; null when not finite",
        nullable=True,
    ),
    _field(
        c.VALIDATION_ERROR,
        NUMBER,
        "share of examples",
        "error over the validation set; null when not finite",
        nullable=True,
    ),
    _field(
        c.LEARNING_RATE,
        NUMBER,
        "1",
        "learning rate of the last update before; null in rows of before it was recorded",
        nullable=True,
    ),
    _field(
        c.BATCH_SIZE,
        COUNT,
        "examples per step",
        "examples of the last update before; null in rows of before it was recorded",
        nullable=True,
    ),
    _field(
        c.NOISE_SCALE,
        NUMBER,
        "1",
        "learning rate / (1 - momentum) * (train_examples / batch - 1) of the last update before; "
        "null for adam and adamw, and in rows of before it was recorded",
        nullable=True,
    ),
]

_FAILURES = [
    _CELL_ID,
    _field(c.PACK_ID, TEXT, "name", "pack whose attempt failed"),
    _field(c.ATTEMPT, COUNT, "attempts", "which attempt at the cell this was, from 1"),
    _field(c.ERROR_TYPE, TEXT, "name", "class of the error"),
    _field(c.ERROR_MESSAGE, TEXT, "words", "what the error said"),
    _field(c.ERROR_TRACEBACK, TEXT, "words", "traceback, or how the process died"),
    _field(c.HOST, TEXT, "name", "machine that reported the failure"),
    _field(c.FAILED_AT, TIME, "UTC", "when the attempt ended"),
]

_GRIDS = [
    _field(c.STUDY, TEXT, "name", "study that holds the grid"),
    _field(c.GRID, TEXT, "name", "grid that holds the cell"),
    _CELL_ID,
]

SCHEMAS: Mapping[Table, pa.Schema] = {
    Table.CELLS: _schema(Table.CELLS, _CELLS),
    Table.CURVES: _schema(Table.CURVES, _CURVES),
    Table.FAILURES: _schema(Table.FAILURES, _FAILURES),
    Table.GRIDS: _schema(Table.GRIDS, _GRIDS),
}


def schema_version(table: Table, schema: pa.Schema) -> int:
    """Return the version of a file's schema.

    Raises `ValueError` saying why the file is no part of `table`. Raises `StoreError` when a newer
    scaling-study wrote it: such a file is sound, so it must be neither skipped nor moved.
    """
    metadata = schema.metadata or {}
    if TABLE_KEY not in metadata or not metadata.get(VERSION_KEY, b"").isdigit():
        raise ValueError("it was not written by scaling-study (no schema version in its metadata)")
    if metadata[TABLE_KEY] != table.encode():
        raise ValueError(f"it holds {metadata[TABLE_KEY].decode()}, not {table}")
    version = int(metadata[VERSION_KEY])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The store holds {table} of schema version {version}; this scaling-study knows "
            f"versions up to {SCHEMA_VERSION}. Upgrade scaling-study to the version that wrote it."
        )
    if version < SCHEMA_VERSION and version not in MIGRATIONS:
        raise ValueError(f"its schema version {version} is none that can be upgraded")
    expected = SCHEMAS[table]
    if version == SCHEMA_VERSION and not schema.equals(expected):
        names = dict.fromkeys([*schema.names, *expected.names])
        differing = [name for name in names if not _agree(schema, expected, name)]
        where = ", ".join(differing) or "their order"
        raise ValueError(f"its columns differ from those of {table}: {where}")
    return version


def upgraded(table: Table, data: pa.Table, version: int) -> pa.Table:
    """Return `data`, which a file of `version` held, with the current schema."""
    for step in range(version, SCHEMA_VERSION):
        data = MIGRATIONS[step](table, data)
    return data.select(SCHEMAS[table].names).cast(SCHEMAS[table])


def _agree(first: pa.Schema, second: pa.Schema, name: str) -> bool:
    return bool(
        name in first.names
        and name in second.names
        and first.field(name).equals(second.field(name))
    )
