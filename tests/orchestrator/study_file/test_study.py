import contextlib
import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.capacity import TrialResources
from orchestrator.errors import StudyFileError
from orchestrator.study_file.budget import Budget, BudgetKind
from orchestrator.study_file.study import Resources, Study, study_axes
from orchestrator.study_file.yaml_lines import Document, dump
from tests.orchestrator.malformed import WELL_FORMED
from tests.orchestrator.stand_in import StandIn
from workloads.axis import Axis, AxisKind

QUICKSTART = """\
# A study of two grids.
name: quickstart
workload: digits
seeds: 5
grids:
  learning_curve:
    dataset_fraction: {log2: [0.0625, 1.0]}
    model_size: [16, 64, 256]
    batch_size: 32
    learning_rate: 1e-1
    momentum: 0.9
    budget: {epochs: 40}

  batch_law:
    model_size: 64
    batch_size: {log2: [1, 512]}
    learning_rate: [0.05, 0.1]
    schedule: cosine
    seeds: [7, 3]
    budget: {steps: 1000}
    where: >-
      batch_size <= train_examples
      and schedule != 'constant'
"""


def study(text: str) -> Study:
    return Study.from_text(text, "studies/x.yaml", StandIn())


def dictionary(**changes: Any) -> dict[str, Any]:
    grid = {
        "model_size": 16,
        "batch_size": 8,
        "learning_rate": 0.1,
        "budget": {"epochs": 2},
        **changes,
    }
    return {"name": "python", "seeds": 1, "grids": {"only": grid}}


def test_a_study_file_becomes_grids_with_every_axis_filled_in() -> None:
    curve, law = study(QUICKSTART).grids
    assert curve.axes == {
        "dataset_fraction": (0.0625, 0.125, 0.25, 0.5, 1.0),
        "model_size": (16, 64, 256),
        "batch_size": (32,),
        "learning_rate": (0.1,),
        "momentum": (0.9,),
        "weight_decay": (0.0,),
        "optimizer": ("sgd",),
        "learning_rate_schedule": ("constant",),
        "batch_size_schedule": ("constant",),
        "label_noise": (0.0,),
        "schedule": ("constant",),
        "seed": (0, 1, 2, 3, 4),
    }
    assert curve.budget == Budget(kind=BudgetKind.EPOCHS, amount=40)
    assert curve.where is None
    assert law.axes["dataset_fraction"] == (1.0,)
    assert law.axes["momentum"] == (0.0,)
    assert law.axes["schedule"] == ("cosine",)
    assert law.axes["seed"] == (7, 3)
    assert law.where is not None
    assert law.where.names == {"batch_size", "train_examples", "schedule"}


def test_points_are_counted_without_being_made() -> None:
    assert study(QUICKSTART).points() == 5 * 3 * 5 + 10 * 2 * 2
    many = {"log": [1e-9, 1], "points": 10_000}
    huge = Study.from_dict(
        dictionary(learning_rate=many, label_noise=many, dataset_fraction=many, momentum=0.5),
        StandIn(),
    )
    assert huge.points() == 10**12


def test_a_grid_knows_the_lines_of_its_axes() -> None:
    parsed = study(QUICKSTART)
    law = parsed.grids[1]
    assert law.line == 14
    assert law.lines["batch_size"] == 16
    assert law.lines["schedule"] == 18
    assert law.lines["seed"] == 19
    assert law.lines["where"] == 21
    assert law.lines["momentum"] == 14  # not stated: the grid's own
    assert parsed.grids[0].lines["seed"] == 4
    error = parsed.located(law.lines["batch_size"], "batch_size 512 is too large.")
    assert isinstance(error, StudyFileError)
    assert str(error) == "studies/x.yaml:16: batch_size 512 is too large."


def test_a_file_and_its_text_give_the_same_study(tmp_path: Path) -> None:
    path = tmp_path / "quickstart.yaml"
    path.write_text(QUICKSTART, encoding="utf-8-sig", newline="\r\n")
    workload = StandIn()
    from_file = Study.from_file(path, workload)
    assert from_file.grids == Study.from_text(QUICKSTART, workload=workload).grids
    assert from_file.source == str(path)
    assert from_file.grids[1].lines["where"] == 21


def test_values_in_python_give_the_same_study_as_the_file_that_they_become() -> None:
    workload = StandIn()
    values = {**yaml.safe_load(QUICKSTART.replace("1e-1", "0.1")), "seeds": 5}
    made = Study.from_dict(values, workload)
    assert made.grids == Study.from_text(QUICKSTART, workload=workload).grids
    assert Study.from_text(made.text, workload=workload) == made


def test_python_values_of_numpy_enums_and_tuples_are_taken_as_plain_ones() -> None:
    class Schedule(StrEnum):
        COSINE = "cosine"

    made = Study.from_dict(
        dictionary(
            learning_rate=tuple(np.array([0.1, 0.2])),
            batch_size=np.int64(4),
            model_size=range(1, 3),
            schedule=Schedule.COSINE,
        ),
        StandIn(),
    )
    (grid,) = made.grids
    assert grid.axes["learning_rate"] == (0.1, 0.2)
    assert grid.axes["model_size"] == (1, 2)
    assert type(grid.axes["schedule"][0]) is str
    assert Study.from_text(made.text, workload=made.workload) == made


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.arange(3), r"grids.only.batch_size is array\(\[0, 1, 2\]\) \(ndarray\); allowed: text"),
        ({3}, r"grids.only.batch_size is \{3\} \(set\); allowed: text"),
        (2**63, r"9223372036854775808 \(int\); allowed: .* integers of 64 bits"),
        ({1: 2}, r"keys are text"),
        ("\ud800", r"^<study>: '\\ud800' has '\\ud800', half a character"),
        ({"\ud800": 1}, r"^<study>: '\\ud800' has '\\ud800', half a character"),
        (0, r"^<study>: grid 'only': batch_size is 0; allowed: an integer in \[1, inf\)"),
    ],
)
def test_python_values_that_no_file_could_hold_are_refused_by_place(
    value: object, words: str
) -> None:
    with pytest.raises(StudyFileError, match=words):
        Study.from_dict(dictionary(batch_size=value), StandIn())


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(StudyFileError, match="more than 20 lists and mappings inside each other"):
        Study.from_dict(dictionary(batch_size=endless), StandIn())


def test_the_workload_given_must_be_the_one_that_the_file_names() -> None:
    with pytest.raises(StudyFileError, match=r"x\.yaml:2: workload is 'images', but .* 'digits'"):
        study(WELL_FORMED.replace("workload: digits", "workload: images"))


def test_the_workloads_own_axes_are_checked_by_the_workload() -> None:
    with pytest.raises(
        StudyFileError, match=r"x\.yaml:12: .*schedule is 'linear'; allowed: one of"
    ):
        study(WELL_FORMED + "    schedule: linear\n")
    with pytest.raises(StudyFileError, match=r"x\.yaml:12: .*label_noise is 2; allowed: a number"):
        study(WELL_FORMED + "    label_noise: [0, 2]\n")
    with pytest.raises(StudyFileError, match=r"'<' orders text; allowed for text: == and !="):
        study(WELL_FORMED + "    where: schedule < 'm'\n")


def test_model_size_must_be_stated_even_where_the_workload_has_a_default() -> None:
    assert StandIn.model_size.default is not None
    (size,) = (axis for axis in study_axes(StandIn()) if axis.name == "model_size")
    assert size.default is None


def test_resources_follow_the_number_of_parameters() -> None:
    rules = """\
resources:
- {up_to_parameters: 1e6, cpus: 1, gpus: 0.25}
- {up_to_parameters: 1e8, cpus: 2, gpus: 1}
- {cpus: 8, gpus: 4}
"""
    resources = study(WELL_FORMED + rules).resources
    assert resources.for_parameters(10**6) == TrialResources(cpus=1, gpus=0.25)
    assert resources.for_parameters(10**6 + 1) == TrialResources(cpus=2, gpus=1)
    assert resources.for_parameters(10**12) == TrialResources(cpus=8, gpus=1, workers=4)
    assert study(WELL_FORMED).resources == Resources()
    assert Resources().for_parameters(10**12) == TrialResources(cpus=1, gpus=0)
    several = study(WELL_FORMED + "resources: {cpus: 2, gpus: 0, workers: 3}\n").resources
    assert several.for_parameters(1) == TrialResources(cpus=2, gpus=0, workers=3)
    named = "resources: {cpus: 1, gpus: 1, accelerator_type: A100, custom: {disk: 2, api: 0.5}}\n"
    assert study(WELL_FORMED + named).resources.for_parameters(1) == TrialResources(
        cpus=1, gpus=1, named=(("accelerator_type:A100", 0.001), ("api", 0.5), ("disk", 2.0))
    )


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1", 1),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-.inf", -math.inf),
        ("no", "no"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("tRue", "tRue"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2017-12-01", "2017-12-01"),
        ("0b11", "0b11"),
        ("١", "١"),
        ("1e-3x", "1e-3x"),
        ("~", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_does(scalar: str, value: object) -> None:
    read = Document.from_text(f"key: {scalar}", "x").value["key"]
    assert read == value
    assert type(read) is type(value)


plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        "1e-3",
        "no",
        "null",
        "~",
        "",
        "0o7",
        "1_0",
        "true",
        ".inf",
        "- a",
        "a: b",
        "#",
        "<<",
        "\ufeff",
    ]
)
plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False)
    | plain_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(value=plain_values)
def test_what_is_dumped_is_read_back_alike(value: object) -> None:
    read = Document.from_text(dump(value), "x").value
    assert read == value
    assert repr(read) == repr(value)  # 1 and 1.0, 0.0 and -0.0 are told apart


@settings(max_examples=300)
@given(text=st.text(alphabet="ab:-[]{},#&*!|>'\"%@`?~01. \n\t\x00é", max_size=40))
def test_any_text_is_refused_with_a_line(text: str) -> None:
    with pytest.raises(StudyFileError, match=r"\A<study>:[1-9][0-9]*: "):
        Study.from_text(text, workload=StandIn())


KEYS = ["name", "workload", "seeds", "grids", "resources", "g", "budget", "steps", "where", "cpus"]


@settings(max_examples=300)
@given(
    changes=st.dictionaries(
        st.sampled_from([*KEYS, *(axis.name for axis in study_axes(StandIn()))]),
        plain_values,
        max_size=3,
    ),
    top=st.dictionaries(st.sampled_from(KEYS), plain_values, max_size=2),
)
def test_any_values_give_a_study_or_one_kind_of_error(
    changes: dict[str, Any], top: dict[str, Any]
) -> None:
    with contextlib.suppress(StudyFileError):
        made = Study.from_dict({**dictionary(**changes), **top}, StandIn())
        assert made.points() >= 1
        assert Study.from_text(made.text, workload=made.workload) == made


@pytest.mark.parametrize(
    "name", ["steps", "train_loss", "budget", "seeds", "where", "grid", "attempts"]
)
def test_an_axis_named_like_a_column_or_a_word_of_study_files_is_refused(name: str) -> None:
    class Clashing(StandIn):
        axes = (*StandIn.axes, Axis(name=name, kind=AxisKind.NUMBER, meaning="?", default=0.0))

    with pytest.raises(StudyFileError, match=f":3: .*declares the axis '{name}'"):
        Study.from_text(QUICKSTART, workload=Clashing())
