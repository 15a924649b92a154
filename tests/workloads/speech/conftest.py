from pathlib import Path

import pytest

from tests.workloads.speech.made_voice import write_voice
from workloads.data.folders import VARIABLE


@pytest.fixture
def voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a made voice, which is the one that is found; its cache is empty."""
    folder = tmp_path / "data" / "festvox_ru"
    write_voice(folder)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder
