import re
from pathlib import Path

import pytest

from orchestrator.errors import StudyFileError
from orchestrator.study_file.study import Study
from tests.orchestrator.malformed import MALFORMED, WELL_FORMED
from tests.orchestrator.stand_in import StandIn

JARGON = re.compile(r"pydantic|Input should|validation error|type=|NoneType|Traceback", re.I)
NEXT_STEP = re.compile(r"allowed|add |write |keep |repeat |Available: |one file|Indent ", re.I)


def refusal(text: str, path: Path) -> str:
    path.write_bytes(text.encode())
    # An unknown name must be looked up; every other file must fail before or after that.
    workload = None if "workload: digit\n" in text else StandIn()
    with pytest.raises(StudyFileError) as caught:
        Study.from_file(path, workload)
    return str(caught.value)


def test_the_file_that_the_table_spoils_is_well_formed() -> None:
    assert Study.from_text(WELL_FORMED, workload=StandIn()).points() == 4


def test_the_table_has_no_file_twice() -> None:
    assert len({text for _, text, _ in MALFORMED}) == len({id_ for id_, _, _ in MALFORMED})
    assert len(MALFORMED) >= 50


@pytest.mark.parametrize(
    ("text", "fragment"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_a_malformed_study_is_refused_with_line_value_and_what_is_allowed(
    text: str, fragment: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    message = refusal(text, path)
    assert re.match(re.escape(str(path)) + r":[1-9][0-9]*: ", message), message
    assert fragment in message
    assert not JARGON.search(message), message
    assert NEXT_STEP.search(message), message
    assert len(message) < 800, message
    assert "\n" not in message, message


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"name: x\nworkload: caf\xe9\n")
    with pytest.raises(StudyFileError, match=r"study\.yaml:2: byte 0xe9 is not UTF-8; save"):
        Study.from_file(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"nowhere\.yaml: the study file cannot be read: No"):
        Study.from_file(tmp_path / "nowhere.yaml")
    with pytest.raises(StudyFileError, match=r"cannot be read: Is a directory\. Check the path"):
        Study.from_file(tmp_path)


def test_a_file_that_never_ends_is_refused() -> None:
    with pytest.raises(StudyFileError, match=r"/dev/zero:1: the study has more than 1000000"):
        Study.from_file("/dev/zero")
