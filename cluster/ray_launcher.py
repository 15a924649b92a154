"""YAML for Ray's cluster launcher (`ray up`) on AWS, Google Cloud, or machines that run already.

The launcher copies the token file and the study to the head, and from there to every node; neither
stands in the file. Only SSH is open to the outside: the dashboard listens on the head's loopback.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from cluster.description import (
    Aws,
    AwsNode,
    ClusterDescription,
    Gcp,
    GcpNode,
    NodeShape,
    OnPremise,
    Provider,
    StudyFile,
)
from cluster.errors import DescriptionError
from cluster.manifest import manifest
from cluster.ray_words import (
    RAY_PORT,
    environment_variables,
    ray_start_resources,
    run_command,
    shell_options,
)
from cluster.study_needs import refuse_what_fits_nowhere

__all__ = ["render_ray"]

REMOTE_TOKEN = "~/.ray/auth_token"
"""Where Ray looks without being told."""
HEAD = "head"
"""Name of the head's node type."""
IDLE_MINUTES = 5
"""How long a node that autoscaling added stays without work; Ray's own default."""


def render_ray(description: ClusterDescription, study: StudyFile | None) -> str:
    """Return the launcher's YAML. Raises `DescriptionError` where it has no provider."""
    provider = description.provider
    if provider is None:
        raise DescriptionError(
            (),
            "the cluster launcher has nowhere to launch; allowed: one of the sections aws, gcp and "
            "local. Add the one that applies.",
        )
    machines = _machines(provider, description)
    refuse_what_fits_nowhere(study, description.most_nodes())
    document = {
        "cluster_name": description.name,
        **machines,
        "idle_timeout_minutes": IDLE_MINUTES,
        **_docker(description),
        "file_mounts": _file_mounts(description, study),
        "initialization_commands": list(description.storage.mount),
        "setup_commands": [
            f"chmod 600 {REMOTE_TOKEN}",
            *_storage_check(description),
            *provider.setup,
        ],
        "head_setup_commands": _autoscaler_needs(provider),
        "worker_setup_commands": [],
        **_start_commands(description),
    }
    return manifest([document], _comments(description, study))


def _machines(provider: Provider, description: ClusterDescription) -> dict[str, Any]:
    """Return the keys that say which machines there are: provider, auth, node types, counts."""
    match provider:
        case Aws():
            return _aws(provider, description)
        case Gcp():
            return _gcp(provider, description)
        case OnPremise():
            return _on_premise(provider, description)


def _aws(provider: Aws, description: ClusterDescription) -> dict[str, Any]:
    zones = {"availability_zone": ",".join(provider.zones)} if provider.zones else {}
    return {
        "provider": {
            "type": "aws",
            "region": provider.region,
            **zones,
            "use_internal_ips": provider.private_addresses,
            "cache_stopped_nodes": False,  # else stopped nodes go on costing
        },
        "auth": _auth(provider.ssh_user, provider.ssh_private_key),
        **_node_types(
            description,
            {name: _aws_node_config(provider, node) for name, node in provider.nodes.items()},
        ),
    }


def _aws_node_config(provider: Aws, node: AwsNode) -> dict[str, Any]:
    config: dict[str, Any] = {"InstanceType": node.instance_type}
    if node.image_id is not None:
        config["ImageId"] = node.image_id
    config["BlockDeviceMappings"] = [
        {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": node.disk_gib, "VolumeType": "gp3"}}
    ]
    if node.instance_profile is not None:
        config["IamInstanceProfile"] = {"Name": node.instance_profile}
    if provider.security_groups:
        config["SecurityGroupIds"] = list(provider.security_groups)
    if provider.subnets:
        config["SubnetIds"] = list(provider.subnets)
    if node.spot:
        config["InstanceMarketOptions"] = {"MarketType": "spot"}
    if provider.key_name is not None:
        config["KeyName"] = provider.key_name
    return config


def _gcp(provider: Gcp, description: ClusterDescription) -> dict[str, Any]:
    shapes = {HEAD: description.head, **{group.name: group.shape for group in description.workers}}
    return {
        "provider": {
            "type": "gcp",
            "region": provider.region,
            "availability_zone": provider.zone,
            "project_id": provider.project,
            "use_internal_ips": provider.private_addresses,
        },
        "auth": _auth(provider.ssh_user, None),
        **_node_types(
            description,
            {
                name: _gcp_node_config(provider, node, shapes[name])
                for name, node in provider.nodes.items()
            },
        ),
    }


def _gcp_node_config(provider: Gcp, node: GcpNode, shape: NodeShape) -> dict[str, Any]:
    config: dict[str, Any] = {
        "machineType": node.machine_type,
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "type": "PERSISTENT",
                "initializeParams": {
                    "diskSizeGb": node.disk_gib,
                    "sourceImage": node.source_image,
                },
            }
        ],
    }
    if node.accelerator is not None:
        kind = f"projects/{provider.project}/zones/{provider.zone}/acceleratorTypes"
        config["guestAccelerators"] = [
            {"acceleratorType": f"{kind}/{node.accelerator}", "acceleratorCount": shape.gpus}
        ]
        config["metadata"] = {"items": [{"key": "install-nvidia-driver", "value": "True"}]}
    scheduling: dict[str, Any] = {}
    if shape.gpus:
        scheduling["onHostMaintenance"] = "TERMINATE"  # nodes with GPUs cannot be migrated
    if node.spot:
        scheduling["preemptible"] = True
    if scheduling:
        config["scheduling"] = scheduling
    if node.service_account is not None:
        scope = "https://www.googleapis.com/auth/cloud-platform"
        config["serviceAccounts"] = [{"email": node.service_account, "scopes": [scope]}]
    return config


def _on_premise(provider: OnPremise, description: ClusterDescription) -> dict[str, Any]:
    groups = description.workers
    if len(groups) > 1:
        raise DescriptionError(
            ("workers", groups[1].name),
            f"there are {len(groups)} groups of workers; on machines that run already, Ray's "
            "launcher starts all workers alike: at most 1 is allowed. Keep one group, or start one "
            "cluster for each.",
        )
    most = groups[0].max_nodes if groups else 0
    if most != len(provider.workers):
        raise DescriptionError(
            ("local", "workers"),
            f"local: {len(provider.workers)} workers are listed, but the worker groups have at "
            f"most {most} nodes; allowed: the same number. Correct the one or the other.",
        )
    return {
        "provider": {
            "type": "local",
            "head_ip": provider.head,
            "worker_ips": list(provider.workers),
        },
        "auth": _auth(provider.ssh_user, provider.ssh_private_key),
        "min_workers": groups[0].min_nodes if groups else 0,
        "max_workers": most,
    }


def _auth(user: str, private_key: str | None) -> dict[str, str]:
    return {
        "ssh_user": user,
        **({} if private_key is None else {"ssh_private_key": private_key}),
    }


def _node_types(
    description: ClusterDescription, configs: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    head = {
        "min_workers": 0,
        "max_workers": 0,
        "resources": _resources(description.head),
        "node_config": configs[HEAD],
    }
    workers = {
        group.name: {
            "min_workers": group.min_nodes,
            "max_workers": group.max_nodes,
            "resources": _resources(group.shape),
            "node_config": configs[group.name],
        }
        for group in description.workers
    }
    return {
        "max_workers": sum(group.max_nodes for group in description.workers),
        "head_node_type": HEAD,
        "available_node_types": {HEAD: head, **workers},
    }


def _resources(shape: NodeShape) -> dict[str, int]:
    return {"CPU": shape.cpus, "GPU": shape.gpus, **shape.named_resources()}


def _docker(description: ClusterDescription) -> dict[str, Any]:
    image = description.environment.image
    if image is None:
        return {}
    options = ["--ulimit nofile=65536:65536"]
    if description.storage.path is not None:
        path = shlex.quote(description.storage.path)
        options.append(f"--volume {path}:{path}")
    return {
        "docker": {
            "image": image,
            "container_name": "scaling_study",
            "pull_before_run": True,
            "run_options": options,
        }
    }


def _file_mounts(description: ClusterDescription, study: StudyFile | None) -> dict[str, str]:
    mounts = {REMOTE_TOKEN: description.token_file}
    if study is not None:
        mounts[_remote_study(study)] = str(study.path)
    return mounts


def _remote_study(study: StudyFile) -> str:
    return f"~/scaling-study/{study.name}.yaml"


def _storage_check(description: ClusterDescription) -> list[str]:
    if description.storage.path is None:
        return []
    path = shlex.quote(description.storage.path)
    return [f"test -w {path} || {{ echo {path} is not there or not writable >&2; exit 1; }}"]


def _autoscaler_needs(provider: Provider) -> list[str]:
    """Return how the head gets the library by which Ray's autoscaler speaks to the provider."""
    match provider:
        case Aws():
            module, package = "boto3", "boto3"
        case Gcp():
            module, package = "googleapiclient", "google-api-python-client"
        case OnPremise():
            return []
    return [f"python -c 'import {module}' || pip install {package}"]


def _start_commands(description: ClusterDescription) -> dict[str, list[str]]:
    """Return how Ray starts. `ray stop` ends every Ray of a machine: they are the cluster's alone.

    On a provider's machines, the launcher tells workers what their node type has
    (RAY_OVERRIDE_RESOURCES); on machines that run already, `ray start` must say it.
    """
    exports = "; ".join(
        f"export {name}={shlex.quote(value)}"
        for name, value in environment_variables(description).items()
    )
    prepare = f"{exports}; ulimit -n 65536"
    head = {
        "port": str(RAY_PORT),
        "dashboard-host": "127.0.0.1",
        **ray_start_resources(description.head),
    }
    on_premise = isinstance(description.provider, OnPremise)
    worker = (
        ray_start_resources(description.workers[0].shape)
        if on_premise and description.workers
        else {}
    )
    return {
        "head_start_ray_commands": [
            "ray stop",
            f"{prepare}; ray start --head {shell_options(head)} "
            "--autoscaling-config=~/ray_bootstrap_config.yaml --disable-usage-stats",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"{prepare}; ray start --address=$RAY_HEAD_IP:{RAY_PORT} --disable-usage-stats "
            f"{shell_options(worker)}".rstrip(),
        ],
    }


def _comments(description: ClusterDescription, study: StudyFile | None) -> list[str]:
    place = {"aws": Aws, "gcp": Gcp}
    where = next(
        (name for name, kind in place.items() if isinstance(description.provider, kind)),
        "machines that run already, which must be this cluster's alone",
    )
    lines = [
        f"Ray's cluster launcher for {description.name!r}: {where}.",
        f"  ray up FILE        starts it; needs Ray's token in {description.token_file}, which",
        "                     `ray get-auth-token --generate` makes",
        "  ray down FILE      ends it",
    ]
    if study is not None:
        variables = (
            f"{name}={shlex.quote(value)}"
            for name, value in environment_variables(description).items()
        )
        run = run_command(description, study, _remote_study(study))
        command = shlex.quote(" ".join([*variables, run]))
        lines += [
            "Run the study, which the launcher copies to the head:",
            f"  ray exec --tmux FILE {command}",
        ]
    lines.append(f"Results go to {description.storage.root}, which every node must reach.")
    if description.storage.path is not None and not description.storage.mount:
        lines.append("Its nodes are expected to have mounted it already.")
    if isinstance(description.provider, Aws) and not description.provider.security_groups:
        lines.append(
            "Ray makes a security group that opens SSH (port 22) to everywhere, and all else to "
            "the cluster only; `security_groups` narrows it."
        )
    return lines
