"""A check of a real cluster on this machine: one node declares what it lacks, one lacks us."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator.cluster_check import answers_strangers

THREE_NODES = """
import json, sys
from dataclasses import asdict, replace
from pathlib import Path
from ray.cluster_utils import Cluster
from cluster.health import faults
from orchestrator import Store
from orchestrator.cluster_check import check_cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1, num_gpus=64)  # which this machine does not have
cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": sys.argv[3]})
store = Store(sys.argv[1])
report = check_cluster(cluster.address, store)
print(json.dumps([[asdict(node) for node in report.nodes], faults(report)]))
print([str(path) for path in (Path(sys.argv[1]) / "checks").iterdir()])
# As if nodes wrote to another disk: in this process alone, notes are read from elsewhere.
read = Store.read_note
Store.read_note = lambda store, name: read(Store(sys.argv[2]), name)
report = check_cluster(cluster.address, store)
print(json.dumps([faults(replace(report, nodes=(node,))) for node in report.nodes]))
Store.read_note = read
import os, subprocess
without = subprocess.run(
    [sys.executable, "-m", "orchestrator", "cluster", "check", "--store", str(store.location),
     "--address", cluster.address],
    env={**os.environ, "RAY_AUTH_TOKEN": "x" * 32}, capture_output=True, text=True)
print(json.dumps([without.returncode, without.stderr]))
from orchestrator import cli
sys.argv = ["scaling-study", "cluster", "check", "--store", str(store.location),
            "--address", cluster.address]
try:
    cli.main()
except SystemExit as end:
    print(end.code)
cluster.shutdown()
"""

WITHOUT_US = """
import sys

class Refusal:
    def find_spec(self, name, *_):
        if name == "orchestrator":
            raise ImportError("half an installation")

sys.meta_path.insert(0, Refusal())
"""


@pytest.mark.parametrize(
    ("status", "answered"), [(200, True), (401, False), (403, False), (404, True)]
)
def test_a_dashboard_is_asked_without_a_token(caplog, status, answered):
    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self):
            assert "Authorization" not in self.headers
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert answers_strangers(f"127.0.0.1:{server.server_port}") is answered
        thread.join()
        closed = server.server_port
    assert not caplog.records
    assert not answers_strangers(f"127.0.0.1:{closed}")
    assert "cannot be asked whether it is open" in caplog.text


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_every_node_is_asked_and_its_faults_are_named(command_line, tmp_path):
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "sitecustomize.py").write_text(WITHOUT_US)
    folders = [str(tmp_path / "store"), str(tmp_path / "other"), str(torn)]
    command = [sys.executable, "-c", THREE_NODES, *folders]
    answer = subprocess.run(
        command,
        env={**command_line.environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "s" * 32},
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = answer.stdout.splitlines()
    assert len(lines) > 3, answer.stderr
    reports, told = json.loads(lines[0])
    assert sorted(report["gpus"] for report in reports) == [0, 0, 64]
    (silent,) = [report for report in reports if report["silent"]]
    assert "nothing of ours runs there" in silent["silent"]
    assert "half an installation" in silent["silent"]
    reports.remove(silent)
    for report in reports:
        assert report["versions"]["ray"] == reports[0]["versions"]["ray"] != "missing"
        assert abs(report["clock_ahead"]) < 1  # one machine has one clock
        assert (report["reads"], report["writes"]) == ("", "")
    assert len(told) == 2  # of the node that lacks us, and of the one with 64 GPUs
    assert any("the cluster schedules 64 GPUs on it, and torch sees" in each for each in told)
    assert any(silent["silent"] in each for each in told)
    assert lines[1] == "[]"  # nothing is left in the store
    elsewhere = "cannot write to the store what the driver reads there"
    said = [any(elsewhere in each for each in own) for own in json.loads(lines[2])]
    assert sorted(said) == [False, True, True]
    code, complaint = json.loads(lines[3])  # of one with another token
    assert code == 3
    assert "Traceback" not in complaint
    assert "Check the address, the token and the cluster" in complaint
    shown = lines[4:]
    assert shown[0].startswith("The driver has python ")
    assert sum("the same" in line for line in shown) == 2  # a row for each node
    assert sum("no answer" in line for line in shown) == 1
    assert shown[-2:] == ["2 faults on 3 nodes", "3"]
