"""The command line as its users meet it: output, exit codes, one clear message for bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from orchestrator.cli import app
from tests.orchestrator.malformed import MALFORMED
from tests.orchestrator.test_planning import STUDY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    unexpected = result.exception
    if unexpected is not None and not isinstance(unexpected, SystemExit):
        raise unexpected
    return result


HUGE = STUDY.replace("[16, 32]", str(list(range(1, 400)))).replace(
    "[0.1, 0.2]", str([round(0.001 * i, 3) for i in range(1, 200)])
)
IMPOSSIBLE = [
    ("batch-larger-than-shard", STUDY.replace("[16, 32]", "[16, 2000]"), ":15: "),
    ("no-cell-left", STUDY + "    where: batch_size > 5000\n", "has no cell"),
    ("no-example-left", STUDY.replace("[0.25, 0.5]", "[0.00001]"), "is no example"),
    ("huge-grid", HUGE, "need --yes"),
    ("division-by-zero", STUDY + "    where: 1 / momentum > 3\n", ":18: "),
    ("no-step", STUDY.replace("{steps: 20}", "{cumulative_learning_rate: 0.01}"), "budget"),
]
"""Studies that are well formed, and fail only when their cells are made."""


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("text", "fragment"),
    [pytest.param(text, fragment, id=name) for name, text, fragment in [*MALFORMED, *IMPOSSIBLE]],
)
def test_a_bad_study_exits_2_with_one_message_and_leaves_nothing(folder, command, text, fragment):
    study = folder / "study.yaml"
    study.write_bytes(text.encode() if isinstance(text, str) else text)
    result = run(command, "study.yaml", "--store", "store")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert fragment in result.stderr
    assert "Traceback" not in result.stderr
    assert list(folder.iterdir()) == [study]


def test_render_refuses_what_its_command_would_until_that_is_told_yes(folder):
    (folder / "study.yaml").write_text(HUGE)
    example = Path(__file__).parents[2] / "examples" / "cluster.yaml"
    render = (
        "cluster",
        "render",
        "slurm",
        str(example),
        "--study",
        "study.yaml",
        "--out",
        "lab.sh",
    )
    refused = run(*render)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "more than 100,000 need --yes" in refused.stderr
    assert not (folder / "lab.sh").exists()
    assert run(*render, "--yes").exit_code == 0
    assert "--address auto --yes &\n" in (folder / "lab.sh").read_text()


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_study_file_that_cannot_be_read_exits_2(folder, name):
    result = run("plan", name)
    assert result.exit_code == 2
    assert name in result.stderr


def test_a_bad_study_in_a_real_process_has_no_traceback(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("workload: digits", "workload: digit"))
    answer = command_line("run", "study.yaml")
    assert answer.returncode == 2
    assert answer.stdout == ""
    before, _, rest = answer.stderr.strip().partition("Available: ")
    available, _, after = rest.partition(". ")
    assert before == "study.yaml:3: Unknown workload 'digit'. "
    assert {"digits", "misbehaving", "misbehaving_together", "teacher"} <= {*available.split(", ")}
    assert after == "Others load from entry points 'scaling_study.workloads'."


def test_help_imports_neither_ray_nor_torch_nor_pandas():
    code = (
        "import sys; from orchestrator.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'ray', 'torch', 'pandas', 'pyarrow', 'scipy', 'altair'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "analyze" in answer.stdout


def test_plan_prints_counts_by_grid_and_touches_nothing(folder):
    result = run("plan", "study.yaml", "--store", "store")
    assert result.exit_code == 0
    assert "14 cells in 3 packs, 280 steps" in result.stdout
    assert "assumed: no earlier run" in result.stdout
    assert "Stacked: 14 cells" in result.stdout
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]
    document = json.loads(run("plan", "study.yaml", "--store", "store", "--json").stdout)
    assert document["cells_to_run"] == 14
    assert document["grids"]["law"] == {
        **{"cells": 8, "new": 8, "completed": 0, "diverged": 0, "failed": 0}
    }


def test_run_status_analyze_and_compact_follow_each_other(folder):
    first = run("run", "study.yaml", "--store", "store", "--inline", "--json")
    assert first.exit_code == 0
    assert json.loads(first.stdout)["trained"] == 14
    again = run("run", "study.yaml", "--store", "store", "--inline")
    assert "Trained 0 cells" in again.stdout
    assert "14 of 14 were done before" in again.stdout

    document = json.loads(run("status", "store", "--json").stdout)
    assert document["cells"] == document["completed"] == 14
    assert document["driver"] is None or not document["driver"]["alive"]
    assert "No driver is running." in run("status", "store").stdout

    compacted = json.loads(run("compact", "store", "--json").stdout)
    assert compacted["parts_after"] < compacted["parts_before"]
    assert json.loads(run("status", "store", "--json").stdout)["completed"] == 14

    analyzed = run("analyze", "store", "--out", "out", "--json")
    assert analyzed.exit_code == 0
    json.loads(analyzed.stdout)
    assert {path.name for path in (folder / "out").iterdir()} == {"report.html", "fits.json"}


def test_the_default_store_is_named_after_the_study(folder):
    assert run("run", "study.yaml", "--inline").exit_code == 0
    assert (folder / "results" / "small" / "cells").is_dir()


def test_a_location_in_the_home_folder_is_the_same_to_run_and_analyze(folder, monkeypatch):
    home = folder / "home"
    monkeypatch.setenv("HOME", str(home))
    trained = run("run", "study.yaml", "--inline", "--store=~/results")
    store = home / "results"
    assert f"Results: {store}   Next: scaling-study analyze {store}\n" in trained.stdout
    assert run("analyze", "~/results").exit_code == 0
    assert (store / "report.html").exists()
    assert run("analyze", "~/results", "--out=~/report").exit_code == 0
    assert (home / "report" / "report.html").exists()
    assert {path.name for path in folder.iterdir()} == {"study.yaml", "home"}


def test_status_and_analyze_of_no_store_say_so(folder):
    status = run("status", "nowhere")
    assert status.exit_code == 2
    assert "nowhere" in status.stderr
    assert run("compact", "nowhere").exit_code == 2
    assert not (folder / "nowhere").exists()
    analyze = run("analyze", "nowhere")
    assert analyze.exit_code == 2
    assert "nowhere" in analyze.stderr


def test_workloads_are_listed_with_axes_and_sizes():
    result = run("workloads")
    assert result.exit_code == 0
    assert "digits" in result.stdout
    assert "label_noise" in result.stdout
    listed = json.loads(run("workloads", "--json").stdout)
    assert {"digits", "teacher"} <= {workload["name"] for workload in listed}


def test_a_plug_in_that_does_not_load_is_listed_with_its_fault_beside_the_others(
    tmp_path, monkeypatch
):
    plug_in = tmp_path / "broken-1.0.dist-info"
    plug_in.mkdir()
    (plug_in / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (plug_in / "entry_points.txt").write_text(
        "[scaling_study.workloads]\nbroken = no_such_module:Broken\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = run("workloads")
    assert listed.exit_code == 0
    assert "broken cannot be trained: Workload 'broken' (entry point 'no_such" in listed.stdout
    assert "label_noise" in listed.stdout
    by_name = {each["name"]: each for each in json.loads(run("workloads", "--json").stdout)}
    assert "No module named 'no_such_module'" in by_name["broken"]["fault"]
    assert by_name["digits"]["axes"]


def test_a_home_folder_that_is_not_known_is_refused(folder):
    refused = run("analyze", "results", "--out=~nosuchuser/report")
    assert refused.exit_code == 2
    assert "'~nosuchuser/report' begins with a home folder that is not known" in " ".join(
        refused.stderr.replace("│", "").split()
    )


def test_inline_and_address_exclude_each_other(folder):
    result = run("run", "study.yaml", "--inline", "--address", "auto")
    assert result.exit_code == 2
    assert "--inline" in result.stderr


def test_a_cluster_where_nobody_listens_exits_3_and_leaves_nothing(folder):
    result = run("run", "study.yaml", "--store", "store", "--address", "127.0.0.1:9")
    assert result.exit_code == 3
    assert "127.0.0.1:9" in result.stderr
    assert not (folder / "store").exists()


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (("--address", "ray://127.0.0.1:10001"), "scaling-study submit"),
        (("--address", "somewhere"), "HOST:PORT"),
        (("--address", "host:99999"), "HOST:PORT"),
        (("--address", "host:²"), "HOST:PORT"),
        (("--address", "head..cluster:6379"), "HOST:PORT"),
        (("--store", "ftp://host/store"), "s3://"),
        (("--store", "s3://bucket"), "prefix"),
        (("--store", "s3://key:secret@bucket/prefix"), "credentials"),
    ],
)
def test_an_address_or_location_that_cannot_be_meant_exits_2(folder, options, fragment):
    result = run("run", "study.yaml", *options)
    assert result.exit_code == 2
    assert fragment in result.stderr
    assert "secret" not in result.stderr
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is the GPU that is asked for")
def test_more_gpus_than_there_are_exits_2_and_leaves_nothing(folder):
    (folder / "study.yaml").write_text(STUDY + "resources: {cpus: 1, gpus: 1}\n")
    result = run("run", "study.yaml", "--store", "store", "--inline")
    assert result.exit_code == 2
    assert "asks for 1 CPU and 1 GPU on one node" in result.stderr
    assert not (folder / "store").exists()


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_workload_whose_data_is_missing_exits_2_and_names_it(folder, monkeypatch, command):
    from workloads.digits import Digits

    class Missing(Digits):
        name = "missing"

        def data(self, axes):
            raise FileNotFoundError("no such data set: mnist")

    monkeypatch.setattr("orchestrator.study_file.study.find_workload", lambda name: Missing())
    (folder / "study.yaml").write_text(STUDY.replace("workload: digits", "workload: missing"))
    result = run(command, "study.yaml", "--store", "store")
    assert result.exit_code == 2
    assert "The workload 'missing' cannot be planned" in result.stderr
    assert "FileNotFoundError: no such data set: mnist" in result.stderr
    assert not (folder / "store").exists()


def test_what_a_workload_prints_does_not_reach_the_document(folder, monkeypatch):
    from workloads.digits import Digits

    quiet = Digits.model

    def talkative(self, size):
        print("Files already downloaded and verified")
        return quiet(self, size)

    monkeypatch.setattr(Digits, "model", talkative)
    result = run("run", "study.yaml", "--store", "store", "--inline", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["trained"] == 14
    assert "already downloaded" in result.stderr


def test_a_store_that_cannot_be_looked_at_exits_3(folder):
    result = run("plan", "study.yaml", "--store", "x" * 300)
    assert result.exit_code == 3
    assert "x" * 300 in result.stderr


@pytest.mark.parametrize("package", ["analysis", "workloads", "cluster"])
def test_a_users_own_file_that_hides_a_package_is_named(command_line, tmp_path, package):
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / f"{package}.py").write_text("")
    answer = command_line("plan", "study.yaml")
    assert answer.returncode == 3
    assert str(tmp_path / f"{package}.py") in answer.stderr


def test_a_report_on_a_store_elsewhere_needs_a_folder_before_anything_is_read():
    result = run("analyze", "s3://nowhere/store")
    assert result.exit_code == 2
    assert "name one for the report with --out DIR" in result.stderr


def test_a_location_that_cannot_be_meant_is_refused_by_what_reads_results(folder):
    pilot = ("plan", "study.yaml", "--power", "--pilot")
    for command in (("status",), ("compact",), ("analyze", "--out", "out"), pilot):
        for location in ("~nosuchuser/x", "s3://[x/y"):
            result = run(*command, location)
            assert result.exit_code == 2
            assert "llowed: " in result.stderr
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]


def test_results_that_cannot_be_read_exit_3(folder):
    (folder / "store").mkdir()
    for name in ("cells", "grids"):
        (folder / "store" / name).write_text("where a folder must be")
    result = run("analyze", "store")
    assert result.exit_code == 3
    assert f"Could not read {folder / 'store'}" in result.stderr
    assert "Not a directory" in result.stderr


def test_a_locked_store_exits_3_and_names_the_driver(folder):
    from orchestrator.storage.store import Store

    store = Store(folder / "store")
    store.create()
    with store.drive("the first driver"):
        result = run("run", "study.yaml", "--store", "store", "--inline")
    assert result.exit_code == 3
    assert "the first driver" in result.stderr
    assert Path(folder / "store" / "cells").is_dir()
