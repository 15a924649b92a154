"""What `plan` says a study can decide: from its grids, and from simulated studies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.design.batch_law import BatchLawDesign
from analysis.design.power_law import PowerLawDesign
from analysis.errors import FitError
from orchestrator import forecast
from orchestrator.forecast import Power, study_limits, study_power
from orchestrator.planning import plan_study
from orchestrator.study_file.study import Study
from tests.analysis.stores import batch_law_cells, learning_curve_cells, write_store
from tests.orchestrator.test_cli import run

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "studies" / "quickstart.yaml")

SMALL = """
name: small
workload: digits
seeds: 5
grids:
  law:
    dataset_fraction: 1.0
    model_size: 4
    batch_size: {log2: [1, 256]}
    learning_rate: [0.05, 0.1, 0.2, 0.4]
    momentum: [0.5, 0.75]
    budget: {steps: 20}
  curve:
    dataset_fraction: [0.05, 0.1, 0.25, 0.5, 1.0]
    model_size: 4
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 20}
  neither:
    model_size: 4
    batch_size: [16, 32]
    learning_rate: 0.1
    budget: {steps: 20}
"""


@pytest.fixture
def few_sets(monkeypatch):
    monkeypatch.setattr(forecast, "FEWEST_SETS", 2)
    monkeypatch.setattr(forecast, "MOST_SETS", 2)


@pytest.fixture(scope="module")
def plan():
    return plan_study(Study.from_text(SMALL))


def by_grid(found):
    return {each.grid: each for each in found}


def test_grids_are_asked_the_laws_that_a_report_will_ask(plan):
    found = by_grid(study_limits(plan))
    law, curve = found["law"].sentences(), found["curve"].sentences()
    assert "train_examples: The factor has 1 level; at least 3" in law[0]
    assert "momentum: The factor has 2 levels; at least 3" in law[1]
    assert "verdict on learning_rate: 8 curves of 9 batch sizes with 5 seeds" in law[2]
    assert "5 sizes over 1.3 decades, 5 seeds" in curve[0]
    assert found["neither"].law is None
    assert "4 distinct train_examples" in found["neither"].sentences()[0]


def test_parts_of_a_grid_are_judged_one_by_one():
    text = SMALL.replace(
        "    learning_rate: [0.05", "    label_noise: [0.0, 0.2]\n    learning_rate: [0.05"
    )
    parts = [each.part for each in study_limits(plan_study(Study.from_text(text)))]
    assert parts[:2] == ["label_noise = 0", "label_noise = 0.2"]


def test_power_is_simulated_with_the_noise_given(plan, few_sets):
    found = by_grid(study_power(plan, Power(noise=0.002, depth=0.03)))
    law, curve = found["law"].answer, found["curve"].answer
    assert isinstance(law, BatchLawDesign)
    assert isinstance(curve, PowerLawDesign)
    assert (law.noise, law.sets) == (0.002, 2)
    assert "depth 0.03" in law.assumptions[0]
    assert curve.curve[1] == forecast.ASSUMED_EXPONENT
    assert curve.validation_examples == 386  # of digits: 1,797 less 1,024 and 387


def test_power_takes_a_pilot_of_the_grids_named_alike_or_the_only_one(plan, few_sets, tmp_path):
    cells = {"law": batch_law_cells(noise=0.02), "other": learning_curve_cells(noise=0.07)}
    store = write_store(tmp_path / "pilot", {"earlier": cells})
    found = by_grid(study_power(plan, Power(pilot=str(store))))
    assert "curves share" in found["law"].answer.assumptions[0]
    assert found["curve"].answer.noise == pytest.approx(0.07, rel=0.3)
    assert found["curve"].answer.curve[1] == pytest.approx(-0.35, abs=0.1)


def test_a_pilot_without_the_law_is_refused(plan, few_sets, tmp_path):
    store = write_store(tmp_path / "pilot", {"earlier": {"curve": learning_curve_cells()}})
    with pytest.raises(FitError, match="must have one grid for the batch-size law"):
        study_power(plan, Power(pilot=str(store)))


def test_the_number_of_simulated_studies_is_bounded():
    grid = by_grid(study_limits(plan_study(Study.from_text(SMALL))))["law"].answer.grid
    assert forecast._affordable_sets(grid, 1000) == forecast.MOST_SETS
    assert forecast._affordable_sets(grid, 0.001) == forecast.FEWEST_SETS


def test_plan_says_what_the_quickstart_can_decide_without_simulation(tmp_path):
    code = (
        "import sys\n"
        "from orchestrator.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'scipy' not in sys.modules"
    )
    store = str(tmp_path / "none")
    answer = subprocess.run(
        [sys.executable, "-c", code, "plan", QUICKSTART, "--store", store],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert answer.returncode == 0, answer.stderr
    assert "11 sizes over 1.5 decades, 16 seeds" in answer.stdout
    assert "learning_rate, train_examples, momentum: 27 curves of 6 to 8 batch" in answer.stdout
    # ε, N and 1/(1-m) span two octaves each. That half of its curves have an optimum inside needs
    # one about the middle; on the real digits 14 of 27 curves had none, and it was censored.
    assert "moves over 6 octaves from curve to curve" in answer.stdout
    assert "elsewhere the verdict would be censored" in answer.stdout
    assert "add --power" in answer.stdout


def test_plan_gives_the_forecast_as_json(tmp_path):
    result = run("plan", QUICKSTART, "--store", str(tmp_path / "none"), "--json")
    found = {each["grid"]: each for each in json.loads(result.stdout)["forecast"]}
    assert found["batch_law"]["answer"]["can_decide"] == [
        "learning_rate",
        "train_examples",
        "momentum",
    ]
    assert found["batch_law"]["answer"]["optimum_moves_octaves"] == pytest.approx(6)
    assert found["learning_curve"]["answer"]["decades"] == pytest.approx(1.505, abs=0.001)


def test_plan_prints_simulated_power_when_asked(tmp_path, few_sets):
    (tmp_path / "study.yaml").write_text(SMALL)
    arguments = ["plan", str(tmp_path / "study.yaml"), "--store", str(tmp_path / "none")]
    shown = run(*arguments, "--power", "--noise", "0.003").stdout
    assert "with noise σ = 0.003 it would support a true exponent of 1 in" in shown
    assert "not a promise" in shown
    assert "add --power" not in shown
    document = json.loads(run(*arguments, "--power", "--json").stdout)
    law = next(each for each in document["forecast"] if each["grid"] == "law")
    assert law["answer"]["sets"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--noise", "0.01"], "add --power"),
        (["--pilot", "somewhere"], "add --power"),
        (["--power", "--noise", "0"], "--noise is 0; allowed: above 0"),
        (["--power", "--noise", "nan"], "--noise is nan; allowed"),
        (["--power", "--depth", "-1"], "--depth is -1; allowed"),
        (["--power", "--pilot", "x", "--noise", "0.01"], "exclude each other"),
        (["--power", "--pilot", "nowhere"], "nowhere"),
    ],
)
def test_bad_assumptions_exit_2_with_one_message(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(SMALL)
    result = run("plan", "study.yaml", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
