import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from tests.workloads.samples import Signs
from workloads import registry
from workloads.axis import Axis, AxisKind
from workloads.base import Workload
from workloads.registry import (
    COMMON_AXES,
    ENTRY_POINT_GROUP,
    UnknownWorkloadError,
    WorkloadError,
    find_workload,
    register,
    workload_names,
)


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_found", {})


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch):
    """Pretend that installed packages offer these entry points: the boundary to the installer."""

    def offer(*offers: tuple[str, str]) -> None:
        points = EntryPoints(EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in offers)
        monkeypatch.setattr(registry, "entry_points", lambda **wanted: points.select(**wanted))

    return offer


def variant(**attributes: object) -> type[Workload]:
    return type("Variant", (Signs,), attributes)


def axis(name: str, default: float | None = 1.0) -> Axis:
    return Axis(name=name, kind=AxisKind.NUMBER, meaning="", default=default, maximum=5)


def test_the_installed_project_offers_digits_and_teacher():
    assert {"digits", "teacher"} <= set(workload_names())
    assert find_workload("digits").name == "digits"


def test_names_are_listed_without_importing_torch_or_a_plug_in():
    script = (
        "import sys, workloads.registry as r; names = r.workload_names(); "
        "assert 'digits' in names, names; "
        "assert not {'torch', 'sklearn', 'workloads.digits'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_registered_class_is_found_by_name_and_made_once():
    register(Signs)
    assert isinstance(find_workload("signs"), Signs)
    assert find_workload("signs") is find_workload("signs")
    assert "signs" in workload_names()


def test_a_class_defined_again_replaces_its_predecessor():
    register(variant(version=1))
    assert find_workload("signs").version == 1
    register(variant(version=2))
    assert find_workload("signs").version == 2


def test_another_class_of_the_same_name_is_refused_naming_both():
    register(Signs)
    with pytest.raises(WorkloadError, match=r"Two workloads.*samples\.Signs and .*Variant"):
        register(variant())


def test_an_entry_point_may_name_a_class_that_also_registers_itself(offer):
    offer(("signs", "tests.workloads.samples:Signs"))
    register(Signs)
    assert isinstance(find_workload("signs"), Signs)


def test_an_entry_point_and_another_registered_class_of_one_name_are_refused(offer):
    offer(("signs", "tests.workloads.samples:Signs"))
    register(variant())
    with pytest.raises(WorkloadError, match="Two workloads are named 'signs'"):
        find_workload("signs")


def test_two_plug_ins_of_one_name_are_refused_naming_both(offer):
    offer(("signs", "tests.workloads.samples:Signs"), ("signs", "elsewhere:Signs"))
    with pytest.raises(
        WorkloadError, match=r"Two plug-ins.*elsewhere:Signs.*tests\.workloads\.samples:Signs"
    ):
        find_workload("signs")


def test_one_plug_in_offered_twice_is_no_conflict(offer):
    offer(*[("signs", "tests.workloads.samples:Signs")] * 2)
    assert isinstance(find_workload("signs"), Signs)


def test_an_unknown_name_is_answered_with_those_that_exist(offer):
    offer(("digits", "workloads.digits:Digits"), ("teacher", "workloads.teacher:Teacher"))
    with pytest.raises(UnknownWorkloadError) as caught:
        find_workload("digit")
    assert str(caught.value) == (
        "Unknown workload 'digit'. Available: digits, teacher. "
        "Others load from entry points 'scaling_study.workloads'."
    )
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no.such.module:Thing", "ModuleNotFoundError"),
        ("tests.workloads.samples:Missing", "AttributeError"),
        ("tests.workloads.raising_plugin:Broken", "RuntimeError: the licence server is away"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_named_with_the_reason(offer, value, reason):
    offer(("mine", value))
    assert "mine" in workload_names()
    with pytest.raises(WorkloadError, match=f"'mine'.*{value}.*failed to load: {reason}"):
        find_workload("mine")


def test_a_plug_in_under_another_name_than_its_own_is_refused(offer):
    offer(("mine", "tests.workloads.samples:Signs"))
    with pytest.raises(WorkloadError, match="name is 'signs', but it is offered as 'mine'"):
        find_workload("mine")


def test_a_plug_in_that_is_no_workload_is_refused(offer):
    offer(("mine", "tests.workloads.samples:SIZES"))
    with pytest.raises(WorkloadError, match="not a subclass"):
        find_workload("mine")


def test_a_workload_that_cannot_be_made_is_named_with_the_reason():
    def fail(self: object) -> None:
        raise OSError("no disk")

    register(variant(__init__=fail))
    with pytest.raises(WorkloadError, match=r"Variant\(\) raised OSError: no disk"):
        find_workload("signs")


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        ({"version": None}, "version is None"),
        ({"version": True}, "version is True"),
        ({"chance_error": 0.0}, r"chance_error is 0\.0"),
        ({"chance_error": 1.1}, r"chance_error is 1\.1"),
        ({"stackable": "yes"}, "stackable is 'yes'"),
        ({"model_size": 64}, "model_size is 64"),
        ({"axes": [axis("a")]}, "axes is .*allowed: a tuple"),
        ({"axes": (axis("a"), axis("a"))}, "axis 'a' is declared twice"),
        ({"axes": (axis("a", default=None),)}, "axis 'a' has no default"),
        ({"axes": (axis("a", default=9.0),)}, "axis 'a' does not admit its own default"),
        *[({"axes": (axis(name),)}, f"axis '{name}' has the name of") for name in COMMON_AXES],
    ],
)
def test_a_class_that_breaks_the_contract_is_refused_with_the_fault(attributes, fault):
    with pytest.raises(WorkloadError, match=f"breaks the contract.*{fault}"):
        register(variant(**attributes))


def test_a_class_that_lacks_methods_is_refused_with_their_names():
    class Unfinished(Workload):
        name = "unfinished"
        version = 1
        model_size = Signs.model_size
        chance_error = 0.5
        data = Signs.data
        model = Signs.model

    with pytest.raises(WorkloadError, match="methods are not defined: error, loss"):
        register(Unfinished)


def test_a_class_without_a_name_is_refused():
    with pytest.raises(WorkloadError, match="has name None"):
        register(variant(name=None))
