import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis import FitError, load_cells, load_curves, load_grids


def cell(cell_id, *, pack_id="p0", started_at=0, axes="{}", **values):
    return {
        "cell_id": cell_id,
        "pack_id": pack_id,
        "started_at": pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(seconds=started_at),
        "seed": 0,
        "train_examples": 64,
        "workload_axes": axes,
        "status": "completed",
        "validation_error": 0.5,
        **values,
    }


def write(store: Path, part: str, rows, name="part-a.parquet"):
    (store / part).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(store / part / name)


def write_grids(store: Path, study: str, **grids):
    rows = [(study, grid, cell_id) for grid, ids in grids.items() for cell_id in ids]
    frame = pd.DataFrame(rows, columns=["study", "grid", "cell_id"])
    write(store, "grids", frame, f"{study}.parquet")


def failure(cell_id, attempt, message, *, second=0, pack_id="p9"):
    return {
        "cell_id": cell_id,
        "pack_id": pack_id,
        "attempt": attempt,
        "error_type": "RuntimeError",
        "error_message": message,
        "error_traceback": "…",
        "host": "h",
        "failed_at": pd.Timestamp("2024-01-02", tz="UTC") + pd.Timedelta(seconds=second),
    }


def test_the_earliest_row_of_a_cell_counts_wherever_it_lies(tmp_path):
    write(tmp_path, "cells", [cell("a", started_at=9, validation_error=0.9)], "part-1.parquet")
    write(tmp_path, "cells", [cell("a", started_at=1, validation_error=0.1)], "part-2.parquet")
    cells = load_cells(tmp_path)
    assert cells["validation_error"].tolist() == [0.1]


def test_rows_that_started_together_are_told_apart_by_pack(tmp_path):
    write(tmp_path, "cells", [cell("a", pack_id="p2", validation_error=0.2)], "part-1.parquet")
    write(tmp_path, "cells", [cell("a", pack_id="p1", validation_error=0.1)], "part-2.parquet")
    assert load_cells(tmp_path)["pack_id"].tolist() == ["p1"]


def test_types_of_the_store_survive(tmp_path):
    write(tmp_path, "cells", [cell("a"), cell("b", seed=3)])
    cells = load_cells(str(tmp_path))
    assert cells["seed"].dtype == "int64"
    assert cells["train_examples"].dtype == "int64"
    assert cells.index.tolist() == [0, 1]


def test_looks_from_before_rates_were_recorded_have_those_of_their_cells(tmp_path):
    settings = {"learning_rate": 0.1, "momentum": 0.9, "train_examples": 100}
    known = [cell("a", batch_size=10, **settings), cell("b", batch_size=200, **settings)]
    write(tmp_path, "cells", known)
    looks = [
        {"cell_id": name, "pack_id": "p0", "step": step} for name in ("a", "b") for step in (1, 2)
    ]
    write(tmp_path, "curves", looks)
    own = {"cell_id": "b", "pack_id": "p0", "step": 3, "learning_rate": 0.02, "batch_size": 50}
    write(tmp_path, "curves", [own], "part-2.parquet")
    curves = load_curves(tmp_path, load_cells(tmp_path))
    assert curves["learning_rate"].tolist() == [0.1, 0.1, 0.1, 0.1, 0.02]
    assert curves["batch_size"].tolist() == [10, 10, 100, 100, 50]
    # ε/(1 − m) · (N/B − 1): 1 · 9 and, for a batch that is the shard, 0.
    assert curves["noise_scale"].tolist()[:4] == pytest.approx([9, 9, 0, 0])
    assert curves["noise_scale"].isna().tolist() == [False] * 4 + [True]


def test_metrics_of_a_workload_become_columns(tmp_path):
    texts = ['{"validation_recall": 0.5, "test_recall": null}', "{}"]
    rows = [cell(name, workload_metrics=text) for name, text in zip("ab", texts, strict=True)]
    write(tmp_path, "cells", rows)
    cells = load_cells(tmp_path).set_index("cell_id")
    assert cells["validation_recall"].fillna(-1).to_dict() == {"a": 0.5, "b": -1}
    assert cells["test_recall"].isna().all()


def test_rows_from_before_there_was_a_weight_decay_have_one_of_zero(tmp_path):
    write(tmp_path, "cells", [cell("a"), cell("b")], "part-1.parquet")
    assert load_cells(tmp_path)["weight_decay"].tolist() == [0.0, 0.0]
    write(tmp_path, "cells", [cell("c", weight_decay=0.01)], "part-2.parquet")
    write(tmp_path, "failures", [failure("d", 1, "boom")])
    cells = load_cells(tmp_path, failed=True).set_index("cell_id")
    assert cells["weight_decay"].drop("d").to_dict() == {"a": 0.0, "b": 0.0, "c": 0.01}
    assert cells["weight_decay"].isna()["d"]


def test_a_uri_reads_like_a_path(tmp_path):
    write(tmp_path, "cells", [cell("a"), cell("b")])
    pd.testing.assert_frame_equal(load_cells(tmp_path.as_uri()), load_cells(tmp_path))


def test_a_store_in_s3_reads_like_a_local_one(tmp_path, monkeypatch):
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    boto3 = pytest.importorskip("boto3")
    write(tmp_path, "cells", [cell("a"), cell("b")])
    write_grids(tmp_path, "demo", curve=["b"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.start()
    try:
        host, port = server.get_host_and_port()
        s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        s3.create_bucket(Bucket="results")
        for path in tmp_path.rglob("*.parquet"):
            key = f"run/{path.relative_to(tmp_path).as_posix()}"
            s3.put_object(Bucket="results", Key=key, Body=path.read_bytes())
        uri = f"s3://results/run?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
        cells = load_cells(uri, grid="curve")
        with pytest.raises(FitError, match="No cell has a result in 'results/elsewhere'"):
            load_cells(uri.replace("/run", "/elsewhere"))
    finally:
        server.stop()
    pd.testing.assert_frame_equal(cells, load_cells(tmp_path, grid="curve"))


def test_a_grid_selects_its_cells_once_each(tmp_path):
    write(tmp_path, "cells", [cell(name) for name in "abcd"])
    write_grids(tmp_path, "demo", curve=["a", "b", "not-yet-run"], law=["b", "c"])
    write_grids(tmp_path, "other", wide=["d"])
    assert set(load_cells(tmp_path, grid="curve")["cell_id"]) == {"a", "b"}
    assert sorted(load_cells(tmp_path, study="demo")["cell_id"]) == ["a", "b", "c"]
    assert set(load_cells(tmp_path, study="other", grid="wide")["cell_id"]) == {"d"}
    assert len(load_cells(tmp_path)) == 4


def test_a_grid_of_several_studies_is_refused_until_one_is_named(tmp_path):
    write(tmp_path, "cells", [cell("a"), cell("b")])
    write_grids(tmp_path, "one", curve=["a"])
    write_grids(tmp_path, "two", curve=["b"])
    with pytest.raises(FitError, match=r"'curve' occurs in the studies one, two; .*study='one'"):
        load_cells(tmp_path, grid="curve")
    assert load_cells(tmp_path, grid="curve", study="two")["cell_id"].tolist() == ["b"]


def test_grids_name_every_cell_of_every_study_trained_or_not(tmp_path):
    write_grids(tmp_path, "demo", law=["b"], curve=["b", "not-yet-run"])
    write_grids(tmp_path, "a-study", curve=["c"])
    write_grids(tmp_path, "demo", law=["b"], curve=["b", "not-yet-run"])
    assert load_grids(tmp_path).to_dict("split", index=False)["data"] == [
        ["a-study", "curve", "c"],
        ["demo", "curve", "b"],
        ["demo", "curve", "not-yet-run"],
        ["demo", "law", "b"],
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"grid": "curves"}, "Unknown grid 'curves'.*demo: curve, law"),
        ({"study": "dem"}, "Unknown study 'dem'.*demo: curve, law"),
        ({"study": "demo", "grid": "x"}, "Unknown grid 'x'.*demo: curve, law"),
    ],
)
def test_unknown_names_are_answered_with_those_that_exist(tmp_path, names, message):
    write(tmp_path, "cells", [cell("a")])
    write_grids(tmp_path, "demo", curve=["a"], law=["a"])
    with pytest.raises(FitError, match=message):
        load_cells(tmp_path, **names)


def test_a_grid_without_results_is_refused_with_its_size(tmp_path):
    write(tmp_path, "cells", [cell("a")])
    write_grids(tmp_path, "demo", curve=["b", "c"])
    with pytest.raises(FitError, match="No cell of the 2 that were asked for has a result"):
        load_cells(tmp_path, grid="curve")


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_an_empty_or_missing_store_is_refused_with_its_path(tmp_path, folder):
    (tmp_path / "empty" / "cells").mkdir(parents=True)
    with pytest.raises(FitError, match=f"No cell has a result in .*{folder}"):
        load_cells(tmp_path / folder)


def test_a_store_without_grids_says_so(tmp_path):
    write(tmp_path, "cells", [cell("a")])
    with pytest.raises(FitError, match="has no readable Parquet files under grids/"):
        load_cells(tmp_path, grid="curve")


def test_credentials_in_a_uri_stay_out_of_messages():
    with pytest.raises(FitError, match="scheme 'nope'") as raised:
        load_cells("nope://key:secret@bucket/run")
    assert "secret" not in str(raised.value)
    # Arrow's own message quotes the whole URI; a traceback must not print it either
    assert raised.value.__suppress_context__


def test_workload_axes_become_columns_and_keep_their_types(tmp_path):
    axes = [json.dumps({"label_noise": 0.1, "schedule": "cosine"}), json.dumps({"depth": 2}), None]
    write(tmp_path, "cells", [cell(n, axes=a) for n, a in zip("abc", axes, strict=True)])
    cells = load_cells(tmp_path).set_index("cell_id")
    assert cells.loc["a", "label_noise"] == 0.1
    assert cells.loc["a", "schedule"] == "cosine"
    assert cells.loc["b", "depth"] == 2
    assert pd.isna(cells.loc["b", "label_noise"])
    assert cells.loc["c", ["label_noise", "schedule", "depth"]].isna().all()


@pytest.mark.parametrize("name", ["seed", "validation_error", "grid", "attempts"])
def test_a_workload_axis_never_overwrites_a_column_of_the_store(tmp_path, name):
    write(tmp_path, "cells", [cell("a", axes=json.dumps({name: 7}))])
    with pytest.raises(FitError, match=rf"axes \['{name}'\] are named like columns"):
        load_cells(tmp_path)


@pytest.mark.parametrize("text", ["not json", "[1, 2]"])
def test_workload_axes_that_are_no_object_are_refused(tmp_path, text):
    write(tmp_path, "cells", [cell("a", axes=text)])
    with pytest.raises(FitError, match="workload_axes holds"):
        load_cells(tmp_path)


def test_an_unreadable_part_is_skipped_with_a_warning_that_names_it(tmp_path):
    write(tmp_path, "cells", [cell("a")])
    whole = (tmp_path / "cells" / "part-a.parquet").read_bytes()
    (tmp_path / "cells" / "part-torn.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cells" / "part-zero.parquet").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"part-(torn|zero)\.parquet: not a readable") as caught:
        cells = load_cells(tmp_path)
    assert len(caught) == 2
    assert {Path(warning.filename).name for warning in caught} == {"test_loading.py"}
    assert cells["cell_id"].tolist() == ["a"]


def test_hidden_and_foreign_files_are_not_looked_at(tmp_path):
    write(tmp_path, "cells", [cell("a")])
    (tmp_path / "cells" / ".part-half.parquet").write_bytes(b"half")
    (tmp_path / "cells" / "notes.txt").write_text("hello")
    (tmp_path / "cells" / "deeper.parquet").mkdir()
    assert len(load_cells(tmp_path)) == 1


def test_a_table_that_does_not_belong_is_refused_by_name(tmp_path):
    write(tmp_path, "cells", [{"something": 1}], "part-odd.parquet")
    with pytest.raises(FitError, match=r"part-odd\.parquet has no column cell_id"):
        load_cells(tmp_path)


def test_parts_with_and_without_a_newer_column_are_joined(tmp_path):
    write(tmp_path, "cells", [cell("a")], "part-1.parquet")
    write(tmp_path, "cells", [cell("b", started_at=1, newer=2.5)], "part-2.parquet")
    assert load_cells(tmp_path)["newer"].isna().tolist() == [True, False]


def test_failed_cells_join_with_their_last_message_and_number_of_attempts(tmp_path):
    write(tmp_path, "cells", [cell("a"), cell("b")])
    rows = [
        failure("c", 2, "second", second=5),
        failure("c", 1, "first"),
        failure("c", 1, "first"),
        failure("b", 1, "went well later"),
    ]
    write(tmp_path, "failures", rows)
    cells = load_cells(tmp_path, failed=True).set_index("cell_id")
    assert cells["status"].to_dict() == {"a": "completed", "b": "completed", "c": "failed"}
    assert cells["attempts"].to_dict() == {"a": 0, "b": 1, "c": 2}
    assert cells.loc["c", "error_message"] == "second"
    assert cells["error_message"].isna().to_dict() == {"a": True, "b": True, "c": False}
    assert "c" not in set(load_cells(tmp_path)["cell_id"])


def test_failed_cells_of_other_grids_stay_out(tmp_path):
    write(tmp_path, "cells", [cell("a")])
    write(tmp_path, "failures", [failure("c", 1, "boom"), failure("d", 1, "boom")])
    write_grids(tmp_path, "demo", curve=["a", "c"])
    cells = load_cells(tmp_path, grid="curve", failed=True)
    assert cells["cell_id"].tolist() == ["a", "c"]


def test_a_store_where_all_cells_failed_shows_them(tmp_path):
    write(tmp_path, "failures", [failure("c", 1, "boom")])
    cells = load_cells(tmp_path, failed=True)
    assert cells[["cell_id", "status", "attempts"]].to_numpy().tolist() == [["c", "failed", 1]]


def test_asking_for_failures_where_there_are_none_adds_empty_columns(tmp_path):
    write(tmp_path, "cells", [cell("a")])
    cells = load_cells(tmp_path, failed=True)
    assert cells["attempts"].tolist() == [0]
    assert cells["error_message"].isna().all()


def curve(cell_id, pack_id, steps, loss=1.0):
    return [
        {"cell_id": cell_id, "pack_id": pack_id, "step": step, "validation_loss": loss}
        for step in steps
    ]


def test_curves_come_from_the_pack_whose_row_counts_and_once(tmp_path):
    write(tmp_path, "cells", [cell("a", pack_id="p2", started_at=5), cell("a", pack_id="p1")])
    write(tmp_path, "curves", curve("a", "p1", [2, 1]) + curve("a", "p2", [1, 2]), "part-1.parquet")
    write(tmp_path, "curves", curve("a", "p1", [2, 3]) + curve("b", "p1", [1]), "part-2.parquet")
    curves = load_curves(tmp_path, load_cells(tmp_path))
    assert curves["cell_id"].tolist() == ["a"] * 3
    assert curves["pack_id"].tolist() == ["p1"] * 3
    assert curves["step"].tolist() == [1, 2, 3]


def test_curves_need_the_keys_of_cells(tmp_path):
    with pytest.raises(FitError, match="cells lacks pack_id"):
        load_curves(tmp_path, pd.DataFrame({"cell_id": ["a"]}))


def imported_by(program):
    """Return the top-level modules that a fresh interpreter holds after running `program`."""
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    return set(done.stdout.split())


def test_analysis_imports_without_ray_torch_or_the_orchestrator():
    # A finder that refuses, rather than None in sys.modules: scipy looks torch up there.
    program = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "torch", "orchestrator", "workloads"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from analysis import *
assert callable(load_cells) and callable(fit_power_law)
"""
    assert not {"altair", "sklearn", "matplotlib", "statsmodels"} & imported_by(program)


def test_the_names_of_columns_are_to_be_had_without_pandas_and_scipy():
    """Every worker of a study imports them, and nothing else of analysis."""
    heavy = {"numpy", "pandas", "scipy", "pyarrow"}
    assert not heavy & imported_by("from analysis import columns; columns.CELL_ID")


def test_analysis_offers_its_names_lazily():
    offered = [getattr(analysis, name) for name in sorted(analysis.__all__)]
    assert [entry.__name__ for entry in offered] == sorted(analysis.__all__)
    assert set(analysis.__all__) <= set(dir(analysis))
    with pytest.raises(AttributeError, match="'analysis' has no attribute 'load_cell'"):
        _ = analysis.load_cell


def test_no_public_name_is_that_of_a_module():
    """Importing the module would put it in the name's place, in whatever order it happens."""
    modules = {path.stem for path in Path(analysis.__file__).parent.glob("*.py")}
    assert not modules & set(analysis.__all__)
