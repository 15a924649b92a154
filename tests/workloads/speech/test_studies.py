"""The shipped studies of speech can be planned as they stand, and admit an exponent."""

from pathlib import Path

import pytest

from orchestrator.forecast import study_limits
from orchestrator.planning import plan_study
from orchestrator.study_file.study import Study
from tests.workloads.needed_data import needs
from workloads import register
from workloads.data.catalogue import FESTVOX_RU
from workloads.speech.ctc import SpeechCtcLstm
from workloads.speech.frames import SpeechFramesCnn, SpeechFramesMlp

STUDIES = Path(__file__).parents[3] / "studies"


@needs(FESTVOX_RU)
@pytest.mark.parametrize(
    ("name", "workload"),
    [
        ("baidu_speech", SpeechFramesMlp),
        ("baidu_speech_cnn", SpeechFramesCnn),
        ("baidu_speech_ctc", SpeechCtcLstm),
    ],
)
def test_the_study_spans_two_decades_with_five_seeds(name, workload):
    register(workload)
    plan = plan_study(Study.from_file(STUDIES / f"{name}.yaml"))
    sizes = sorted({cell.train_examples for cell in plan.cells.values()})
    assert sizes[-1] >= 100 * sizes[0]
    assert len({cell.seed for cell in plan.cells.values()}) >= 5
    (limits,) = study_limits(plan)
    assert "admits an interval of β" in " ".join(limits.sentences())
