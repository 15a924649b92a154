"""What a run says on standard error where nobody watches."""

import json

import pytest

STUDY = """
name: told
workload: misbehaving
seeds: 3
grids:
  all:
    fault: [none, raise]
    model_size: 4
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
    where: fault == 'none' or seed == 2
"""


@pytest.mark.ray
@pytest.mark.slow
def test_every_event_of_a_pack_or_cell_carries_its_id(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "switch").touch()
    answer = command_line("run", "study.yaml", "--store", "results", "--log", "json", "--json")
    assert answer.returncode == 1, answer.stderr
    told = json.loads(answer.stdout)  # to which the log does not belong
    (failed,) = told["failed"]
    events = [json.loads(line) for line in answer.stderr.splitlines()]
    assert [(each["study"], each["cells"]) for each in events if "study" in each] == [("told", 4)]
    begun = {each["pack_id"] for each in events if each["message"].endswith("begins.")}
    durable = [each for each in events if "durable" in each["message"]]
    assert {each["pack_id"] for each in durable} == begun
    assert sum(each["cells"] for each in durable) == told["trained"] == 3
    (fault,) = [each for each in events if each["level"] == "warning"]
    assert fault["cell_id"] == failed
    assert fault["pack_id"] in begun
    assert "ArithmeticError: this cell was asked" in fault["message"]
    assert fault["time"].endswith("+00:00")


@pytest.mark.ray
@pytest.mark.slow
def test_lines_for_people_are_told_without_being_asked_for(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("[none, raise]", "none"))
    answer = command_line("run", "study.yaml", "--store", "results")
    assert answer.returncode == 0, answer.stderr
    assert "INFO: Study told: 3 cells in" in answer.stderr
    assert "Ended: 3 of 3, 0 failed." in answer.stderr
