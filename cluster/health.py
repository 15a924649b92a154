"""Whether the nodes of a cluster are fit for a study: what each says of itself, and its faults."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CLOCK_SECONDS", "ClusterReport", "NodeReport", "faults", "version_faults"]

CLOCK_SECONDS = 5.0
"""Difference between a node's clock and the driver's that is a fault: rows carry the time at which
they were begun, of which the earliest counts, and an object store's leases last a minute."""


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What a node says of itself."""

    name: str
    """Address."""
    versions: Mapping[str, str]
    """Of python and of the packages that results depend on; "missing" where there is none."""
    gpus: float
    """That the cluster schedules on it."""
    gpus_usable: int
    """That torch sees there."""
    gpu_names: tuple[str, ...] = ()
    """Models of those."""
    clock_ahead: float
    """Seconds by which its clock is ahead of the driver's, beyond what the way there explains."""
    reads: str
    """Why it cannot read what the driver wrote to the store; empty if it can."""
    writes: str
    """Why what it wrote to the store did not arrive; empty if it did."""
    token_mode: str
    """Ray's authentication in its environment."""
    silent: str = ""
    """Why it did not answer, so that nothing else is known of it; empty if it did."""

    @classmethod
    def of_silent(cls, name: str, gpus: float, why: str) -> "NodeReport":
        """Return the report of a node that did not answer."""
        return cls(
            name=name,
            versions={},
            gpus=gpus,
            gpus_usable=0,
            clock_ahead=0.0,
            reads="",
            writes="",
            token_mode="",
            silent=why,
        )


@dataclass(frozen=True, kw_only=True)
class ClusterReport:
    """What a cluster says of itself, beside the driver that its nodes must be like."""

    nodes: tuple[NodeReport, ...]
    versions: Mapping[str, str]
    """The driver's, as nodes have theirs."""
    token_mode: str
    """Ray's authentication in the driver's environment."""
    open_dashboard: str = ""
    """Address of the cluster's dashboard, if it answers who shows no token."""


def faults(cluster: ClusterReport) -> list[str]:
    """Return one sentence for each thing that would spoil a study; empty when all is well."""
    told = [f"{node.name}: {fault}" for node in cluster.nodes for fault in _of_node(node, cluster)]
    if cluster.open_dashboard:
        told.append(
            f"The dashboard at {cluster.open_dashboard} answers without a token: whoever reaches "
            "it runs code on the cluster. Start every node with RAY_AUTH_MODE=token, and ship the "
            "token."
        )
    return told


def _of_node(node: NodeReport, cluster: ClusterReport) -> list[str]:
    if node.silent:
        return [node.silent]
    return [
        *version_faults(node.versions, cluster.versions),
        *_of_devices(node),
        *_of_clock(node),
        *_of_storage(node),
        *_of_token(node.token_mode, cluster.token_mode),
    ]


def version_faults(versions: Mapping[str, str], driver: Mapping[str, str]) -> list[str]:
    """Return one sentence for each version on a node that is not the driver's."""
    return [
        f"{name} is {versions.get(name, 'missing')}, the driver's is {version}. Install the same "
        "versions on every node."
        for name, version in driver.items()
        if versions.get(name, "missing") != version
    ]


def _of_devices(node: NodeReport) -> list[str]:
    if node.gpus <= node.gpus_usable:
        return []
    return [
        f"the cluster schedules {node.gpus:g} GPUs on it, and torch sees {node.gpus_usable}. "
        "Mend its driver, or start the node with --num-gpus."
    ]


def _of_clock(node: NodeReport) -> list[str]:
    if abs(node.clock_ahead) <= CLOCK_SECONDS:
        return []
    way = "ahead of" if node.clock_ahead > 0 else "behind"
    return [
        f"its clock is {abs(node.clock_ahead):.0f} s {way} the driver's; allowed: "
        f"{CLOCK_SECONDS:g} s. Set it by NTP."
    ]


def _of_storage(node: NodeReport) -> list[str]:
    said = (
        ("cannot read what the driver wrote to the store", node.reads),
        ("cannot write to the store what the driver reads there", node.writes),
    )
    return [
        f"{what}: {why} Use a path on storage that every node mounts, or s3:// or gs://."
        for what, why in said
        if why
    ]


def _of_token(there: str, here: str) -> list[str]:
    if there == "disabled":
        return [
            "Ray's authentication is disabled there: whoever reaches its ports runs code on it. "
            "Set RAY_AUTH_MODE=token on every node, and ship the token."
        ]
    if there == here:
        return []
    return [
        f"Ray's authentication is {there!r} there and {here!r} here. Set RAY_AUTH_MODE alike on "
        "every node, and ship the token."
    ]
