"""The border of cluster descriptions: YAML in, plain frozen objects of `cluster` out.

Every error names file, line, value, what is allowed and what to do, as those of study files do.
Whatever enters a shell script or a manifest is checked here: one line of text, and names and paths
of letters that no shell treats specially.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from cluster.credentials import SETTLED_VARIABLES, looks_like_credential
from cluster.description import (
    DEFAULT_TOKEN_FILE,
    Aws,
    AwsNode,
    ClusterDescription,
    Environment,
    Gcp,
    GcpNode,
    Kubernetes,
    KubernetesNode,
    NodeShape,
    OnPremise,
    Provider,
    Slurm,
    Storage,
    StudyFile,
    WorkerGroup,
)
from cluster.errors import DescriptionError
from cluster.renderers import RENDERERS, Backend
from orchestrator.errors import PlanError, RequestError
from orchestrator.study_file.axes import shown
from orchestrator.study_file.study import Study
from orchestrator.study_file.validation import Spec, checked, place
from orchestrator.study_file.yaml_lines import Document, FileKind, KeyPath, read_text

__all__ = ["description_from_text", "render_cluster", "write_rendered"]

KIND = FileKind(
    noun="cluster description",
    contents="name, head, storage…",
    if_too_large="One cluster takes some hundred.",
)

SETTLED_OPTIONS = {
    *("job-name", "partition", "account", "time", "nodes", "ntasks", "ntasks-per-node", "mem"),
    *("cpus-per-task", "gres", "signal", "requeue", "no-requeue", "no-kill", "open-mode"),
}
"""Options of sbatch that the script says itself."""
OLDEST_RAY = (2, 60)
"""What scaling-study is installed with."""


def render_cluster(
    backend: Backend, file: Path, study_file: Path | None, *, confirmed: bool = False
) -> str:
    """Return the text that starts the cluster that `file` describes on `backend`.

    `study_file`: the study to run there; it is checked. `confirmed`: more than 100,000 grid points
    are intended. Raises `StudyFileError` about either file, also where no node could hold the
    study, and `PlanError` for one that is larger than was confirmed.
    """
    document = Document.from_text(read_text(file, KIND), str(file), KIND)
    description = _description(document)
    study = None if study_file is None else _study(study_file, confirmed)
    try:
        return RENDERERS[backend](description, study)
    except DescriptionError as error:
        raise document.error(error.path, str(error)) from error


def _study(file: Path, confirmed: bool) -> StudyFile:
    # Only with a study, which brings torch anyway.
    from orchestrator.planning import CONFIRMED_POINTS
    from orchestrator.study_file.needs import resource_needs

    study = Study.from_file(file)
    points = study.points()
    if points > CONFIRMED_POINTS and not confirmed:
        raise PlanError(
            f"{study.source}: the grids have {points:,} points; more than {CONFIRMED_POINTS:,} "
            "need --yes, and the cluster would start in vain. Pass --yes, which the rendered "
            "command then has too, or take values off an axis."
        )
    return StudyFile(
        name=study.name,
        path=PurePosixPath(file.resolve()),
        text=study.text,
        needs=resource_needs(study),
        confirmed=confirmed,
    )


def write_rendered(text: str, file: Path) -> None:
    """Write what was rendered. Raises `RequestError` where it cannot be written."""
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise RequestError(
            f"{file} cannot be written: {error.strerror}. Choose another --out."
        ) from error


def description_from_text(text: str, source: str = "<cluster>") -> ClusterDescription:
    """Return the cluster that YAML text describes. Raises `StudyFileError` on its first fault."""
    return _description(Document.from_text(text, source, KIND))


def _matching(pattern: str) -> AfterValidator:
    """Return the check that the whole of a text matches."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(value)
        return value

    return AfterValidator(check)


def _each(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda values: [check(value) for value in values])


def _one_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(value)
    return value


NAME_PATTERN = r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?"
NAME_ALLOWED = "1 to 30 lower-case letters, digits and '-', the first a letter, the last no '-'"
PATH_PATTERN = r"(/[A-Za-z0-9_.+-]+)+/?"
LABEL_PATTERN = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
LABEL_ALLOWED = "a Kubernetes name: lower-case letters, digits, '-' and '.'"

Line = Annotated[str, AfterValidator(_one_line)]
Lines = Annotated[list[str], _each(_one_line)]
Name = Annotated[str, _matching(NAME_PATTERN)]
Word = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")]
FilePath = Annotated[str, _matching(rf"~?{PATH_PATTERN}")]
Label = Annotated[str, _matching(LABEL_PATTERN)]


class _ClusterSpec(Spec):
    name: Name = Field(description=NAME_ALLOWED)
    head: Any = Field(description="{cpus: …, gpus: …, memory_gib: …}")
    workers: dict[str, Any] = Field(
        default_factory=dict, description="a mapping from names to groups of workers"
    )
    storage: Any = Field(description="{uri: s3://…} or {path: /…}")
    environment: Any = Field(default_factory=dict)
    token_file: FilePath = Field(
        default=DEFAULT_TOKEN_FILE, description="a path that begins with ~/ or / (no spaces)"
    )
    aws: Any = None
    gcp: Any = None
    local: Any = None
    kubernetes: Any = None
    slurm: Any = None


class _ShapeSpec(Spec):
    cpus: int = Field(ge=1, le=4096, description="a number of CPUs in [1, 4096]")
    gpus: int = Field(default=0, ge=0, le=64, description="a number of GPUs in [0, 64]")
    memory_gib: int = Field(ge=1, le=65536, description="whole GiB of memory in [1, 65536]")
    accelerator_type: Annotated[str, _matching(r"[A-Za-z0-9_-]+")] | None = Field(
        default=None, description="Ray's name of the GPU's model, as A100 or T4"
    )
    resources: dict[Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_.-]*")], int] = Field(
        default_factory=dict,
        description="a mapping from names of custom resources to whole numbers",
    )


class _GroupSpec(_ShapeSpec):
    min: int = Field(ge=0, le=10_000, description="a number of nodes in [0, 10000]")
    max: int = Field(ge=1, le=10_000, description="a number of nodes in [1, 10000]")


class _StorageSpec(Spec):
    uri: Annotated[
        str, _matching(r"(s3|gs)://[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.+=-]+)*/?")
    ] | (
        None
    ) = Field(default=None, description="s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, no credentials")
    path: Annotated[str, _matching(PATH_PATTERN)] | None = Field(
        default=None, description="an absolute path below / (no spaces)"
    )
    mount: Lines = Field(default_factory=list, description="a list of shell commands, a line each")


class _EnvironmentSpec(Spec):
    image: Word | None = Field(default=None, description="the name of a container image")
    variables: dict[Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*")], Line] = Field(
        default_factory=dict,
        description="a mapping from names of variables to text of one line (quote numbers)",
    )


class _LauncherSpec(Spec):
    ssh_user: Word = Field(default="ubuntu", description="a user's name")
    setup: Lines = Field(default_factory=list, description="a list of shell commands, a line each")


class _CloudSpec(_LauncherSpec):
    region: Word = Field(description="the name of a region, as us-east-1")
    private_addresses: bool = Field(default=False, description="true or false")
    nodes: dict[str, Any] = Field(description="a mapping from 'head' and every group to a machine")


class _AwsSpec(_CloudSpec):
    zones: Annotated[list[str], _each(_one_line)] = Field(
        default_factory=list, description="a list of availability zones"
    )
    ssh_private_key: FilePath | None = Field(default=None, description="the path of a key file")
    key_name: Word | None = Field(default=None, description="the name of the key pair on AWS")
    security_groups: Lines = Field(default_factory=list, description="a list of ids, as sg-…")
    subnets: Lines = Field(default_factory=list, description="a list of ids, as subnet-…")


class _MachineSpec(Spec):
    disk_gib: int = Field(default=200, ge=10, le=65536, description="whole GiB in [10, 65536]")
    spot: bool = Field(default=False, description="true or false")


class _AwsNodeSpec(_MachineSpec):
    instance_type: Word = Field(description="an instance type, as g5.12xlarge")
    image_id: Word | None = Field(default=None, description="the id of a machine image, as ami-…")
    instance_profile: Word | None = Field(
        default=None, description="the name of an IAM instance profile"
    )


class _GcpSpec(_CloudSpec):
    project: Word = Field(description="a project id")
    zone: Word = Field(description="the name of a zone, as us-central1-a")


class _GcpNodeSpec(_MachineSpec):
    machine_type: Word = Field(description="a machine type, as n1-standard-16")
    source_image: Word = Field(description="a disk image, as projects/…/images/family/…")
    accelerator: Word | None = Field(
        default=None, description="Compute Engine's name of a GPU, as nvidia-tesla-t4"
    )
    service_account: Word | None = Field(
        default=None, description="the e-mail address of a service account"
    )


class _LocalSpec(_LauncherSpec):
    head: Word = Field(description="a host name or an address")
    workers: Annotated[list[str], _each(_one_line)] = Field(
        default_factory=list, description="a list of host names or addresses"
    )
    ssh_user: Word = Field(description="a user's name")
    ssh_private_key: FilePath | None = Field(default=None, description="the path of a key file")


class _KubernetesSpec(Spec):
    namespace: Label = Field(description=LABEL_ALLOWED)
    token_secret: Label = Field(description=f"the name of a Secret: {LABEL_ALLOWED}")
    ray_version: Annotated[str, _matching(r"[0-9]+\.[0-9]+\.[0-9]+")] = Field(
        description="the image's version of Ray as text, as 2.60.0"
    )
    storage_claim: Label | None = Field(default=None, description=LABEL_ALLOWED)
    service_account: Label | None = Field(default=None, description=LABEL_ALLOWED)
    image_pull_secrets: list[Label] = Field(
        default_factory=list, description="a list of names of Secrets"
    )
    environment_secrets: list[Label] = Field(
        default_factory=list, description="a list of names of Secrets"
    )
    retries: int = Field(default=2, ge=0, le=100, description="a whole number in [0, 100]")
    seconds_kept: int = Field(
        default=300, ge=0, le=604_800, description="a number of seconds in [0, 604800]"
    )
    nodes: dict[str, Any] = Field(
        default_factory=dict, description="a mapping from 'head' and groups to where pods may go"
    )


class _KubernetesNodeSpec(Spec):
    node_selector: dict[str, Line] = Field(
        default_factory=dict, description="a mapping from labels to text"
    )
    tolerations: list[dict[Annotated[str, _matching("key|operator|value|effect")], Line]] = Field(
        default_factory=list,
        description="a list of mappings with keys key, operator, value and effect, all of text",
    )


class _SlurmSpec(Spec):
    time_limit: Annotated[str, _matching(r"([0-9]{1,3}-)?[0-9]{1,3}:[0-9]{2}:[0-9]{2}")] = Field(
        description="HH:MM:SS or D-HH:MM:SS"
    )
    partition: Word | None = Field(default=None, description="the name of a partition")
    account: Word | None = Field(default=None, description="the name of an account")
    gpu_gres: Annotated[str, _matching(r"gpu(:[A-Za-z0-9_.-]+)?")] = Field(
        default="gpu", description="gpu or gpu:TYPE, as gpu:a100"
    )
    options: Annotated[list[Annotated[str, _matching(r"--[a-z][a-z0-9-]*(=\S+)?")]], Field()] = (
        Field(default_factory=list, description="a list of options of sbatch, as --qos=long")
    )
    activate: Lines = Field(
        default_factory=list, description="a list of shell commands, a line each"
    )
    seconds_to_start: int = Field(
        default=300, ge=10, le=86_400, description="a number of seconds in [10, 86400]"
    )


SpecType = TypeVar("SpecType", bound=Spec)


def _fields(spec: Spec, *left_out: str) -> dict[str, Any]:
    """Return what a spec holds, lists as tuples, for the frozen object of the same fields."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in spec
        if name not in left_out
    }


def _description(document: Document) -> ClusterDescription:
    spec = checked(_ClusterSpec, document.value, document, ())
    head = _head(document)
    workers = tuple(_group(document, name) for name in spec.workers)
    shapes = {"head": head, **{group.name: group.shape for group in workers}}
    return ClusterDescription(
        name=spec.name,
        head=head,
        workers=workers,
        storage=_storage(document),
        environment=_environment(document),
        token_file=spec.token_file,
        provider=_provider(document, shapes),
        kubernetes=_kubernetes(document, shapes),
        slurm=_slurm(document),
    )


def _head(document: Document) -> NodeShape:
    spec = checked(_ShapeSpec, document.value["head"], document, ("head",))
    return _shape(document, ("head",), spec)


def _group(document: Document, name: str) -> WorkerGroup:
    path = ("workers", name)
    if re.fullmatch(NAME_PATTERN, name, re.ASCII) is None or name == "head":
        raise document.error(
            path,
            f"workers: the name {name[:60]!r} is not usable; allowed: {NAME_ALLOWED}; and not "
            "'head'. Rename the group.",
        )
    spec = checked(_GroupSpec, document.value["workers"][name], document, path)
    if spec.min > spec.max:
        raise document.error(
            (*path, "min"),
            f"{place(path)}min is {spec.min}, above max; allowed: at most {spec.max}. Lower min or "
            "raise max.",
        )
    return WorkerGroup(
        name=name, shape=_shape(document, path, spec), min_nodes=spec.min, max_nodes=spec.max
    )


def _shape(document: Document, path: KeyPath, spec: _ShapeSpec) -> NodeShape:
    if spec.accelerator_type is not None and not spec.gpus:
        raise document.error(
            (*path, "accelerator_type"),
            f"{place(path)}accelerator_type is {spec.accelerator_type!r}, but gpus is 0; allowed: "
            "only where there are GPUs. Set gpus, or remove it.",
        )
    for name, count in spec.resources.items():
        if name in {"CPU", "GPU", "memory", "object_store_memory"} or count < 1:
            raise document.error(
                (*path, "resources", name),
                f"{place(path)}the resource {name} is {count}; allowed: custom resources, at least "
                "1 of each. What every node has is said by cpus, gpus and memory_gib.",
            )
    return NodeShape(**_fields(spec, "min", "max"))


def _storage(document: Document) -> Storage:
    path = ("storage",)
    spec = checked(_StorageSpec, document.value["storage"], document, path)
    if (spec.uri is None) == (spec.path is None):
        raise document.error(
            path,
            f"storage has {'neither uri nor' if spec.uri is None else 'both uri and'} path; "
            "allowed: one of the two. Every node must reach it.",
        )
    if spec.mount and spec.path is None:
        raise document.error(
            (*path, "mount"),
            "storage: mount is stated, but the storage is a URI, which is not mounted; allowed: "
            "only with path. Remove it.",
        )
    return Storage(**_fields(spec))


def _environment(document: Document) -> Environment:
    path = ("environment",)
    spec = checked(_EnvironmentSpec, document.value.get("environment", {}), document, path)
    for name in spec.variables:
        if looks_like_credential(name):
            raise document.error(
                (*path, "variables", name),
                f"environment: the variable {name} looks like a credential, and rendered files are "
                "kept and shown; allowed: other variables. Give nodes a role or a service account, "
                "or name a Secret in kubernetes.environment_secrets.",
            )
        if name in SETTLED_VARIABLES:
            raise document.error(
                (*path, "variables", name),
                f"environment: the variable {name} is set by the rendered file; allowed: others "
                f"than {', '.join(sorted(SETTLED_VARIABLES))}. Remove it.",
            )
    return Environment(**_fields(spec))


def _provider(document: Document, shapes: Mapping[str, NodeShape]) -> Provider | None:
    stated = [key for key in ("aws", "gcp", "local") if key in document.value]
    if len(stated) > 1:
        raise document.error(
            (stated[1],),
            f"both {stated[0]} and {stated[1]} are stated; allowed: one of aws, gcp and local, "
            "since a cluster is in one place. Remove the others.",
        )
    match stated:
        case ["aws"]:
            return _aws(document, shapes)
        case ["gcp"]:
            return _gcp(document, shapes)
        case ["local"]:
            return _local(document)
    return None


def _aws(document: Document, shapes: Mapping[str, NodeShape]) -> Aws:
    spec = checked(_AwsSpec, document.value["aws"], document, ("aws",))
    if (spec.ssh_private_key is None) != (spec.key_name is None):
        raise document.error(
            ("aws",),
            "aws: of ssh_private_key and key_name, one is stated and one is not; allowed: both, or "
            "neither, in which case Ray makes a key pair. Add the other.",
        )
    nodes = {
        name: AwsNode(**_fields(node))
        for name, node in _nodes(document, "aws", _AwsNodeSpec, shapes).items()
    }
    return Aws(**_fields(spec, "nodes"), nodes=nodes)


def _gcp(document: Document, shapes: Mapping[str, NodeShape]) -> Gcp:
    spec = checked(_GcpSpec, document.value["gcp"], document, ("gcp",))
    specs = _nodes(document, "gcp", _GcpNodeSpec, shapes)
    for name, node in specs.items():
        if node.accelerator is not None and not shapes[name].gpus:
            raise document.error(
                ("gcp", "nodes", name, "accelerator"),
                f"gcp.nodes.{name}: accelerator is {node.accelerator!r}, but the node has 0 gpus; "
                "allowed: only where there are GPUs. Set gpus, or remove it.",
            )
    nodes = {name: GcpNode(**_fields(node)) for name, node in specs.items()}
    return Gcp(**_fields(spec, "nodes"), nodes=nodes)


def _local(document: Document) -> OnPremise:
    return OnPremise(**_fields(checked(_LocalSpec, document.value["local"], document, ("local",))))


def _kubernetes(document: Document, shapes: Mapping[str, NodeShape]) -> Kubernetes | None:
    if "kubernetes" not in document.value:
        return None
    path = ("kubernetes",)
    spec = checked(_KubernetesSpec, document.value["kubernetes"], document, path)
    if tuple(map(int, spec.ray_version.split(".")))[:2] < OLDEST_RAY:
        raise document.error(
            (*path, "ray_version"),
            f"kubernetes: ray_version is {spec.ray_version}; allowed: "
            f"{'.'.join(map(str, OLDEST_RAY))} or newer, as scaling-study needs. Use a newer "
            "image.",
        )
    nodes = {
        name: KubernetesNode(**_fields(node))
        for name, node in _nodes(
            document, "kubernetes", _KubernetesNodeSpec, shapes, complete=False
        ).items()
    }
    return Kubernetes(**_fields(spec, "nodes"), nodes=nodes)


def _slurm(document: Document) -> Slurm | None:
    if "slurm" not in document.value:
        return None
    spec = checked(_SlurmSpec, document.value["slurm"], document, ("slurm",))
    for position, option in enumerate(spec.options):
        if option.removeprefix("--").split("=")[0] in SETTLED_OPTIONS:
            raise document.error(
                ("slurm", "options", position),
                f"slurm: the option {option} is set by the script; allowed: others than "
                f"{', '.join(sorted(SETTLED_OPTIONS))}. Say it by the description's own keys.",
            )
    return Slurm(**_fields(spec))


def _nodes(
    document: Document,
    section: str,
    model: type[SpecType],
    shapes: Mapping[str, NodeShape],
    *,
    complete: bool = True,
) -> dict[str, SpecType]:
    """Return what `section` says of each kind of node: of all kinds, if it must be complete."""
    path = (section, "nodes")
    stated = document.value[section].get("nodes", {})
    for name in stated:
        if name not in shapes:
            raise document.error(
                (*path, name),
                f"{place(path)}{name[:60]!r} is {shown(stated[name])}, but no such nodes are "
                f"described; allowed: {', '.join(shapes)}. Rename or remove it.",
            )
    for name in shapes:
        if complete and name not in stated:
            raise document.error(
                path, f"{place(path)}{name} is missing; add {name}: with the kind of machine."
            )
    return {name: checked(model, stated[name], document, (*path, name)) for name in stated}
