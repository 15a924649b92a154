"""Manifests for KubeRay (`ray.io/v1`): a RayJob that runs a study, or a RayCluster without one.

The study travels in a ConfigMap. Ray's token comes from a Secret, by two ways that agree: KubeRay
(1.6 or newer) needs `authOptions` to speak to the cluster itself, and the containers name the
Secret too, so that an operator that drops the former leaves a cluster closed, not open. The head's
service has an address inside the Kubernetes cluster only.
"""

import hashlib
import json
import re
from typing import Any

from cluster.description import (
    ClusterDescription,
    Kubernetes,
    KubernetesNode,
    NodeShape,
    StudyFile,
    WorkerGroup,
)
from cluster.errors import DescriptionError
from cluster.manifest import manifest
from cluster.ray_words import (
    environment_variables,
    home_word,
    ray_start_resources,
    run_command,
)
from cluster.study_needs import refuse_what_fits_nowhere

__all__ = ["render_kuberay"]

STUDY_FOLDER = "/etc/scaling-study"
STUDY_KEY = "study.yaml"
TOKEN_KEY = "auth_token"
"""The key of the token in its Secret, which KubeRay prescribes."""
LONGEST_NAME = 47
"""Characters of a RayJob's name that KubeRay accepts: it appends to it."""
IDLE_SECONDS = 300
"""How long a pod that autoscaling added stays without work: a study's rounds follow in seconds,
while a GPU node can take minutes to come."""


def render_kuberay(description: ClusterDescription, study: StudyFile | None) -> str:
    """Return the manifests. Raises `DescriptionError` where it cannot be a KubeRay cluster."""
    kubernetes = description.kubernetes
    if kubernetes is None:
        raise DescriptionError(
            (),
            "there is no section kubernetes; it is needed for KubeRay. Add kubernetes: "
            "{namespace: …, token_secret: …, ray_version: …}.",
        )
    _refuse_what_pods_lack(description, kubernetes)
    refuse_what_fits_nowhere(study, description.most_nodes())
    if study is None:
        documents = [
            {
                **_kind("RayCluster"),
                "metadata": _metadata(description.name, kubernetes),
                "spec": _cluster(description, kubernetes, None),
            }
        ]
    else:
        name = _name(f"{description.name}-{study.name}")
        documents = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": _metadata(name, kubernetes),
                "data": {STUDY_KEY: study.text},
            },
            {
                **_kind("RayJob"),
                "metadata": _metadata(name, kubernetes),
                "spec": _job(description, kubernetes, study, name),
            },
        ]
    return manifest(documents, _comments(description, kubernetes))


def _refuse_what_pods_lack(description: ClusterDescription, kubernetes: Kubernetes) -> None:
    if description.environment.image is None:
        raise DescriptionError(
            ("environment",),
            "environment.image is missing; on Kubernetes, programs come in an image. Add "
            "environment: {image: …}, with Ray and scaling-study in it.",
        )
    if description.storage.path is not None and kubernetes.storage_claim is None:
        raise DescriptionError(
            ("kubernetes",),
            f"kubernetes.storage_claim is missing; the storage is the path "
            f"{description.storage.path}, which pods have only from a volume. Add storage_claim: "
            "the name of a PersistentVolumeClaim that many nodes may write (ReadWriteMany).",
        )
    if description.storage.uri is not None and kubernetes.storage_claim is not None:
        raise DescriptionError(
            ("kubernetes", "storage_claim"),
            f"kubernetes.storage_claim is {kubernetes.storage_claim!r}, but the storage is "
            f"{description.storage.uri}, which no volume holds. Remove it, or give storage a path.",
        )


def _kind(kind: str) -> dict[str, str]:
    return {"apiVersion": "ray.io/v1", "kind": kind}


def _metadata(name: str, kubernetes: Kubernetes) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": kubernetes.namespace,
        "labels": {"app.kubernetes.io/name": "scaling-study"},
    }


def _name(wanted: str) -> str:
    """Return `wanted` as a name that Kubernetes accepts: itself, or cut and marked by a hash."""
    name = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    if name == wanted and len(name) <= LONGEST_NAME:
        return name
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7].rstrip('-')}-{mark}"


def _job(
    description: ClusterDescription, kubernetes: Kubernetes, study: StudyFile, name: str
) -> dict[str, Any]:
    return {
        "entrypoint": run_command(description, study, f"{STUDY_FOLDER}/{STUDY_KEY}"),
        "submissionMode": "HTTPMode",  # by the operator: no second pod that needs image and token
        "backoffLimit": kubernetes.retries,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": kubernetes.seconds_kept,
        "rayClusterSpec": _cluster(description, kubernetes, name),
    }


def _cluster(
    description: ClusterDescription, kubernetes: Kubernetes, config_map: str | None
) -> dict[str, Any]:
    scales = any(group.min_nodes < group.max_nodes for group in description.workers)
    options = {"idleTimeoutSeconds": IDLE_SECONDS, "upscalingMode": "Default"}
    return {
        "rayVersion": kubernetes.ray_version,
        "authOptions": {"mode": "token", "secretName": kubernetes.token_secret},
        "enableInTreeAutoscaling": scales,
        **({"autoscalerOptions": options} if scales else {}),
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            # All of the pod's addresses: the operator submits through the service.
            "rayStartParams": {"dashboard-host": "0.0.0.0", **_start_params(description.head)},
            "template": _pod(description, kubernetes, "head", description.head, config_map),
        },
        "workerGroupSpecs": [
            _worker_group(description, kubernetes, group) for group in description.workers
        ],
    }


def _worker_group(
    description: ClusterDescription, kubernetes: Kubernetes, group: WorkerGroup
) -> dict[str, Any]:
    return {
        "groupName": group.name,
        "replicas": group.min_nodes,
        "minReplicas": group.min_nodes,
        "maxReplicas": group.max_nodes,
        "rayStartParams": _start_params(group.shape),
        "template": _pod(description, kubernetes, group.name, group.shape, None),
    }


def _start_params(shape: NodeShape) -> dict[str, str]:
    """Return the options of `ray start`, which KubeRay puts into a shell command as they are."""
    options = ray_start_resources(shape)
    if "resources" in options:
        options["resources"] = json.dumps(options["resources"])  # the form its autoscaler reads
    return options


def _pod(
    description: ClusterDescription,
    kubernetes: Kubernetes,
    group: str,
    shape: NodeShape,
    config_map: str | None,
) -> dict[str, Any]:
    node = kubernetes.nodes.get(group, KubernetesNode())
    volumes, mounts = _volumes(description, kubernetes, config_map)
    container = {
        "name": f"ray-{'head' if group == 'head' else 'worker'}",
        "image": description.environment.image,
        "env": _env(description, kubernetes),
        "envFrom": [{"secretRef": {"name": name}} for name in kubernetes.environment_secrets],
        "resources": {"requests": _quantities(shape), "limits": _quantities(shape)},
        "volumeMounts": mounts,
    }
    spec = {
        "serviceAccountName": kubernetes.service_account,
        "imagePullSecrets": [{"name": name} for name in kubernetes.image_pull_secrets],
        "nodeSelector": dict(node.node_selector),
        "tolerations": [dict(toleration) for toleration in node.tolerations],
        "containers": [_stated(container)],
        "volumes": volumes,
    }
    return {"spec": _stated(spec)}


def _stated(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return `mapping` without what is absent or empty."""
    return {key: value for key, value in mapping.items() if value}


def _volumes(
    description: ClusterDescription, kubernetes: Kubernetes, config_map: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a pod's volumes, and where its container mounts them."""
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if kubernetes.storage_claim is not None:
        claim = {"claimName": kubernetes.storage_claim}
        volumes.append({"name": "storage", "persistentVolumeClaim": claim})
        mounts.append({"name": "storage", "mountPath": description.storage.path})
    if config_map is not None:
        volumes.append({"name": "study", "configMap": {"name": config_map}})
        mounts.append({"name": "study", "mountPath": STUDY_FOLDER, "readOnly": True})
    return volumes, mounts


def _env(description: ClusterDescription, kubernetes: Kubernetes) -> list[dict[str, Any]]:
    """Return the variables of a container.

    Kubernetes takes $(NAME) in a value for another variable's, and $$ for $.
    """
    secret = {"name": kubernetes.token_secret, "key": TOKEN_KEY}
    variables = environment_variables(description)
    return [
        *({"name": name, "value": text.replace("$", "$$")} for name, text in variables.items()),
        {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": secret}},
    ]


def _quantities(shape: NodeShape) -> dict[str, str]:
    gpus = {"nvidia.com/gpu": str(shape.gpus)} if shape.gpus else {}
    return {"cpu": str(shape.cpus), "memory": f"{shape.memory_gib}Gi", **gpus}


def _comments(description: ClusterDescription, kubernetes: Kubernetes) -> list[str]:
    return [
        f"KubeRay (1.6 or newer) for {description.name!r}.",
        "  kubectl apply -f FILE      starts it",
        "  kubectl delete -f FILE     ends it",
        f"Ray's token is taken from the Secret {kubernetes.token_secret!r}, which must be there:",
        f"  kubectl create secret generic {kubernetes.token_secret} "
        f"--namespace {kubernetes.namespace} \\",
        f"    --from-file={TOKEN_KEY}={home_word(description.token_file)}",
        f"Results go to {description.storage.root}, which every pod must reach.",
    ]
