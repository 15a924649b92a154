"""The Slurm script: its text as a whole, and what it does under a fake Slurm and a fake Ray."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.description import StudyFile
from cluster.errors import DescriptionError
from cluster.slurm import render_slurm
from tests.cluster.descriptions import SHARED, SLURM, STUDY, described

RENDERED = Path(__file__).with_name("slurm.expected.sh")

ROOT = Path(__file__).parents[2]

REQUIRED = "SCALING_STUDY_REQUIRE_SHELLCHECK"
"""Variable that makes a missing shellcheck a failure, as in `.ci/run`."""

needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None and not os.environ.get(REQUIRED),
    reason="shellcheck is missing; apt-get install shellcheck",
)

VARIANTS = {
    "as it is": SLURM,
    "head alone": SLURM.replace("workers:\n", "").replace("  gpus: {cpus: 16", "#"),
    "no GPUs": SLURM.replace("gpus: 4, ", "").replace("accelerator_type: A100, ", ""),
    "objects": SLURM.replace(SHARED, "storage: {uri: s3://bucket/studies}\n"),
    "custom resources": SLURM.replace("max: 2", "max: 2, resources: {fast_disk: 1}"),
}


def test_the_whole_script():
    assert render_slurm(described(SLURM), STUDY) == RENDERED.read_text()


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_bash_can_read_the_script(text):
    script = render_slurm(described(text), STUDY)
    answer = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (answer.returncode, answer.stderr) == (0, "")


@needs_shellcheck
@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_shellcheck_finds_nothing(text):
    script = render_slurm(described(text), STUDY)
    answer = subprocess.run(["shellcheck", "-"], input=script, text=True, capture_output=True)
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (SLURM.replace("min: 2", "min: 1"), "1 to 2 nodes; a Slurm job has a fixed number"),
        (SLURM.replace("storage:", "  more: {cpus: 1, memory_gib: 1, min: 1, max: 1}\nstorage:"),
         "2 groups of workers"),
        (SLURM.replace("head: {cpus: 8", "head: {cpus: 32"), "head: cpus is 32"),
        (SLURM[: SLURM.index("slurm:")], "no section slurm"),
    ],
)  # fmt: skip
def test_what_one_job_cannot_be_is_refused(text, fragment):
    with pytest.raises(DescriptionError, match=fragment):
        render_slurm(described(text), STUDY)


def test_a_job_without_a_study_is_refused():
    with pytest.raises(DescriptionError, match="Add --study"):
        render_slurm(described(SLURM), None)


FAKE_SRUN = """\
echo "srun $*" >>"$LOG"
nodes=()
while [[ $1 == --* ]]; do
  case $1 in
    --nodelist=*) nodes=("${1#*=}") ;;
    --nodes=*) count=${1#*=} ;;
  esac
  shift
done
if ((${#nodes[@]} == 0)); then mapfile -t nodes < <(seq -f n%g "$count"); fi
for ((i = 1; i < ${#nodes[@]}; i++)); do
  env NODE="${nodes[i]}" "$@" || exit
done
export NODE=${nodes[0]}
exec "$@"
"""
FAKE_RAY = """\
echo "$NODE ray $* (auth $RAY_AUTH_MODE, threads $OMP_NUM_THREADS)" >>"$LOG"
if [[ $NODE == "${BROKEN_NODE:-}" ]]; then exit 1; fi
trap 'echo "$NODE ray ended" >>"$LOG"; exit 0' TERM
touch "$FOLDER/joined-$NODE"
while true; do sleep 0.1; done
"""
FAKE_PYTHON = """\
cat >/dev/null
echo "waiting for $2 nodes at $RAY_ADDRESS" >>"$LOG"
if [[ $2 == "${GIVES_UP:-}" ]]; then
  echo "1 of 2 nodes have joined" >&2
  exit 1
fi
until (($(find "$FOLDER" -name 'joined-*' | wc -l) >= $2)); do sleep 0.1; done
if [[ $2 == "${NEVER_READY:-}" ]]; then exec sleep 60; fi
"""
FAKE_STUDY = """\
echo "scaling-study $* (ray $RAY_ADDRESS)" >>"$LOG"
trap 'sleep 0.5; echo "study told to end" >>"$LOG"; exit 130' TERM
touch "$FOLDER/running"
for ((i = 0; i < ${STUDY_TENTHS:-1}; i++)); do sleep 0.1; done
exit "${STUDY_EXIT:-0}"
"""
FAKES = {
    "srun": FAKE_SRUN,
    "ray": FAKE_RAY,
    "python": FAKE_PYTHON,
    "scaling-study": FAKE_STUDY,
    "scontrol": 'echo "scontrol $*" >>"$LOG"; printf "n1\\nn2\\n"\n',
    "hostname": 'echo "fe80::1 ${ADDRESS:-10.0.0.1}"\n',
}
JOB_ID = 7042
PORT = 20420
"""20000 + 10 × (job id modulo 1000)."""


class Job:
    """The script in a folder of its own, with fakes in front of the PATH."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.log = folder / "log"
        self.token = folder / "home" / ".ray" / "auth_token"
        programs = folder / "bin"
        programs.mkdir()
        for name, body in FAKES.items():
            program = programs / name
            program.write_text(f"#!/bin/bash\n{body}")
            program.chmod(0o755)
        (folder / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
        text = text.replace("/shared/studies", str(self.shared))
        text = text.replace("/opt/studies/bin/activate", str(folder / "activate"))
        study = StudyFile(name=STUDY.name, path=STUDY.path, text=STUDY.text)
        self.script = folder / "job.sh"
        self.script.write_text(render_slurm(described(text), study))

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.script)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder / "home"),
                "LOG": str(self.log),
                "FOLDER": str(self.folder),
                "SLURM_JOB_ID": str(JOB_ID),
                "SLURM_JOB_NODELIST": "n[1-2]",
                "RAY_ADDRESS": "another-cluster:6379",
                "RAY_AUTH_TOKEN": "another-clusters-token",
                **environment,
            },
        )

    def run(self, **environment: str) -> tuple[int, str]:
        """Return the exit code, and what was said on standard error."""
        process = self.start(**environment)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def logged(self, beginning: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(beginning)]

    def wait_until(self, name: str) -> None:
        for _ in range(600):
            if (self.folder / name).exists():
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} did not appear: {self.log.read_text()}")


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    yield Job(tmp_path, SLURM)
    assert not Path(f"/tmp/scaling-study-{JOB_ID}").exists()


def test_the_job_starts_ray_on_every_node_and_runs_the_study(job):
    assert job.run() == (0, "")
    assert job.logged("n1 ray") == [
        "n1 ray start --block --temp-dir=/tmp/scaling-study-7042 --min-worker-port=0 "
        f"--max-worker-port=0 --dashboard-agent-listen-port={PORT + 2} --disable-usage-stats "
        f"--head --node-ip-address=10.0.0.1 --port={PORT} --dashboard-host=127.0.0.1 "
        f"--dashboard-port={PORT + 1} --ray-client-server-port={PORT + 3} --num-cpus=16 "
        '--num-gpus=4 --resources={"accelerator_type:A100": 1} (auth token, threads 1)',
        "n1 ray ended",
    ]
    assert job.logged("n2 ray") == [
        "n2 ray start --block --temp-dir=/tmp/scaling-study-7042 --min-worker-port=0 "
        f"--max-worker-port=0 --dashboard-agent-listen-port={PORT + 2} --disable-usage-stats "
        f"--address=10.0.0.1:{PORT} --num-cpus=16 --num-gpus=4 "
        '--resources={"accelerator_type:A100": 1} (auth token, threads 1)',
        "n2 ray ended",
    ]
    assert job.logged("waiting") == [
        f"waiting for 1 nodes at 10.0.0.1:{PORT}",
        f"waiting for 2 nodes at 10.0.0.1:{PORT}",
    ]
    assert job.logged("scaling-study") == [
        f"scaling-study run /home/ada/studies/quickstart.yaml --store {job.shared}/quickstart "
        f"--address auto (ray 10.0.0.1:{PORT})"
    ]
    assert "ray stop" not in job.log.read_text()


def test_every_step_gets_what_the_job_holds_of_a_node(job):
    job.run()
    steps = job.logged("srun")
    beginning = "srun --overlap --export=ALL --cpus-per-task=16 --gres=gpu:a100:4 --nodes="
    assert all(step.startswith(beginning) for step in steps)
    everywhere = f"{beginning}2 --ntasks=2 --ntasks-per-node=1"
    assert [step.startswith(everywhere) for step in steps] == [True, False, False, True]
    assert steps[-1].endswith("rm -rf -- /tmp/scaling-study-7042")


def test_the_token_is_made_once_for_its_owner_only_and_never_shown(job):
    job.run()
    token = job.token.read_text()
    assert len(token) == 64
    assert int(token, 16) > 0
    assert stat.S_IMODE(job.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(job.token.parent.stat().st_mode) == 0o700
    assert [path.name for path in job.token.parent.iterdir()] == ["auth_token"]
    assert token not in job.log.read_text()
    job.token.chmod(0o644)
    job.run()
    assert job.token.read_text() == token
    assert stat.S_IMODE(job.token.stat().st_mode) == 0o600


@pytest.mark.parametrize("code", [1, 2, 3, 130])
def test_the_exit_code_is_the_studys(job, code):
    assert job.run(STUDY_EXIT=str(code)) == (code, "")
    assert len(job.logged("n1 ray ended") + job.logged("n2 ray ended")) == 2


def test_sigterm_ends_the_study_first_and_then_ray(job):
    process = job.start(STUDY_TENTHS="300")
    job.wait_until("running")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    lines = job.log.read_text().splitlines()
    told = lines.index("study told to end")
    assert told < lines.index("n1 ray ended")
    assert told < lines.index("n2 ray ended")


def test_sigterm_before_the_study_ends_the_job_without_it(job):
    process = job.start(NEVER_READY="2")
    job.wait_until("joined-n2")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert job.logged("scaling-study") == []
    assert len(job.logged("n1 ray ended") + job.logged("n2 ray ended")) == 2


def test_no_worker_is_started_before_the_head_answers(job):
    job.run()
    lines = [" ".join(line.split()[:3]) for line in job.log.read_text().splitlines()]
    worker = lines.index("n2 ray start")
    assert lines.index("n1 ray start") < worker
    assert lines.index("waiting for 1") < worker


def test_nodes_that_do_not_join_in_time_end_the_job(job):
    code, said = job.run(GIVES_UP="2")
    assert code == 3
    assert "1 of 2 nodes" in said
    assert "Ray has not started on all nodes." in said
    assert job.logged("scaling-study") == []


def test_a_node_where_ray_does_not_start_ends_the_job(job):
    code, said = job.run(BROKEN_NODE="n2")
    assert code == 3
    assert "Ray has ended on a node" in said
    assert job.logged("scaling-study") == []
    assert job.logged("n1 ray ended") == ["n1 ray ended"]


def test_a_storage_that_is_not_there_is_named_before_ray_starts(job):
    job.shared.rmdir()
    code, said = job.run()
    assert code == 3
    assert f"{job.shared} cannot be written" in said
    assert "ray start" not in job.log.read_text()


def test_no_probe_is_left_in_the_storage(job):
    job.run()
    assert list(job.shared.iterdir()) == []


def test_an_address_that_others_cannot_reach_is_refused(job):
    code, said = job.run(ADDRESS="127.0.1.1")
    assert code == 3
    assert "127.0.1.1" in said


def test_a_token_of_nothing_is_refused(job):
    job.token.parent.mkdir(parents=True)
    job.token.touch()
    code, said = job.run()
    assert code == 3
    assert f"{job.token} is empty" in said


@pytest.mark.parametrize("line", ["false", "exit 1", "source nowhere"])
def test_an_environment_that_cannot_be_activated_is_a_cluster_that_did_not_start(job, line):
    (job.folder / "activate").write_text(f"{line}\n")
    assert job.run()[0] == 3
    assert not job.log.exists()


def test_an_environment_that_is_not_there_is_a_cluster_that_did_not_start(job):
    (job.folder / "activate").unlink()
    code, said = job.run()
    assert code == 3
    assert "activate: No such file" in said


def test_a_token_that_cannot_be_made_is_a_cluster_that_did_not_start(job):
    (job.folder / "home").touch()
    code, said = job.run()
    assert code == 3
    assert "mkdir" in said
    assert not job.log.exists()


REAL = """\
name: lab
head: {cpus: 1, memory_gib: 4}
storage: {path: /shared/studies}
slurm:
  time_limit: 00:10:00
  seconds_to_start: 400
  activate: [source /opt/studies/bin/activate]
"""
TINY = """\
name: tiny
workload: digits
seeds: 2
grids:
  curve:
    dataset_fraction: 0.5
    model_size: 16
    batch_size: [16, 32]
    learning_rate: 0.1
    momentum: 0.9
    budget: {steps: 20}
"""
ACTIVATE = """\
export PATH={programs}:{environment}:$PATH PYTHONPATH={modules}
"""
COMMAND_LINE = """\
exec {python} -c 'from orchestrator.cli import main; main()' "$@"
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_runs_on_a_real_ray_with_its_token(tmp_path):
    """Only Slurm is fake here: Ray starts with authentication on, and ends with the job."""
    job = Job(tmp_path, REAL)
    programs = tmp_path / "bin"
    for name in ("ray", "python"):
        (programs / name).unlink()  # those of this environment are next on the PATH
    (programs / "scontrol").write_text("#!/bin/bash\necho n1\n")
    (programs / "scaling-study").write_text(
        "#!/bin/bash\n" + COMMAND_LINE.format(python=sys.executable)
    )
    modules = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    (tmp_path / "activate").write_text(
        ACTIVATE.format(programs=programs, environment=Path(sys.executable).parent, modules=modules)
    )
    study = tmp_path / "tiny.yaml"
    study.write_text(TINY)
    script = job.script.read_text().replace(str(STUDY.path), str(study))
    job.script.write_text(script)
    number = str(os.getpid())
    process = job.start(SLURM_JOB_ID=number, ADDRESS="127.0.0.1")
    try:
        out, said = process.communicate(timeout=500)
    finally:
        process.terminate()
    assert process.returncode == 0, said
    assert "Trained 4 cells" in out
    assert (job.shared / STUDY.name / "cells").is_dir()
    assert "http://127.0.0.1:" in out + said
    assert not Path(f"/tmp/scaling-study-{number}").exists()
