"""Cluster descriptions at the border: what is read, what is refused and how, and the command."""

import re
from pathlib import Path, PurePosixPath

import pytest
import yaml
from typer.testing import CliRunner, Result

from cluster.description import NodeShape, Storage, StudyFile, WorkerGroup
from cluster.renderers import RENDERERS, Backend
from orchestrator.cli import app
from orchestrator.cluster_file import description_from_text
from orchestrator.errors import StudyFileError
from tests.cluster.descriptions import AWS, GCP, KUBERNETES, LOCAL, SHARED, SLURM, TOP
from tests.orchestrator.test_planning import STUDY

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster.yaml"
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "run-on-a-cluster.md"
ALONE = "name: lab\nhead: {cpus: 8, memory_gib: 32}\nstorage: {path: /shared}\n"


def test_what_every_backend_shares_is_read():
    described = description_from_text(AWS)
    assert described.head == NodeShape(cpus=8, gpus=0, memory_gib=32)
    assert described.workers == (
        WorkerGroup(
            name="gpus",
            shape=NodeShape(
                cpus=16,
                gpus=4,
                memory_gib=128,
                accelerator_type="A100",
                resources={"fast_disk": 2},
            ),
            min_nodes=0,
            max_nodes=4,
        ),
        WorkerGroup(
            name="small",
            shape=NodeShape(cpus=4, gpus=0, memory_gib=16),
            min_nodes=1,
            max_nodes=2,
        ),
    )
    assert described.storage == Storage(uri="s3://bucket/studies")
    assert described.storage.store("quickstart") == "s3://bucket/studies/quickstart"
    assert described.token_file == "~/.ray/auth_token"
    assert described.kubernetes is None


def test_a_head_alone_is_a_cluster():
    described = description_from_text(ALONE)
    assert described.workers == ()
    assert described.provider is None


MALFORMED = [
    ("empty", "", ":1: the file is empty; write a cluster description: name"),
    ("text", "lab", ":1: 'lab' (text); allowed: a mapping with keys name, head"),
    ("no head", "name: lab\nstorage: {path: /shared}\n", "head is missing; add head: {cpus"),
    ("unknown key", ALONE + "worker: {}\n", ":4: unknown key 'worker'. Did you mean 'workers'?"),
    ("duplicate key", ALONE + "name: lab2\n", ":4: key 'name' is a duplicate of line 1"),
    ("name", ALONE.replace("lab", "Lab_1"), ":1: name is 'Lab_1' (text); allowed: 1 to 30 lower"),
    ("no CPU", ALONE.replace("cpus: 8", "cpus: 0"), ":2: head: cpus is 0 (an integer); allowed"),
    ("no memory", ALONE.replace(", memory_gib: 32", ""), ":2: head: memory_gib is missing"),
    ("half a GPU", ALONE.replace("cpus: 8", "cpus: 8, gpus: 0.5"), "gpus is 0.5 (a number)"),
    ("true CPUs", ALONE.replace("cpus: 8", "cpus: true"), "cpus is True (true or false)"),
    ("type of no GPU", ALONE.replace("cpus: 8", "cpus: 8, accelerator_type: T4"), "gpus is 0"),
    ("CPU twice", ALONE.replace("cpus: 8", "cpus: 8, resources: {CPU: 9}"), "the resource CPU is"),
    ("no workers", TOP + "storage: {path: /shared}\nworkers:\n", ":6: key 'workers' is a dup"),
    ("min above max", (TOP + SHARED).replace("min: 2", "min: 3"), ":4: workers.gpus: min is 3"),
    ("group called head", (TOP + SHARED).replace("gpus: {", "head: {"), ":4: workers: the name"),
    ("no storage", ALONE.replace("{path: /shared}", "{}"), ":3: storage has neither uri nor path"),
    ("two", ALONE.replace("/shared", "/shared, uri: 's3://a/b'"), ":3: storage has both uri and"),
    ("relative path", ALONE.replace("/shared", "shared"), ":3: storage: path is 'shared' (text)"),
    ("a path for a shell", ALONE.replace("/shared", "'/a; rm -rf ~'"), "storage: path is '/a; rm"),
    ("mounted URI", ALONE.replace("path: /shared", "uri: 's3://a/b', mount: [m]"), "not mounted"),
    (
        "credentials in the URI",
        ALONE.replace("path: /shared", "uri: 's3://key:secret@a/b'"),
        "no credentials",
    ),
    (
        "a credential",
        ALONE + "environment: {variables: {AWS_SECRET_ACCESS_KEY: x}}\n",
        ":4: environment: the variable AWS_SECRET_ACCESS_KEY looks like a credential",
    ),
    (
        "authentication off",
        ALONE + "environment: {variables: {RAY_AUTH_MODE: disabled}}\n",
        ":4: environment: the variable RAY_AUTH_MODE is set by the rendered file",
    ),
    (
        "a number as a variable",
        ALONE + "environment: {variables: {LEVEL: 3}}\n",
        ":4: environment: variables is {'LEVEL': 3} (a mapping); allowed",
    ),
    (
        "two lines in a variable",
        ALONE + 'environment: {variables: {LEVEL: "a\\nb"}}\n',
        "text of one line",
    ),
    ("two providers", AWS + GCP[GCP.index("gcp:") :], "both aws and gcp are stated"),
    (
        "a machine too few",
        AWS.replace("    small: {inst", "    smell: {inst"),
        "aws.nodes: 'smell'",
    ),
    ("no machine", AWS[: AWS.index("    small: {inst")], "aws.nodes: small is missing"),
    ("no instance type", GCP.replace("machine_type: n1-standard-8, ", ""), "machine_type is miss"),
    ("half a key", AWS.replace("  key_name: lab\n", ""), "of ssh_private_key and key_name"),
    ("no user", LOCAL.replace("  ssh_user: ada\n", ""), "local: ssh_user is missing"),
    ("old Ray", KUBERNETES.replace("2.60.0", "2.9.3"), "ray_version is 2.9.3; allowed: 2.60 or"),
    ("a section of nothing", ALONE + "kubernetes:\n", ":4: kubernetes: empty; allowed: a mapping"),
    ("minutes", SLURM.replace("08:00:00", "480"), "time_limit is 480 (an integer); allowed: HH:MM"),
    ("an option of ours", SLURM.replace("--qos=long", "--nodes=9"), "the option --nodes=9 is set"),
    ("no option", SLURM.replace("--qos=long", "qos"), "slurm: options is ['qos'] (a list)"),
]


@pytest.mark.parametrize(
    ("text", "fragment"), [pytest.param(*rest, id=name) for name, *rest in MALFORMED]
)
def test_a_malformed_description_is_refused_with_line_value_and_what_is_allowed(text, fragment):
    with pytest.raises(StudyFileError) as caught:
        description_from_text(text, "cluster.yaml")
    assert str(caught.value).startswith("cluster.yaml:")
    assert fragment in str(caught.value)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["cluster", "render", *arguments])
    unexpected = result.exception
    if unexpected is not None and not isinstance(unexpected, SystemExit):
        raise unexpected
    return result


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def test_every_backend_has_a_renderer_and_is_named_by_the_help():
    assert set(RENDERERS) == set(Backend)
    assert all(backend in run("--help").stdout for backend in Backend)


@pytest.mark.parametrize("backend", Backend)
def test_the_example_serves_every_backend(folder, backend):
    result = run(backend, str(EXAMPLE), "--study", "study.yaml")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == RENDERERS[backend](
        description_from_text(EXAMPLE.read_text()),
        _study_file(folder / "study.yaml"),
    )
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]


def _study_file(path: Path):
    return StudyFile(name="small", path=PurePosixPath(path), text=STUDY)


def test_what_the_how_to_shows_can_be_read():
    shared, *sections = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text(), flags=re.DOTALL)
    assert [section.split(":")[0] for section in sections] == [
        *("aws", "gcp", "local", "kubernetes", "slurm")
    ]
    for section in sections:
        description_from_text(shared + section)


def test_what_is_rendered_goes_to_a_file(folder):
    result = run("kuberay", str(EXAMPLE), "--out", "cluster.yaml")
    assert (result.exit_code, result.stdout) == (0, "Wrote cluster.yaml\n")
    assert yaml.safe_load((folder / "cluster.yaml").read_text())["kind"] == "RayCluster"


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("slurm", str(EXAMPLE)), "Add --study"),
        (("ray", "alone.yaml"), "alone.yaml:1: the cluster launcher has nowhere to launch"),
        (("kuberay", "alone.yaml"), "alone.yaml:1: there is no section kubernetes"),
        (("slurm", "alone.yaml"), "alone.yaml:1: there is no section slurm"),
        (("slurm", "absent.yaml"), "absent.yaml: the cluster description file cannot be read"),
        (("ray", str(EXAMPLE), "--study", "absent.yaml"), "absent.yaml: the study file cannot"),
        (("ray", str(EXAMPLE), "--study", "bad.yaml"), "bad.yaml:3: Unknown workload 'digit'"),
        (("ray", str(EXAMPLE), "--out", "nowhere/file"), "nowhere/file cannot be written"),
        (("ray", str(EXAMPLE), "--out", "."), ". cannot be written"),
        (("nomad", str(EXAMPLE)), "'nomad'; allowed: ray, kuberay, slurm."),
    ],
)
def test_what_cannot_be_rendered_exits_2_and_leaves_nothing(folder, arguments, fragment):
    (folder / "alone.yaml").write_text(ALONE)
    (folder / "bad.yaml").write_text(STUDY.replace("workload: digits", "workload: digit"))
    before = sorted(folder.iterdir())
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert fragment in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(folder.iterdir()) == before


def test_no_token_enters_a_rendered_file(folder, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-token-of-mine")
    home = folder / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("a-token-of-mine")
    monkeypatch.setenv("HOME", str(home))
    for backend in Backend:
        result = run(backend, str(EXAMPLE), "--study", "study.yaml")
        assert "a-token-of-mine" not in result.output
