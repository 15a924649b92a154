"""One description of a cluster, from which every backend's file is rendered.

What all backends share stands at the top: the head, the groups of workers, the storage, the
environment. What only one of them knows (regions, partitions, namespaces) has a section of its
own, and a backend whose section is missing is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cluster.capacity import Requirement, accelerator_resource

__all__ = [
    "Aws",
    "AwsNode",
    "ClusterDescription",
    "Environment",
    "Gcp",
    "GcpNode",
    "Kubernetes",
    "KubernetesNode",
    "NodeShape",
    "OnPremise",
    "Provider",
    "Slurm",
    "Storage",
    "StudyFile",
    "WorkerGroup",
]

DEFAULT_TOKEN_FILE = "~/.ray/auth_token"
"""Where Ray itself looks for its token, and where `ray get-auth-token --generate` writes it."""


@dataclass(frozen=True, kw_only=True)
class NodeShape:
    """What one node has, as Ray is told: never left to be detected."""

    cpus: int
    """CPUs that Ray may schedule."""
    gpus: int
    """GPUs that Ray may schedule."""
    memory_gib: int
    """Memory of the node that the job or the pod asks for, in GiB."""
    accelerator_type: str | None = None
    """Ray's name of the GPU's model, as 'A100'; None: not stated."""
    resources: Mapping[str, int] = field(default_factory=dict)
    """Custom resources by name."""

    def named_resources(self) -> dict[str, int]:
        """Return the resources beside CPU and GPU, the accelerator's type among them."""
        if self.accelerator_type is None:
            return dict(self.resources)
        return {accelerator_resource(self.accelerator_type): 1, **self.resources}


@dataclass(frozen=True, kw_only=True)
class WorkerGroup:
    """Nodes that are alike."""

    name: str
    """Unique among the groups."""
    shape: NodeShape
    """What each of them has."""
    min_nodes: int
    """How many there always are."""
    max_nodes: int
    """How many there may be, where the backend adds and removes nodes by need."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where stores are: one place that every node reaches."""

    uri: str | None = None
    """A prefix of an object store (s3://…, gs://…); None where `path` is given."""
    path: str | None = None
    """An absolute path at which every node mounts the same file system; None with `uri`."""
    mount: tuple[str, ...] = ()
    """Shell commands by which a fresh node of the cluster launcher mounts `path`."""

    @property
    def root(self) -> str:
        """What the stores' names are appended to."""
        root = self.uri or self.path
        assert root is not None
        return root

    def store(self, study_name: str) -> str:
        """Return the location of a study's store."""
        return f"{self.root.rstrip('/')}/{study_name}"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What programs find on every node."""

    image: str | None = None
    """Container image with Ray and scaling-study; None: the nodes have them themselves."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables; no credentials, since rendered files are kept and shown."""


@dataclass(frozen=True, kw_only=True)
class AwsNode:
    """How nodes of one kind are bought on AWS."""

    instance_type: str
    """As 'g5.12xlarge'."""
    image_id: str | None = None
    """Machine image (AMI); None: Ray's choice for the region."""
    disk_gib: int = 200
    """Size of the root disk; a CUDA build of torch in an image takes some tens of GiB."""
    spot: bool = False
    """Whether the node may be taken away, at a lower price."""
    instance_profile: str | None = None
    """IAM instance profile by which the node reaches the storage; None: Ray's own on the head."""


@dataclass(frozen=True, kw_only=True)
class Aws:
    """The cluster launcher on AWS."""

    region: str
    """As 'us-east-1'."""
    zones: tuple[str, ...] = ()
    """Availability zones to try in turn; empty: any of the region."""
    ssh_user: str = "ubuntu"
    """Who logs in on the machine image."""
    ssh_private_key: str | None = None
    """File on the launching machine; None: Ray makes a key pair."""
    key_name: str | None = None
    """AWS' name of the key pair of `ssh_private_key`; both are given, or neither."""
    security_groups: tuple[str, ...] = ()
    """Ids of groups; empty: Ray makes one that opens SSH alone, to everywhere."""
    subnets: tuple[str, ...] = ()
    """Ids of subnets; empty: Ray's choice."""
    private_addresses: bool = False
    """Whether nodes have no public address, and are launched from inside the network."""
    setup: tuple[str, ...] = ()
    """Shell commands that a fresh node runs, such as the one that installs scaling-study."""
    nodes: Mapping[str, AwsNode]
    """Of 'head' and of every worker group."""


@dataclass(frozen=True, kw_only=True)
class GcpNode:
    """How nodes of one kind are bought on Google Cloud."""

    machine_type: str
    """As 'n1-standard-16'."""
    source_image: str
    """Disk image, as 'projects/…/global/images/family/…'."""
    accelerator: str | None = None
    """Compute Engine's name of the GPU, as 'nvidia-tesla-t4'; None if the machine has it."""
    disk_gib: int = 200
    """Size of the boot disk."""
    spot: bool = False
    """Whether the node may be taken away, at a lower price."""
    service_account: str | None = None
    """E-mail of the account by which the node reaches the storage; None: Ray's own on the head."""


@dataclass(frozen=True, kw_only=True)
class Gcp:
    """The cluster launcher on Google Cloud."""

    project: str
    """Project id."""
    region: str
    """As 'us-central1'."""
    zone: str
    """As 'us-central1-a'."""
    ssh_user: str = "ubuntu"
    """Who logs in."""
    private_addresses: bool = False
    """Whether nodes have no public address, and are launched from inside the network."""
    setup: tuple[str, ...] = ()
    """Shell commands that a fresh node runs."""
    nodes: Mapping[str, GcpNode]
    """Of 'head' and of every worker group."""


@dataclass(frozen=True, kw_only=True)
class OnPremise:
    """The cluster launcher on machines that run already, and are the cluster's alone."""

    head: str
    """Host name or address of the head."""
    workers: tuple[str, ...]
    """Host names or addresses of the workers."""
    ssh_user: str
    """Who logs in."""
    ssh_private_key: str | None = None
    """File on the launching machine; None: SSH's own choice."""
    setup: tuple[str, ...] = ()
    """Shell commands that each machine runs."""


Provider = Aws | Gcp | OnPremise
"""Where the cluster launcher launches."""


@dataclass(frozen=True, kw_only=True)
class KubernetesNode:
    """Where pods of one kind may be placed."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that the Kubernetes node must have."""
    tolerations: tuple[Mapping[str, str], ...] = ()
    """Taints that the pods tolerate, in Kubernetes' own words."""


@dataclass(frozen=True, kw_only=True)
class Kubernetes:
    """KubeRay."""

    namespace: str
    """Of everything that is made."""
    token_secret: str
    """Secret with Ray's token under the key 'auth_token'."""
    ray_version: str
    """Of the image, as '2.60.0'."""
    storage_claim: str | None = None
    """Claim of a volume that many nodes may write, mounted at the storage's path."""
    service_account: str | None = None
    """Of all pods, by which they reach the storage; None: the namespace's default."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets for a private registry."""
    environment_secrets: tuple[str, ...] = ()
    """Secrets whose keys become environment variables, such as an object store's credentials."""
    retries: int = 2
    """New clusters that are tried after one failed; each goes on from the store."""
    seconds_kept: int = 300
    """How long the cluster stays after the study, for a look at its logs."""
    nodes: Mapping[str, KubernetesNode] = field(default_factory=dict)
    """Of 'head' and of worker groups; one that is not named goes anywhere."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """One batch job, on nodes that are alike."""

    time_limit: str
    """As '08:00:00' or '2-00:00:00'."""
    partition: str | None = None
    """None: the default one."""
    account: str | None = None
    """None: the default one."""
    gpu_gres: str = "gpu"
    """Slurm's name of the GPUs, as 'gpu:a100'."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, as '--qos=long'."""
    activate: tuple[str, ...] = ()
    """Shell commands that make `ray` and `scaling-study` known, run once on the first node."""
    seconds_to_start: int = 300
    """How long Ray may take until all nodes are there."""


@dataclass(frozen=True, kw_only=True)
class ClusterDescription:
    """What one cluster description says."""

    name: str
    """Of the cluster: lower-case letters, digits and '-'."""
    head: NodeShape
    """The node that holds Ray's own services and the driver; trials take its CPUs and GPUs too."""
    workers: tuple[WorkerGroup, ...] = ()
    """Groups in the file's order; none: the head trains alone."""
    storage: Storage
    """Where stores are."""
    environment: Environment = Environment()
    """What programs find on every node."""
    token_file: str = DEFAULT_TOKEN_FILE
    """Ray's token: on the launching machine, or in a home folder that all Slurm nodes share."""
    provider: Provider | None = None
    """Where the cluster launcher launches; None: it cannot be rendered."""
    kubernetes: Kubernetes | None = None
    """None: KubeRay cannot be rendered."""
    slurm: Slurm | None = None
    """None: Slurm cannot be rendered."""

    def most_nodes(self) -> list[NodeShape]:
        """Return the head and as many nodes of every group as there may be."""
        return [self.head, *(each.shape for each in self.workers for _ in range(each.max_nodes))]


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """The study that the cluster is to run."""

    name: str
    """Its name, which is its store's."""
    path: PurePosixPath
    """Absolute, on the machine where the file is rendered."""
    text: str
    """What it says."""
    needs: tuple[Requirement, ...] = ()
    """What its trials hold, as far as that is certain."""
    confirmed: bool = False
    """Whether its size is intended, however many grid points there are."""
