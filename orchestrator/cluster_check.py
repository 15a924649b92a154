"""Asks every node of a Ray cluster what it has, and whether it shares the store."""

import logging
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from cluster.health import ClusterReport, NodeReport
from orchestrator.errors import StoreError
from orchestrator.nodes import alive_nodes, answers, on, why_none
from orchestrator.running.tune import RayExecutor
from orchestrator.storage.store import Store
from orchestrator.versions import installed_versions

__all__ = ["answers_strangers", "check_cluster"]

logger = logging.getLogger(__name__)

ASKED = "/api/version"
ASKED_SECONDS = 10.0
REFUSALS = (401, 403)
"""Statuses of HTTP by which a server asks for a token; another error is an answer."""


def check_cluster(address: str, store: Store) -> ClusterReport:
    """Return what every node of the cluster at `address` says of itself, and its dashboard.

    Something is written to the store and deleted again. Raises `LaunchError` where the cluster
    cannot be reached, `StoreError` where the driver cannot use the store.
    """
    folder = uuid.uuid4().hex
    with RayExecutor(address) as executor:
        try:
            store.leave_note(f"{folder}/driver", "driver")
            asked = [(node, _ask(node, store, folder)) for node in alive_nodes()]
            nodes = tuple(_report(node, answer, store, folder) for node, answer in answers(asked))
        finally:
            store.remove_notes(folder)
        board = executor.dashboard
        return ClusterReport(
            nodes=nodes,
            versions=installed_versions(),
            token_mode=_token_mode(),
            open_dashboard=board if board and answers_strangers(board) else "",
        )


def _ask(node: Mapping[str, Any], store: Store, folder: str) -> "ray.ObjectRef[dict[str, Any]]":
    answer: ray.ObjectRef[dict[str, Any]] = _answer.options(**on(node)).remote(
        store, folder, node["NodeID"]
    )
    return answer


@ray.remote
def _time() -> float:
    return time.time()


@ray.remote
def _answer(store: Store, folder: str, node_id: str) -> dict[str, Any]:
    """Return what is known here, and leave a note in the store."""
    answer = {
        "versions": installed_versions(),
        "gpus_usable": torch.cuda.device_count(),
        "gpu_names": tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        "token_mode": _token_mode(),
        "reads": "",
        "writes": "",
    }
    try:
        found = store.read_note(f"{folder}/driver")
        answer["reads"] = "" if found == "driver" else f"it finds {found!r} there."
    except StoreError as error:
        answer["reads"] = str(error)
    except FileNotFoundError:
        answer["reads"] = f"it is not there ({store.address(folder)})."
    try:
        store.leave_note(f"{folder}/{node_id}", node_id)
    except StoreError as error:
        answer["writes"] = str(error)
    return answer


def _report(
    node: Mapping[str, Any], answer: Mapping[str, Any] | RayError, store: Store, folder: str
) -> NodeReport:
    name, gpus = node["NodeManagerAddress"], node["Resources"].get("GPU", 0.0)
    if isinstance(answer, RayError):
        return NodeReport.of_silent(name, gpus, why=why_none(answer))
    ahead = _clock_ahead(node)
    if isinstance(ahead, RayError):
        return NodeReport.of_silent(name, gpus, why=why_none(ahead))
    report = NodeReport(name=name, gpus=gpus, clock_ahead=ahead, **answer)
    if report.writes:
        return report
    try:
        store.read_note(f"{folder}/{node['NodeID']}")
    except FileNotFoundError:
        missed = f"the driver does not find it ({store.address(folder)})."
        return replace(report, writes=missed)
    return report


def _clock_ahead(node: Mapping[str, Any]) -> float | RayError:
    """Return by how much a node's clock is ahead, beyond what the way there may explain."""
    asked = time.time()
    ((_, theirs),) = answers([(node, _time.options(**on(node)).remote())])  # its worker is warm
    if isinstance(theirs, RayError):
        return theirs
    ahead: float = min(theirs - asked, 0.0) or max(theirs - time.time(), 0.0)
    return ahead


def answers_strangers(dashboard: str) -> bool:
    """Return whether the dashboard at HOST:PORT answers who shows no token.

    Of one that cannot be reached from here a warning is logged: nobody here can run code by it.
    """
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(f"http://{dashboard}{ASKED}", timeout=ASKED_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in REFUSALS
    except OSError as error:
        logger.warning(
            "The dashboard at %s cannot be asked whether it is open: %s", dashboard, error
        )
        return False


def _token_mode() -> str:
    return os.environ.get("RAY_AUTH_MODE", "default")
