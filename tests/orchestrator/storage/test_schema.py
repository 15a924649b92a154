import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import columns
from orchestrator.errors import StoreError
from orchestrator.storage import schema
from orchestrator.storage.parts import DamagedError, decoded, encoded, table_from_rows
from orchestrator.storage.schema import SCHEMA_VERSION, SCHEMAS, Table
from orchestrator.storage.store import Store
from tests.orchestrator.store_rows import cell_id, cell_row, failure_row, write_cells

PROMISED_CELLS = """
cell_id workload workload_version dataset_fraction train_examples model_size parameter_count
batch_size learning_rate momentum weight_decay seed budget optimizer learning_rate_schedule
batch_size_schedule evaluation_schedule workload_axes chance_error validation_examples test_examples
status steps epochs examples_seen training_flops wall_seconds pack_wall_seconds
train_loss train_error validation_loss validation_error test_loss test_error best_validation_loss
best_validation_error best_validation_step generalization_gap validation_evaluations
workload_metrics pack_id packed_cells arithmetic device_name host
started_at code_version workload_source torch_version ray_version
"""
"""The public names, as the documentation lists them."""

PROMISED_CURVES = """
cell_id pack_id step epoch examples_seen train_loss validation_loss validation_error
learning_rate batch_size noise_scale
"""


def test_tables_have_the_promised_columns_in_the_promised_order() -> None:
    assert SCHEMAS[Table.CELLS].names == PROMISED_CELLS.split()
    assert SCHEMAS[Table.CURVES].names == PROMISED_CURVES.split()


def test_every_column_name_that_analysis_knows_is_in_a_table_and_the_other_way_round() -> None:
    constants = [value for name, value in vars(columns).items() if name.isupper()]
    known = {value for value in constants if isinstance(value, str)} - {columns.ATTEMPTS}
    assert {name for table in SCHEMAS.values() for name in table.names} == known


@pytest.mark.parametrize("table", Table)
def test_every_column_of_a_written_file_tells_its_unit_and_meaning(table: Table) -> None:
    data = encoded(table, SCHEMAS[table].empty_table())
    written = pq.read_schema(pa.BufferReader(data))
    for field in written:
        assert field.metadata[b"unit"], field.name
        assert field.metadata[b"meaning"], field.name
    assert written.metadata[b"scaling_study.schema_version"] == b"3"
    assert written.metadata[b"scaling_study.table"] == table.encode()


def test_a_row_that_lacks_a_column_is_refused_by_the_column_s_name() -> None:
    row = cell_row(1)
    del row["momentum"]
    with pytest.raises(StoreError, match=rf"Row 0 of cells .*{cell_id(1)}.* lacks momentum"):
        table_from_rows(Table.CELLS, [row])


def test_a_row_with_an_unknown_column_is_refused_by_the_column_s_name() -> None:
    with pytest.raises(StoreError, match="unknown columns momentun"):
        table_from_rows(Table.CELLS, [cell_row(1), cell_row(2, momentun=0.9)])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("batch_size", 32.0),
        ("batch_size", True),
        ("batch_size", "32"),
        ("batch_size", 2**63),
        ("learning_rate", "0.1"),
        ("learning_rate", True),
        ("learning_rate", math.nan),
        ("train_loss", math.inf),
        ("train_loss", np.float32("nan")),
        ("model_size", "small"),
        ("model_size", 2**53 + 1),
        ("workload", 3),
        ("workload", None),
        ("started_at", None),
        ("started_at", "2026-01-01"),
        ("started_at", datetime(2026, 1, 1)),  # no zone: that is the point
        ("status", "failed"),
        ("status", ["completed"]),
        ("batch_size", -(2**63) - 1),
        ("model_size", -(2**53) - 1),
        ("model_size", -math.inf),
        ("host", b"here"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused_by_the_column_s_name(
    column: str, value: Any
) -> None:
    with pytest.raises(StoreError, match=column):
        table_from_rows(Table.CELLS, [cell_row(1, **{column: value})])
    sound = [cell_row(number) for number in range(4)]
    rows = [*sound, cell_row(4, **{column: value}), cell_row(5, momentum=None)]
    with pytest.raises(StoreError, match=rf"^Row 4 of cells \(cell '{cell_id(4)}'\) .*{column}"):
        table_from_rows(Table.CELLS, rows)


def test_of_several_faults_the_first_of_the_first_row_is_told() -> None:
    rows = [cell_row(1), cell_row(2, host=None, seed="a"), cell_row(3, workload=None)]
    with pytest.raises(StoreError, match=r"^Row 1 of cells .* seed = 'a' \(str\); it must be an"):
        table_from_rows(Table.CELLS, rows)


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("train_loss", [None, 1.5, np.float32(0.5), 3, None]),
        ("train_loss", [None, None]),
        ("best_validation_step", [7, None, np.int32(-7), -(2**63), 2**63 - 1]),
        ("model_size", [2**53, -(2**53), 0.5, np.int8(1)]),
        ("host", ["a", Name("b"), ""]),
        ("status", [schema.Status.DIVERGED, "completed"]),
        ("ray_version", [None, "2.60"]),
    ],
)
def test_rarer_values_of_a_column_fit_beside_plain_ones(column: str, values: list[Any]) -> None:
    rows = [cell_row(number, **{column: value}) for number, value in enumerate(values)]
    assert table_from_rows(Table.CELLS, rows)[column].to_pylist() == values


def test_numbers_of_numpy_and_integers_on_number_axes_are_stored_exactly() -> None:
    row = cell_row(1, model_size=2**53, batch_size=np.int64(7), train_loss=np.float64(0.1))
    stored = table_from_rows(Table.CELLS, [row]).to_pylist()[0]
    assert stored["model_size"] == 2**53
    assert stored["batch_size"] == 7
    assert stored["train_loss"] == 0.1


def test_a_diverged_row_without_losses_is_stored() -> None:
    losses = dict.fromkeys(
        ["train_loss", "validation_loss", "test_loss", "best_validation_loss"], None
    )
    row = cell_row(1, status="diverged", best_validation_step=None, **losses)
    assert table_from_rows(Table.CELLS, [row])["train_loss"].null_count == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop_columns(["momentum"]), "momentum"),
        (lambda table: table.append_column("extra", pa.array([1])), "extra"),
        (lambda table: table.select(table.schema.names[::-1]), "their order"),
        (lambda table: table.replace_schema_metadata({}), "not written by scaling-study"),
    ],
)
def test_a_file_with_other_columns_is_no_part_of_its_table(change: Any, reason: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(change(table_from_rows(Table.CELLS, [cell_row(1)])), sink)
    with pytest.raises(DamagedError, match=reason):
        decoded(Table.CELLS, sink.getvalue().to_pybytes())


def test_curves_among_cells_are_no_part_of_cells() -> None:
    data = encoded(Table.CURVES, SCHEMAS[Table.CURVES].empty_table())
    with pytest.raises(DamagedError, match="it holds curves, not cells"):
        decoded(Table.CELLS, data)


ADDED_IN_3 = {
    Table.CELLS: ["batch_size_schedule", "workload_metrics"],
    Table.CURVES: ["learning_rate", "batch_size", "noise_scale"],
}


def older(table: pa.Table) -> pa.Table:
    """A made-up version 0: `momentum` was called `mass`, and there was no `host`."""
    added = ["weight_decay", *ADDED_IN_3[Table.CELLS]]
    table = table.drop_columns([name for name in added if name in table.schema.names])
    names = ["mass" if name == "momentum" else name for name in table.schema.names]
    metadata = {**table.schema.metadata, schema.VERSION_KEY: b"0"}
    return table.rename_columns(names).drop_columns(["host"]).replace_schema_metadata(metadata)


def from_version_0(table: Table, data: pa.Table) -> pa.Table:
    if table is Table.CELLS:
        names = ["momentum" if name == "mass" else name for name in data.schema.names]
        data = data.rename_columns(names).append_column("host", pa.array(["?"] * len(data)))
    return data


@pytest.fixture
def old_store(tmp_path: Path) -> Store:
    """A store with one part of the current version and one of the made-up older one."""
    store = Store(tmp_path / "store")
    write_cells(store, "new", [1, 2])
    write_cells(store, "old", [3, 4], momentum=0.25)
    path = next(Path(store.address("cells")).glob("part-old-*"))
    pq.write_table(older(pq.read_table(path)), path)
    return store


def test_an_older_part_is_read_as_it_would_be_written_today(
    old_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schema.MIGRATIONS, 0, from_version_0)
    cells = old_store.read_cells(["cell_id", "momentum", "host"])
    assert cells["cell_id"].tolist() == [cell_id(n) for n in (1, 2, 3, 4)]
    assert cells["momentum"].tolist() == [0.9, 0.9, 0.25, 0.25]
    assert cells["host"].tolist() == ["somewhere", "somewhere", "?", "?"]
    assert old_store.unreadable_parts() == []


def test_a_driver_rewrites_older_parts_once_and_leaves_the_others_alone(
    old_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schema.MIGRATIONS, 0, from_version_0)
    before = old_store.read_cells()
    current = next(Path(old_store.address("cells")).glob("part-new-*"))
    untouched = current.stat()
    with old_store.drive("test") as driving:
        assert driving.set_aside == ()
    monkeypatch.delitem(schema.MIGRATIONS, 0)
    assert old_store.read_cells().equals(before)
    assert current.stat().st_mtime_ns == untouched.st_mtime_ns
    assert current.stat().st_ino == untouched.st_ino


def test_a_part_of_a_version_that_nothing_upgrades_is_set_aside_and_named(old_store: Store) -> None:
    assert "version 0" in old_store.unreadable_parts()[0].reason
    with old_store.drive("test") as driving:
        assert [part.name.startswith("part-old-") for part in driving.set_aside] == [True]
    assert set(old_store.cell_statuses()) == {cell_id(1), cell_id(2)}


def test_a_part_of_a_newer_version_is_neither_skipped_nor_moved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_cells(store, "pack", [1])
    path = next(Path(store.address("cells")).iterdir())
    table = pq.read_table(path)
    newer = str(SCHEMA_VERSION + 1).encode()
    metadata = {**table.schema.metadata, schema.VERSION_KEY: newer}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(StoreError, match="Upgrade scaling-study"):
        store.cell_statuses()
    with pytest.raises(StoreError, match="Upgrade scaling-study"), store.drive("test"):
        pass
    assert path.exists()


VERSION_1_CELLS = {
    "text": """
        cell_id workload budget optimizer learning_rate_schedule evaluation_schedule workload_axes
        status pack_id arithmetic device_name host code_version workload_source torch_version
        ray_version""",
    "count": """
        workload_version train_examples parameter_count batch_size seed validation_examples
        test_examples steps examples_seen best_validation_step validation_evaluations
        packed_cells""",
    "number": """
        dataset_fraction model_size learning_rate momentum chance_error epochs training_flops
        wall_seconds pack_wall_seconds train_loss train_error validation_loss validation_error
        test_loss test_error best_validation_loss best_validation_error generalization_gap""",
    "time": "started_at",
}
"""The columns of `cells` as version 1 had them, without weight decay, by type."""


def of_version_1(table: Table, data: pa.Table) -> pa.Table:
    """`data` as version 1 wrote it: `cells` had no weight decay, the rest was as today."""
    metadata = {schema.TABLE_KEY: table.encode(), schema.VERSION_KEY: b"1"}
    if table is Table.CELLS:
        kinds = {"text": pa.string(), "count": pa.int64(), "number": pa.float64()}
        kinds["time"] = pa.timestamp("us", tz="UTC")
        types = {n: kinds[kind] for kind, names in VERSION_1_CELLS.items() for n in names.split()}
        added = {"weight_decay", *ADDED_IN_3[Table.CELLS]}
        order = [name for name in PROMISED_CELLS.split() if name not in added]
        assert set(order) == set(types)
        columns_of_1 = [
            data.schema.field(name).with_type(types[name]).with_metadata({"unit": "of then"})
            for name in order
        ]
        return pa.Table.from_pylist(data.to_pylist(), pa.schema(columns_of_1, metadata))
    data = data.drop_columns(ADDED_IN_3.get(table, []))
    return data.replace_schema_metadata(metadata)


def of_version_2(table: Table, data: pa.Table) -> pa.Table:
    """`data` as version 2 wrote it: without schedules of the batch, metrics, and rates of looks."""
    metadata = {schema.TABLE_KEY: table.encode(), schema.VERSION_KEY: b"2"}
    return data.drop_columns(ADDED_IN_3.get(table, [])).replace_schema_metadata(metadata)


@pytest.fixture
def store_of_version_1(tmp_path: Path) -> Store:
    """A store with parts in all its tables, every one as version 1 wrote it."""
    store = Store(tmp_path / "store")
    write_cells(store, "first", [1, 2])
    write_cells(store, "second", [3], status="diverged", train_loss=None, learning_rate=0.2)
    store.record_failures([failure_row(4)])
    store.record_grids("study", {"curve": [cell_id(n) for n in (1, 2, 3, 4)]})
    for table in Table:
        for path in Path(store.address(table)).iterdir():
            pq.write_table(of_version_1(table, pq.read_table(path)), path)
    return store


def versions(store: Store) -> set[tuple[Table, bytes]]:
    return {
        (table, pq.read_schema(path).metadata[schema.VERSION_KEY])
        for table in Table
        for path in Path(store.address(table)).iterdir()
    }


def test_a_store_of_version_1_is_read_with_a_weight_decay_of_zero(
    store_of_version_1: Store,
) -> None:
    cells = store_of_version_1.read_cells()
    assert cells.columns.tolist() == PROMISED_CELLS.split()
    assert cells["cell_id"].tolist() == [cell_id(n) for n in (1, 2, 3)]
    assert cells["weight_decay"].tolist() == [0.0, 0.0, 0.0]
    assert cells["learning_rate"].tolist() == [0.1, 0.1, 0.2]
    assert cells["train_loss"].isna().tolist() == [False, False, True]
    assert len(store_of_version_1.read_curves()) == 9
    assert store_of_version_1.failed_cell_ids() == {cell_id(4)}
    assert store_of_version_1.unreadable_parts() == []
    assert versions(store_of_version_1) == {(table, b"1") for table in Table}, "it was rewritten"


def test_a_driver_makes_a_store_of_version_1_one_of_today(store_of_version_1: Store) -> None:
    store = store_of_version_1
    before = store.read_cells(), store.read_curves(), store.read_failures(), store.read_grids()
    with store.drive("test") as driving:
        assert driving.set_aside == ()
    assert versions(store) == {(table, b"3") for table in Table}
    after = store.read_cells(), store.read_curves(), store.read_failures(), store.read_grids()
    assert all(old.equals(new) for old, new in zip(before[:3], after[:3], strict=True))
    assert before[3] == after[3]


def test_pandas_alone_reads_a_store_of_version_1_that_a_driver_has_opened(
    store_of_version_1: Store,
) -> None:
    store = store_of_version_1
    with store.drive("test"):
        write_cells(store, "third", [5], weight_decay=0.01)
    cells = pd.read_parquet(store.address("cells")).sort_values("cell_id")
    assert cells.columns.tolist() == PROMISED_CELLS.split()
    assert cells["weight_decay"].tolist() == [0.0, 0.0, 0.0, 0.01]
    written = pq.read_schema(next(Path(store.address("cells")).glob("part-first-*")))
    assert written.equals(SCHEMAS[Table.CELLS], check_metadata=True)


def test_a_store_of_version_2_has_constant_batches_no_metrics_and_unknown_rates_of_looks(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store")
    write_cells(store, "old", [1, 2], weight_decay=0.01)
    for table in (Table.CELLS, Table.CURVES):
        for path in Path(store.address(table)).iterdir():
            pq.write_table(of_version_2(table, pq.read_table(path)), path)
    for _ in range(2):  # as it is read, and as a driver leaves it
        cells, curves = store.read_cells(), store.read_curves()
        assert cells["batch_size_schedule"].tolist() == ["constant"] * 2
        assert cells["workload_metrics"].tolist() == ["{}"] * 2
        assert cells["weight_decay"].tolist() == [0.01] * 2
        assert curves[ADDED_IN_3[Table.CURVES]].isna().all(axis=None)
        assert store.unreadable_parts() == []
        with store.drive("test") as driving:
            assert driving.set_aside == ()
    assert {version for _, version in versions(store)} == {b"3"}


def test_no_bit_that_flips_in_the_data_of_a_part_changes_a_value_unnoticed() -> None:
    rows = table_from_rows(Table.CELLS, [cell_row(n) for n in range(4)])
    data = encoded(Table.CELLS, rows)
    end = len(data) - pq.ParquetFile(pa.BufferReader(data)).metadata.serialized_size - 8
    noticed = 0
    for position in range(4, end, 7):
        flipped = bytearray(data)
        flipped[position] ^= 1
        try:
            assert decoded(Table.CELLS, bytes(flipped)).data.equals(rows), position
        except DamagedError:
            noticed += 1
    # Most bytes are values; what remains (some bits of page headers) changes nothing.
    assert noticed > 0.8 * len(range(4, end, 7))
