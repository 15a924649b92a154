"""KubeRay's manifests, field by field, and as Ray's own autoscaler reads them."""

import re
from dataclasses import replace

import pytest
import yaml

from cluster.errors import DescriptionError
from cluster.kuberay import render_kuberay
from tests.cluster.descriptions import KUBERNETES, SHARED, STUDY, described

TOKEN = {
    "name": "RAY_AUTH_TOKEN",
    "valueFrom": {"secretKeyRef": {"name": "ray-token", "key": "auth_token"}},
}
ENVIRONMENT = [
    {"name": "RAY_AUTH_MODE", "value": "token"},
    {"name": "OMP_NUM_THREADS", "value": "1"},
    {"name": "RAY_memory_monitor_refresh_ms", "value": "0"},
    {"name": "LEVEL", "value": "1e3"},
    TOKEN,
]
STORAGE = {"name": "storage", "persistentVolumeClaim": {"claimName": "studies"}}
STORAGE_MOUNT = {"name": "storage", "mountPath": "/shared/studies"}


def rendered(text: str = KUBERNETES, study=STUDY) -> list[dict]:
    return list(yaml.safe_load_all(render_kuberay(described(text), study)))


def test_the_study_travels_unchanged_in_a_config_map():
    config_map, _ = rendered()
    assert config_map == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "lab-quickstart",
            "namespace": "studies",
            "labels": {"app.kubernetes.io/name": "scaling-study"},
        },
        "data": {"study.yaml": STUDY.text},
    }


def test_the_job_runs_the_study_and_takes_its_cluster_down():
    config_map, job = rendered()
    spec = job["spec"]
    cluster = spec.pop("rayClusterSpec")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["metadata"] == config_map["metadata"]
    assert spec == {
        "entrypoint": "scaling-study run /etc/scaling-study/study.yaml "
        "--store /shared/studies/quickstart --address auto --autoscaling",
        "submissionMode": "HTTPMode",
        "backoffLimit": 2,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 300,
    }
    head, workers = cluster.pop("headGroupSpec"), cluster.pop("workerGroupSpecs")
    assert cluster == {
        "rayVersion": "2.60.0",
        "authOptions": {"mode": "token", "secretName": "ray-token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": 300, "upscalingMode": "Default"},
    }
    size = {"cpu": "8", "memory": "32Gi"}
    assert head == {
        "serviceType": "ClusterIP",
        "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "8", "num-gpus": "0"},
        "template": {
            "spec": {
                "serviceAccountName": "runner",
                "imagePullSecrets": [{"name": "registry"}],
                "containers": [
                    {
                        "name": "ray-head",
                        "image": "example/scaling-study:0.1.0",
                        "env": ENVIRONMENT,
                        "envFrom": [{"secretRef": {"name": "bucket"}}],
                        "resources": {"requests": size, "limits": size},
                        "volumeMounts": [
                            STORAGE_MOUNT,
                            {
                                "name": "study",
                                "mountPath": "/etc/scaling-study",
                                "readOnly": True,
                            },
                        ],
                    }
                ],
                "volumes": [STORAGE, {"name": "study", "configMap": {"name": "lab-quickstart"}}],
            }
        },
    }
    size = {"cpu": "16", "memory": "128Gi", "nvidia.com/gpu": "4"}
    assert workers == [
        {
            "groupName": "gpus",
            "replicas": 0,
            "minReplicas": 0,
            "maxReplicas": 4,
            "rayStartParams": {
                "num-cpus": "16",
                "num-gpus": "4",
                "resources": r'"{\"accelerator_type:A100\": 1, \"fast_disk\": 2}"',
            },
            "template": {
                "spec": {
                    "serviceAccountName": "runner",
                    "imagePullSecrets": [{"name": "registry"}],
                    "nodeSelector": {"pool": "gpus"},
                    "tolerations": [
                        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
                    ],
                    "containers": [
                        {
                            "name": "ray-worker",
                            "image": "example/scaling-study:0.1.0",
                            "env": ENVIRONMENT,
                            "envFrom": [{"secretRef": {"name": "bucket"}}],
                            "resources": {"requests": size, "limits": size},
                            "volumeMounts": [STORAGE_MOUNT],
                        }
                    ],
                    "volumes": [STORAGE],
                }
            },
        }
    ]


def test_without_a_study_there_is_a_cluster_alone():
    _, job = rendered()
    (cluster,) = rendered(study=None)
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert cluster["metadata"]["name"] == "lab"
    pods = cluster["spec"]["headGroupSpec"]["template"]["spec"]
    assert pods["volumes"] == [STORAGE]
    assert cluster["spec"]["workerGroupSpecs"] == job["spec"]["rayClusterSpec"]["workerGroupSpecs"]


def test_nothing_scales_where_every_group_is_fixed():
    (cluster,) = rendered(KUBERNETES.replace("min: 0", "min: 4"), study=None)
    assert cluster["spec"]["enableInTreeAutoscaling"] is False
    assert "autoscalerOptions" not in cluster["spec"]
    assert cluster["spec"]["workerGroupSpecs"][0]["replicas"] == 4


def test_text_that_kubernetes_would_take_for_something_else_is_kept():
    """Kubernetes reads a bare 1e3 as a number and y as true, which PyYAML does not."""
    rendered = render_kuberay(described(KUBERNETES.replace('"1e3"', '"1e3", SHORT: "y"')), STUDY)
    assert "value: '1e3'\n" in rendered
    assert "value: 'y'\n" in rendered


def as_a_container_sees(value: str, variables: dict[str, str]) -> str:
    """Return what Kubernetes makes of a variable's value (`expansion.Expand` in its sources)."""

    def seen(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\((.*?)\)", seen, value)


@pytest.mark.parametrize("value", ["$(LEVEL)", "a$$b", "$$(LEVEL)", "$HOME", "cost$", "$$$", "1$"])
def test_variables_reach_the_containers_as_they_are_described(value):
    text = KUBERNETES.replace('"1e3"', f'"1e3", OTHER: "{value}"')
    (cluster,) = rendered(text, study=None)
    spec = cluster["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        stated = {each["name"]: each.get("value") for each in container["env"]}
        assert as_a_container_sees(stated["OTHER"], {"LEVEL": "1e3"}) == value


def test_no_service_leads_out_of_the_cluster():
    text = render_kuberay(described(KUBERNETES), STUDY)
    assert re.findall("NodePort|LoadBalancer|Ingress|hostNetwork|hostPort", text) == []


@pytest.mark.parametrize("name", ["quick_start", "Quick.Start", "q" * 60])
def test_every_study_has_a_name_that_kubernetes_and_kuberay_accept(name):
    config_map, job = rendered(study=replace(STUDY, name=name))
    accepted = job["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", accepted)
    assert config_map["metadata"]["name"] == accepted
    assert accepted != rendered(study=replace(STUDY, name=name + "2"))[1]["metadata"]["name"]
    assert f"/shared/studies/{name} " in job["spec"]["entrypoint"]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (KUBERNETES.replace("image: example/scaling-study:0.1.0, ", ""), "environment.image is"),
        (KUBERNETES.replace("  storage_claim: studies\n", ""), "storage_claim is missing"),
        (KUBERNETES.replace(SHARED, "storage: {uri: s3://bucket}\n"), "Remove it, or give storage"),
        (KUBERNETES[: KUBERNETES.index("kubernetes:")], "no section kubernetes"),
    ],
)
def test_what_pods_cannot_do_is_refused(text, fragment):
    with pytest.raises(DescriptionError, match=fragment):
        render_kuberay(described(text), STUDY)


@pytest.mark.ray
def test_rays_autoscaler_reads_what_every_group_has():
    """Ray's autoscaler on Kubernetes makes its configuration from the RayCluster."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    (cluster,) = rendered(study=None)
    config = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
    kinds = config["available_node_types"]
    gibibyte = 2**30
    assert kinds.pop("headgroup") == {
        "min_workers": 0,
        "max_workers": 0,
        "node_config": {},
        "labels": {},
        "resources": {"CPU": 8, "GPU": 0, "memory": 32 * gibibyte},
    }
    assert kinds["gpus"]["min_workers"] == 0
    assert kinds["gpus"]["max_workers"] == 4
    assert kinds["gpus"]["resources"] == {
        "CPU": 16,
        "GPU": 4,
        "memory": 128 * gibibyte,
        "accelerator_type:A100": 1,
        "fast_disk": 2,
    }
    assert config["idle_timeout_minutes"] == 5
