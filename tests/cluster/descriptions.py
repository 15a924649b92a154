"""Cluster descriptions that the tests render, as YAML, and the study that they run."""

from pathlib import PurePosixPath

from cluster.description import ClusterDescription, StudyFile
from orchestrator.cluster_file import description_from_text

__all__ = ["AWS", "GCP", "KUBERNETES", "LOCAL", "SHARED", "SLURM", "STUDY", "TOP", "described"]

TOP = """\
name: lab
head: {cpus: 8, memory_gib: 32}
workers:
  gpus: {cpus: 16, gpus: 4, memory_gib: 128, accelerator_type: A100, min: 2, max: 2}
"""
OBJECTS = "storage: {uri: s3://bucket/studies}\n"
SHARED = "storage: {path: /shared/studies}\n"

AWS = f"""\
{TOP.replace("min: 2, max: 2", "resources: {fast_disk: 2}, min: 0, max: 4")}\
  small: {{cpus: 4, memory_gib: 16, min: 1, max: 2}}
{OBJECTS}\
environment:
  image: example/scaling-study:0.1.0
  variables: {{AWS_DEFAULT_REGION: us-east-1, NOTE: it's here}}
aws:
  region: us-east-1
  zones: [us-east-1a, us-east-1b]
  ssh_private_key: ~/.ssh/lab.pem
  key_name: lab
  security_groups: [sg-1]
  subnets: [subnet-1]
  nodes:
    head: {{instance_type: m6i.2xlarge}}
    gpus: {{instance_type: p4d.24xlarge, image_id: ami-1, spot: true, instance_profile: studies}}
    small: {{instance_type: m6i.xlarge, disk_gib: 50}}
"""

GCP = f"""\
{TOP}\
storage: {{uri: gs://bucket/studies}}
gcp:
  project: lab-1
  region: us-central1
  zone: us-central1-a
  private_addresses: true
  setup: [pip install scaling-study]
  nodes:
    head: {{machine_type: n1-standard-8, source_image: projects/p/global/images/family/common-cpu}}
    gpus:
      machine_type: n1-standard-16
      source_image: projects/p/global/images/family/common-cu121
      accelerator: nvidia-tesla-t4
      spot: true
      service_account: studies@lab-1.iam.gserviceaccount.com
"""

LOCAL = f"""\
{TOP}\
storage: {{path: /shared/studies, mount: [sudo mount /shared]}}
local:
  head: 10.0.0.1
  workers: [10.0.0.2, 10.0.0.3]
  ssh_user: ada
  setup: [pip install scaling-study]
"""

KUBERNETES = f"""\
{TOP.replace("min: 2, max: 2", "resources: {fast_disk: 2}, min: 0, max: 4")}\
{SHARED}\
environment: {{image: example/scaling-study:0.1.0, variables: {{LEVEL: "1e3"}}}}
kubernetes:
  namespace: studies
  token_secret: ray-token
  ray_version: 2.60.0
  storage_claim: studies
  service_account: runner
  image_pull_secrets: [registry]
  environment_secrets: [bucket]
  nodes:
    gpus:
      node_selector: {{pool: gpus}}
      tolerations: [{{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}}]
"""

SLURM = f"""\
{TOP}\
{SHARED}\
slurm:
  time_limit: 08:00:00
  partition: gpu
  account: lab
  gpu_gres: gpu:a100
  options: [--qos=long]
  activate: [source /opt/studies/bin/activate]
"""

STUDY = StudyFile(
    name="quickstart",
    path=PurePosixPath("/home/ada/studies/quickstart.yaml"),
    text="name: quickstart\n# ε and 'quotes'\nworkload: digits\n",
)


def described(text: str) -> ClusterDescription:
    """Return the cluster that `text` describes."""
    return description_from_text(text)
