"""Studies sent as Ray jobs to a real cluster of two nodes on this machine."""

import socket
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobType
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.errors import LaunchError
from orchestrator.job import StudyJob
from tests.orchestrator.conftest import PLUGINS

STUDY = """
name: sent
workload: misbehaving
seeds: 10
grids:
  all:
    pause: 0.5
    model_size: [4, 5]
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
"""


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def plug_in_wheel(folder: Path) -> Path:
    """Return a wheel of the plug-in of these tests, as a package."""
    wheel = folder / "misbehaving-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("misbehaving/__init__.py", (PLUGINS / "misbehaving.py").read_text())
        for file in (PLUGINS / "misbehaving-1.0.dist-info").iterdir():
            archive.write(file, f"misbehaving-1.0.dist-info/{file.name}")
    return wheel


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_a_study_and_its_plug_in_are_sent_followed_and_sent_again(
    command_line, real_cluster, ray_folder, tmp_path
):
    dashboard, *agents = free_ports(3)  # Ray's own would be taken by another Ray of this machine
    cluster = real_cluster(
        num_cpus=1,
        include_dashboard=True,
        dashboard_port=dashboard,
        dashboard_agent_listen_port=agents[0],
    )
    # Nodes of one machine would unpack the job's files into one folder, under each other's feet.
    apart = ray_folder / "node"
    cluster.add_node(num_cpus=1, dashboard_agent_listen_port=agents[1], temp_dir=str(apart))
    (tmp_path / "study.yaml").write_text(STUDY)
    store = tmp_path / "store"
    command = [
        "submit",
        "study.yaml",
        "--store",
        str(store),
        "--address",
        f"http://{cluster.dashboard}",
    ]

    bare = command_line(*command)
    assert bare.returncode == 2, (
        bare.stdout + bare.stderr
    )  # of the driver there, which lacks the plug-in
    assert "Unknown workload 'misbehaving'" in bare.stderr
    assert not store.exists()

    whole = [*command, "--wheel", str(plug_in_wheel(tmp_path))]
    sent = command_line(*whole, "--no-follow")
    assert sent.returncode == 0, sent.stderr
    job = sent.stdout.split()[2]
    followed = command_line(*whole)
    assert followed.returncode == 0, followed.stderr
    assert f"The job {job} is at it already; nothing was sent." in followed.stderr
    assert "Study sent: 20 cells in" in followed.stderr
    assert "Trained 20 cells in" in followed.stderr
    assert f"The job {job}: SUCCEEDED." in followed.stdout
    assert len(pd.read_parquet(store / "cells")) == 20

    again = command_line(*whole)
    assert again.returncode == 0, again.stderr
    assert f"Sent as the job {job[:-1]}2." in again.stderr
    assert "20 of 20 were done before" in again.stderr

    checked = command_line("cluster", "check", "--store", str(store), "--address", cluster.address)
    # Two nodes that share a store, and no token.
    assert checked.returncode == 3, checked.stdout + checked.stderr
    assert "answers without a token" in checked.stdout
    assert "1 fault on 2 nodes" in checked.stdout
    assert len(pd.read_parquet(store / "cells")) == 20


class Answers:
    """A cluster whose dashboard gives these answers, then no more."""

    def __init__(self, *logs: str | Exception) -> None:
        self._logs = list(logs)

    def get_job_info(self, name: str) -> JobDetails:
        status = JobStatus.RUNNING if len(self._logs) > 1 else JobStatus.FAILED
        return JobDetails(type=JobType.SUBMISSION, status=status, entrypoint="", driver_exit_code=3)

    def get_job_logs(self, name: str) -> str:
        log = self._logs.pop(0)
        if isinstance(log, Exception):
            raise log
        return log


@pytest.fixture
def no_waits(monkeypatch):
    monkeypatch.setattr("orchestrator.job.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("orchestrator.job.RECONNECT_SECONDS", (0.0, 0.0))


def test_every_line_of_a_log_is_shown_once_though_the_connection_breaks(no_waits):
    shown: list[str] = []
    lost = ConnectionError("no route")
    cluster = Answers("a\n", lost, lost, "a\nb\n", lost, lost, "a\nb\n", "a\nb\nc\n")
    end = StudyJob(cluster, "one-1", is_new=True).follow(shown.append)
    assert shown == ["a\n", "b\n", "c\n"]
    assert (end.status, end.exit_code) == (JobStatus.FAILED, 3)


def test_a_token_that_is_refused_is_told_at_once(no_waits):
    job = StudyJob(Answers("a\n", AuthenticationError("401"), "a\n"), "one-1", is_new=True)
    with pytest.raises(LaunchError, match="401"):
        job.follow(lambda text: None)


def test_the_end_of_a_job_is_told_though_its_log_is_gone(no_waits, caplog):
    job = StudyJob(Answers("a\n", RuntimeError("no such file")), "one-1", is_new=True)
    assert job.follow(lambda text: None).exit_code == 3
    assert "The log of the job one-1 is gone" in caplog.text


def test_a_cluster_that_stays_silent_ends_the_following_and_not_the_job(no_waits):
    job = StudyJob(Answers("a\n", *[ConnectionError("no route")] * 4), "one-1", is_new=True)
    with pytest.raises(LaunchError, match=r"(?s)no route.*may go on.*follows it again"):
        job.follow(lambda text: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--store", "results"], "an absolute path that all its nodes share"),
        (["--store", "ftp://host/a"], "the scheme 'ftp'"),
        (["--address", "127.0.0.1:6379"], "allowed: http://HOST:PORT of the cluster's dashboard"),
        (["--address", "ray://host:10001"], "allowed: http://HOST:PORT"),
        (["--env", "AWS_SECRET_ACCESS_KEY=x"], "looks like a credential"),
        (["--env", "OMP_NUM_THREADS=4"], "is set by the run or by the cluster"),
        (["--address", "http://ada:word@host:8265"], "allowed: http://HOST:PORT"),
        (["--address", "http://host:99999"], "allowed: http://HOST:PORT"),
        (["--address", "http://head..cluster:8265"], "allowed: http://HOST:PORT"),
        (["--env", "9=x"], "cannot be the name of a variable"),
        (["--env", "NAME"], "allowed: NAME=VALUE"),
        (["--working-dir", "nowhere"], "is no folder"),
        (["--working-dir", "beside"], "is not inside --working-dir"),
        (["--wheel", "torch-2-cp311-cp311-linux_x86_64.whl"], "only wheels of pure Python"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_sent(
    tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside").mkdir()
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("misbehaving", "digits").replace("    pause: 0.5\n", "")
    )
    given = {"--store": "/shared/results", "--address": "http://127.0.0.1:9"}
    given |= {options[0]: options[1]}
    words = [word for option in given.items() for word in option]
    result = CliRunner().invoke(cli.app, ["submit", "study.yaml", *words])
    assert result.exit_code == 2, result.stderr
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://127.0.0.1:9/ray/lab/"])
def test_a_cluster_that_does_not_answer_is_named(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("misbehaving", "digits").replace("    pause: 0.5\n", "")
    )
    words = ["submit", "study.yaml", "--store", "/shared/results", "--address"]
    result = CliRunner().invoke(cli.app, [*words, address])
    assert result.exit_code == 3
    assert f"The cluster at {address} did not take the job" in result.stderr
    assert "RAY_AUTH_MODE=token" in result.stderr
