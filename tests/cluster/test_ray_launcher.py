"""YAML for Ray's cluster launcher: as data, and as Ray's own validation takes it."""

import re
import shlex

import pytest
import yaml

from cluster.errors import DescriptionError
from cluster.ray_launcher import render_ray
from tests.cluster.descriptions import AWS, GCP, LOCAL, STUDY, TOP, described


def rendered(text: str, study=STUDY) -> dict:
    return yaml.safe_load(render_ray(described(text), study))


EXPORTS = (
    "export RAY_AUTH_MODE=token; export OMP_NUM_THREADS=1; export RAY_memory_monitor_refresh_ms=0; "
)


def test_the_launcher_on_aws():
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3"}}
    network = {"SecurityGroupIds": ["sg-1"], "SubnetIds": ["subnet-1"], "KeyName": "lab"}
    exports = (
        f"{EXPORTS}export AWS_DEFAULT_REGION=us-east-1; export NOTE='it'\"'\"'s here'; "
        "ulimit -n 65536; "
    )
    assert rendered(AWS) == {
        "cluster_name": "lab",
        "provider": {
            "type": "aws",
            "region": "us-east-1",
            "availability_zone": "us-east-1a,us-east-1b",
            "use_internal_ips": False,
            "cache_stopped_nodes": False,
        },
        "auth": {"ssh_user": "ubuntu", "ssh_private_key": "~/.ssh/lab.pem"},
        "max_workers": 6,
        "head_node_type": "head",
        "available_node_types": {
            "head": {
                "min_workers": 0,
                "max_workers": 0,
                "resources": {"CPU": 8, "GPU": 0},
                "node_config": {
                    "InstanceType": "m6i.2xlarge",
                    "BlockDeviceMappings": [disk],
                    **network,
                },
            },
            "gpus": {
                "min_workers": 0,
                "max_workers": 4,
                "resources": {"CPU": 16, "GPU": 4, "accelerator_type:A100": 1, "fast_disk": 2},
                "node_config": {
                    "InstanceType": "p4d.24xlarge",
                    "ImageId": "ami-1",
                    "BlockDeviceMappings": [disk],
                    "IamInstanceProfile": {"Name": "studies"},
                    "InstanceMarketOptions": {"MarketType": "spot"},
                    **network,
                },
            },
            "small": {
                "min_workers": 1,
                "max_workers": 2,
                "resources": {"CPU": 4, "GPU": 0},
                "node_config": {
                    "InstanceType": "m6i.xlarge",
                    "BlockDeviceMappings": [
                        {**disk, "Ebs": {"VolumeSize": 50, "VolumeType": "gp3"}}
                    ],
                    **network,
                },
            },
        },
        "idle_timeout_minutes": 5,
        "docker": {
            "image": "example/scaling-study:0.1.0",
            "container_name": "scaling_study",
            "pull_before_run": True,
            "run_options": ["--ulimit nofile=65536:65536"],
        },
        "file_mounts": {
            "~/.ray/auth_token": "~/.ray/auth_token",
            "~/scaling-study/quickstart.yaml": "/home/ada/studies/quickstart.yaml",
        },
        "initialization_commands": [],
        "setup_commands": ["chmod 600 ~/.ray/auth_token"],
        "head_setup_commands": ["python -c 'import boto3' || pip install boto3"],
        "worker_setup_commands": [],
        "head_start_ray_commands": [
            "ray stop",
            f"{exports}ray start --head --port=6379 --dashboard-host=127.0.0.1 --num-cpus=8 "
            "--num-gpus=0 --autoscaling-config=~/ray_bootstrap_config.yaml --disable-usage-stats",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"{exports}ray start --address=$RAY_HEAD_IP:6379 --disable-usage-stats",
        ],
    }


def test_the_launcher_on_google_cloud():
    document = rendered(GCP)
    assert document["provider"] == {
        "type": "gcp",
        "region": "us-central1",
        "availability_zone": "us-central1-a",
        "project_id": "lab-1",
        "use_internal_ips": True,
    }
    assert document["setup_commands"] == [
        "chmod 600 ~/.ray/auth_token",
        "pip install scaling-study",
    ]
    assert document["available_node_types"]["gpus"] == {
        "min_workers": 2,
        "max_workers": 2,
        "resources": {"CPU": 16, "GPU": 4, "accelerator_type:A100": 1},
        "node_config": {
            "machineType": "n1-standard-16",
            "disks": [
                {
                    "boot": True,
                    "autoDelete": True,
                    "type": "PERSISTENT",
                    "initializeParams": {
                        "diskSizeGb": 200,
                        "sourceImage": "projects/p/global/images/family/common-cu121",
                    },
                }
            ],
            "guestAccelerators": [
                {
                    "acceleratorType": "projects/lab-1/zones/us-central1-a/acceleratorTypes/"
                    "nvidia-tesla-t4",
                    "acceleratorCount": 4,
                }
            ],
            "metadata": {"items": [{"key": "install-nvidia-driver", "value": "True"}]},
            "scheduling": {"onHostMaintenance": "TERMINATE", "preemptible": True},
            "serviceAccounts": [
                {
                    "email": "studies@lab-1.iam.gserviceaccount.com",
                    "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
                }
            ],
        },
    }
    assert "scheduling" not in document["available_node_types"]["head"]["node_config"]


def test_the_launcher_on_premise_says_itself_what_nodes_have():
    document = rendered(LOCAL)
    assert document["provider"] == {
        "type": "local",
        "head_ip": "10.0.0.1",
        "worker_ips": ["10.0.0.2", "10.0.0.3"],
    }
    assert (document["min_workers"], document["max_workers"]) == (2, 2)
    assert "available_node_types" not in document
    assert document["initialization_commands"] == ["sudo mount /shared"]
    assert document["setup_commands"] == [
        "chmod 600 ~/.ray/auth_token",
        "test -w /shared/studies || "
        "{ echo /shared/studies is not there or not writable >&2; exit 1; }",
        "pip install scaling-study",
    ]
    assert document["worker_start_ray_commands"][1] == (
        f"{EXPORTS}ulimit -n 65536; ray start --address=$RAY_HEAD_IP:6379 --disable-usage-stats "
        "--num-cpus=16 --num-gpus=4 --resources='{\"accelerator_type:A100\": 1}'"
    )


def test_a_container_sees_the_shared_storage():
    image = "environment: {image: example/scaling-study:0.1.0}\n"
    assert rendered(LOCAL + image)["docker"]["run_options"] == [
        "--ulimit nofile=65536:65536",
        "--volume /shared/studies:/shared/studies",
    ]


def test_the_comments_say_how_the_study_is_run():
    text = render_ray(described(AWS), STUDY)
    (line,) = re.findall("ray exec --tmux FILE (.*)", text)
    (command,) = shlex.split(line)
    assert shlex.split(command) == [
        *("RAY_AUTH_MODE=token", "OMP_NUM_THREADS=1", "RAY_memory_monitor_refresh_ms=0"),
        "AWS_DEFAULT_REGION=us-east-1",
        *("NOTE=it's here", "scaling-study", "run", "~/scaling-study/quickstart.yaml"),
        *("--store", "s3://bucket/studies/quickstart", "--address", "auto", "--autoscaling"),
    ]


def test_without_a_study_no_study_is_copied():
    text = render_ray(described(AWS), None)
    assert list(yaml.safe_load(text)["file_mounts"]) == ["~/.ray/auth_token"]
    assert "ray exec" not in text


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (TOP + "storage: {uri: s3://bucket/studies}\n", "one of the sections aws, gcp and local"),
        (LOCAL.replace(", 10.0.0.3", ""), "1 workers are listed"),
        (
            LOCAL.replace("storage:", "  more: {cpus: 1, memory_gib: 1, min: 1, max: 1}\nstorage:"),
            "2 groups of workers",
        ),
    ],
)
def test_what_the_launcher_cannot_do_is_refused(text, fragment):
    with pytest.raises(DescriptionError, match=fragment):
        render_ray(described(text), STUDY)


@pytest.mark.ray
@pytest.mark.parametrize("text", [AWS, GCP, LOCAL], ids=["aws", "gcp", "local"])
@pytest.mark.parametrize("study", [STUDY, None], ids=["study", "no study"])
def test_ray_itself_accepts_the_file(text, study):
    from ray.autoscaler._private.util import prepare_config, validate_config

    stated = rendered(text, study)
    prepared = prepare_config(stated)
    validate_config(prepared)
    assert prepared["head_start_ray_commands"] == stated["head_start_ray_commands"]
    kinds = prepared["available_node_types"]
    for name, kind in stated.get("available_node_types", {}).items():
        assert kinds[name]["resources"] == kind["resources"]
        assert kinds[name]["max_workers"] == kind["max_workers"]
    assert prepared["max_workers"] == stated["max_workers"]
