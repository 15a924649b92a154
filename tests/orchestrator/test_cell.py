"""The identity of a cell: what changes it, what must not, and that it never drifts."""

import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cell import Cell, canonical_json

CELL = Cell(
    workload="digits",
    workload_version=1,
    data_fingerprint="00112233445566ff",
    dataset_fraction=0.5,
    train_examples=512,
    model_size=64,
    batch_size=32,
    learning_rate=0.1,
    momentum=0.9,
    seed=3,
    steps=1000,
    budget="steps=1000",
    workload_axes=(("label_noise", 0.0),),
    default_axes=("label_noise",),
)


def test_cell_ids_are_golden():
    # Computed once by sha256sum over the text of the next test, 16 digits:
    # a change here gives every stored result a new name, and must be deliberate.
    assert CELL.cell_id == "5874ddcfed086365"
    noisy = replace(CELL, workload_axes=(("label_noise", 0.25),), default_axes=())
    assert noisy.cell_id == "f6f8c8e2b460d068"


def test_the_hashed_text_is_the_documented_one():
    assert canonical_json(CELL.identity()) == (
        '{"batch_size":32,"data_fingerprint":"00112233445566ff","dataset_fraction":0.5,'
        '"evaluation_schedule":"geometric:12","learning_rate":0.1,'
        '"learning_rate_schedule":"constant","model_size":64,"momentum":0.9,"optimizer":"sgd",'
        '"precision":"float32","seed":3,"steps":1000,"train_examples":512,"training_version":1,'
        '"workload":"digits","workload_axes":{},"workload_version":1}'
    )


def test_everything_that_determines_the_result_changes_the_identity():
    changes = {
        "workload": "teacher",
        "workload_version": 2,
        "data_fingerprint": "ff",
        "dataset_fraction": 0.25,
        "train_examples": 256,
        "model_size": 65,
        "batch_size": 16,
        "learning_rate": 0.2,
        "momentum": 0.0,
        "weight_decay": 0.01,
        "seed": 4,
        "steps": 999,
        "default_axes": (),
        "optimizer": "adam",
        "learning_rate_schedule": "cosine",
        "batch_size_schedule": "increase:5@0.5",
        "evaluation_schedule": "geometric:6",
        "precision": "bfloat16",
        "training_version": 2,
    }
    ids = {replace(CELL, **{name: value}).cell_id for name, value in changes.items()}
    assert len(ids | {CELL.cell_id}) == len(changes) + 1


def test_the_wording_of_the_budget_does_not_change_the_identity():
    assert replace(CELL, budget="epochs=62.5").cell_id == CELL.cell_id


def test_an_axis_at_its_default_is_omitted_so_that_a_workload_may_gain_one():
    older = replace(CELL, workload_axes=(), default_axes=())
    assert older.cell_id == CELL.cell_id


def test_a_cell_without_weight_decay_has_the_identity_of_before_there_was_any():
    # The golden one above, which was computed before cells had a weight decay.
    for none in (0, 0.0, -0.0):
        assert replace(CELL, weight_decay=none).cell_id == "5874ddcfed086365"
    assert '"weight_decay":0.01' in canonical_json(replace(CELL, weight_decay=0.01).identity())


def test_a_cell_whose_batch_stays_has_the_identity_of_before_batches_grew():
    assert replace(CELL, batch_size_schedule="constant").cell_id == "5874ddcfed086365"
    growing = replace(CELL, batch_size_schedule="increase:5@0.5")
    assert '"batch_size_schedule":"increase:5@0.5"' in canonical_json(growing.identity())


def test_the_recipe_of_a_cell_has_all_that_its_steps_depend_on():
    values = {
        "weight_decay": 0.01,
        "optimizer": "adam",
        "learning_rate_schedule": "cosine",
        "batch_size_schedule": "increase:5@0.5",
    }
    recipe = replace(CELL, **values).recipe()
    assert {name: getattr(recipe, name) for name in values} == values


def test_a_cell_knows_the_examples_in_its_batches():
    assert CELL.examples_seen == 1000 * 32
    # 512 examples: 16 batches of 32 in each of 2 epochs, then 10 of 51 in each of 2.
    growing = replace(CELL, batch_size_schedule="increase:2@0.5", steps=2 * 16 + 2 * 10)
    assert growing.examples_seen == 2 * 512 + 2 * 510


def test_floats_that_agree_to_12_digits_are_one_value():
    assert canonical_json(0.1 * 3) == canonical_json(0.3) == "0.3"
    assert canonical_json(-0.0) == canonical_json(0.0) == "0.0"


def test_cell_ids_agree_in_a_process_with_another_hash_seed():
    answer = subprocess.run(
        [sys.executable, "-c", f"from orchestrator.cell import Cell; print({CELL!r}.cell_id)"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert answer.stdout.strip() == CELL.cell_id


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        ({1: 2}, "keys must be text"),
        ({"a": {1, 2}}, "value.a is a set"),
        ([np.float64(1.0)], "value[0] is a float64"),
        (object(), "is a object"),
        (b"bytes", "is a bytes"),
    ],
)
def test_values_without_stable_bytes_are_refused_by_place(value, fragment):
    with pytest.raises((TypeError, ValueError)) as caught:
        canonical_json(value)
    assert fragment in str(caught.value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(json_values)
def test_canonical_json_is_a_fixed_point(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


awkward = (
    st.sampled_from([0, 1, 2, 0.0, -0.0, 1.0, 2.0, True, False, 0.1 * 3, 0.3, 1e22, 5e-324, "1"])
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
"""Values of which many are equal in Python and differ in JSON, or the other way round."""

SCALARS = sorted({*CELL.identity(), "weight_decay", "batch_size_schedule"} - {"workload_axes"})


@st.composite
def any_cell(draw):
    names = sorted(draw(st.sets(st.sampled_from(["a", "b", 'c"{0}', "δ"]))))
    axes = tuple((name, draw(awkward)) for name in names)
    at_default = tuple(name for name in names if draw(st.booleans()))
    values = {name: draw(awkward) for name in SCALARS}
    return replace(CELL, workload_axes=axes, default_axes=at_default, **values)


@settings(max_examples=500)
@given(any_cell())
def test_a_cell_id_is_the_hash_of_the_canonical_json_of_the_identity(cell):
    text = canonical_json(cell.identity())
    assert cell.cell_id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_identity_of_a_value_is_its_own_whatever_equal_value_came_before():
    texts = {"True": "true", "1": "1", "1.0": "1.0"}
    for value in (1, 1.0, True, 1):
        for cell in (
            replace(CELL, model_size=value),
            replace(CELL, workload_axes=(("depth", value),)),
        ):
            text = canonical_json(cell.identity())
            assert texts[str(value)] in text
            assert cell.cell_id == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"learning_rate": math.nan}, "value.learning_rate is nan"),
        ({"model_size": np.float64(4.0)}, "value.model_size is a float64"),
        ({"workload_axes": (("depth", np.int64(4)),)}, "value.workload_axes.depth is a int64"),
        ({"workload_axes": (("depth", {4}),)}, "value.workload_axes.depth is a set"),
    ],
)
def test_a_cell_without_stable_bytes_has_no_id_and_says_where(change, place):
    with pytest.raises((TypeError, ValueError), match=place):
        _ = replace(CELL, **change).cell_id


def test_a_cell_that_travels_or_varies_has_the_identity_of_its_values():
    assert CELL.cell_id
    assert pickle.loads(pickle.dumps(CELL)).cell_id == CELL.cell_id
    varied = replace(CELL, seed=4)
    assert varied.cell_id == replace(varied).cell_id != CELL.cell_id
    assert replace(CELL) == CELL
