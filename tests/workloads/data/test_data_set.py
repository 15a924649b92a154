import gzip
import hashlib

import numpy as np
import pytest

from workloads.data.cache import cached_arrays
from workloads.data.catalogue import CATALOGUE, DIGITS
from workloads.data.data_set import DataSet, MissingDataError
from workloads.data.folders import VARIABLE
from workloads.errors import WorkloadError


def data_set(**changes):
    settings = {
        "name": "pets",
        "title": "names of pets",
        "examples": "2 names",
        "licence": "CC0-1.0",
        "source": "nobody",
        "files": ("names.txt", "ages.txt"),
        "install": ("tame --into {folder}",),
    }
    return DataSet(**(settings | changes))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    pets = tmp_path / "pets"
    pets.mkdir()
    return pets


def test_a_set_is_where_all_its_files_are_packed_or_not(folder):
    (folder / "names.txt").write_text("Rex")
    assert data_set().find() is None
    (folder / "ages.txt.gz").write_bytes(gzip.compress(b"7"))
    assert data_set().paths() == {
        "names.txt": folder / "names.txt",
        "ages.txt": folder / "ages.txt.gz",
    }
    assert data_set().read("names.txt") == b"Rex"
    assert data_set().read("ages.txt") == b"7"


def test_a_packed_file_that_is_torn_is_named(folder):
    (folder / "names.txt").write_text("Rex")
    packed = gzip.compress(b"7, 8, 9, 10, 11")
    for content in (packed[:-9], b"7", packed[:12] + b"~~" + packed[14:]):
        (folder / "ages.txt.gz").write_bytes(content)
        with pytest.raises(WorkloadError, match=r"ages.txt.gz .* be unpacked .*Remove"):
            data_set().read("ages.txt")


def test_the_users_folder_comes_before_a_packages(folder, tmp_path):
    place = tmp_path / "packaged"
    place.mkdir()
    one = data_set(files=("names.txt",), places=(place,))
    (place / "names.txt").write_text("of the package")
    assert one.read("names.txt") == b"of the package"
    (folder / "names.txt").write_text("of the user")
    assert one.read("names.txt") == b"of the user"


def test_a_missing_set_is_refused_with_the_places_and_the_commands(folder):
    with pytest.raises(MissingDataError) as raised:
        data_set().read("names.txt")
    message = str(raised.value)
    assert f"Looked in {folder}." in message
    assert f"`tame --into {folder}`" in message
    assert VARIABLE in message


def test_a_file_with_another_content_is_refused(folder):
    (folder / "names.txt").write_text("Rex")
    digest = hashlib.sha256(b"Rex").hexdigest()
    right = data_set(files=("names.txt",), digests={"names.txt": digest[:8]})
    assert right.read("names.txt") == b"Rex"
    with pytest.raises(WorkloadError, match=r"is not the file of data set 'pets'"):
        data_set(files=("names.txt",), digests={"names.txt": "00000000"}).read("names.txt")


def test_a_set_inside_a_python_package_is_found_without_importing_it():
    assert DIGITS.paths()["digits.csv.gz"].name == "digits.csv.gz"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_set_of_the_catalogue_says_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    one = CATALOGUE[name]
    assert one.name == name
    assert one.commands()
    assert not any("{" in command for command in one.commands())
    assert one.licence


def test_made_arrays_are_made_once_for_each_key(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return {"squares": np.arange(4) ** 2}

    assert cached_arrays("pets", "recipe 1", make)["squares"].tolist() == [0, 1, 4, 9]
    assert cached_arrays("pets", "recipe 1", make)["squares"].tolist() == [0, 1, 4, 9]
    assert len(made) == 1
    cached_arrays("pets", "recipe 2", make)
    assert len(made) == 2
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
    ],
    ids=["lost", "empty", "torn"],
)
@pytest.mark.parametrize("file", ["cubes.npy", "names.json"])
def test_what_a_cache_has_lost_is_made_again(tmp_path, monkeypatch, file, damage):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return {"squares": np.arange(4) ** 2, "cubes": np.arange(4) ** 3}

    cached_arrays("pets", "recipe 1", make)
    (path,) = tmp_path.rglob(file)
    damage(path)
    for _ in range(2):
        arrays = cached_arrays("pets", "recipe 1", make)
        assert {name: each.tolist() for name, each in arrays.items()} == {
            "squares": [0, 1, 4, 9],
            "cubes": [0, 1, 8, 27],
        }
    assert len(made) == 2
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_cache_that_cannot_be_kept_is_named(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("where a folder must be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(WorkloadError, match=rf"{file}.*Name a folder in XDG_CACHE_HOME"):
        cached_arrays("pets", "recipe 1", lambda: {"squares": np.arange(4) ** 2})


def test_a_cache_that_failed_half_way_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make():
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        cached_arrays("pets", "recipe 1", make)
    assert not list(tmp_path.rglob("*.npy"))
