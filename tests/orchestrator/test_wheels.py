"""Wheels that travel with a job."""

import zipfile

import pytest

from orchestrator.errors import RequestError
from orchestrator.wheels import unpacked


def a_wheel(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def test_packages_and_their_metadata_are_what_a_worker_needs(tmp_path):
    one = a_wheel(
        tmp_path / "one-1-py3-none-any.whl", "one/__init__.py", "one/sub/x.py", "one-1.dist-info/R"
    )
    two = a_wheel(tmp_path / "two-1-py3-none-any.whl", "two.py", "two-1.dist-info/R")
    tops = unpacked([one, two], tmp_path / "packages")
    assert [top.name for top in tops] == ["one", "one-1.dist-info", "two-1.dist-info", "two.py"]
    assert (tmp_path / "packages/one/sub/x.py").is_file()


@pytest.mark.parametrize(
    ("name", "names", "message"),
    [
        ("a-1-cp311-cp311-linux_x86_64.whl", ["a/x.py"], "only wheels of pure Python travel"),
        ("a-1-py3-none-any.whl", ["a.so", "a-1.dist-info/R"], "holds a.so at its top"),
        ("a-1-py3-none-any.whl", ["analysis/x.py", "orchestrator/x.py"], "scaling-study itself"),
        ("a-1-py3-none-any.whl", ["a/x.py", "a-1.data/scripts/a"], "holds a-1.data at its top"),
    ],
)
def test_what_cannot_travel_is_refused(tmp_path, name, names, message):
    with pytest.raises(RequestError, match=message):
        unpacked([a_wheel(tmp_path / name, *names)], tmp_path / "packages")


def test_two_wheels_of_one_package_are_refused(tmp_path):
    wheels = [a_wheel(tmp_path / f"a-{n}-py3-none-any.whl", "a/x.py") for n in (1, 2)]
    with pytest.raises(RequestError, match="a is in another of the wheels too"):
        unpacked(wheels, tmp_path / "packages")


def test_a_file_that_is_no_wheel_is_refused_with_how_to_make_one(tmp_path):
    (tmp_path / "a-1-py3-none-any.whl").write_text("no zip")
    with pytest.raises(RequestError, match="pip wheel --no-deps"):
        unpacked([tmp_path / "a-1-py3-none-any.whl"], tmp_path / "packages")
    with pytest.raises(RequestError, match="cannot be read"):
        unpacked([tmp_path / "b-1-py3-none-any.whl"], tmp_path / "packages")
