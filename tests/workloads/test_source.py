import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workloads.base import Workload
from workloads.digits import Digits
from workloads.errors import WorkloadError
from workloads.source import source_hash

SOURCE = '''"""What this is."""
from tests.workloads.samples import Signs

FACTOR = 2  # a comment

class Mine(Signs):
    """A docstring."""
    name = "mine"

    def model(self, size):
        """Another."""
        return super().model(FACTOR * size)
'''


def run(script: str | Path, *folders: Path) -> str:
    """Return what Python prints for a script's path or text, with `folders` importable."""
    path = os.pathsep.join(map(str, [Path(__file__).parents[2], *folders]))
    call = [sys.executable, script] if isinstance(script, Path) else [sys.executable, "-c", script]
    ended = subprocess.run(
        call, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def hash_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return the function that hashes the class `Mine` of a module with the given source."""
    count = iter(range(100))

    def hash_of(source: str) -> str:
        name = f"mine_{next(count)}"
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return source_hash(module.Mine())

    return hash_of


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a comment", "  # another comment"),
        ('"""What this is."""\n', ""),
        ('"""A docstring."""', '"""A longer docstring."""'),
        ('        """Another."""\n', ""),
        ("FACTOR * size", "FACTOR*size"),
        ("FACTOR * size", "(FACTOR * (size))"),
        ("\n\n", "\n\n\n\n"),
        ("name = ", '"""About the name."""\n    name = '),
    ],
)
def test_wording_and_formatting_do_not_count(hash_of, old: str, new: str):
    assert old in SOURCE
    assert hash_of(SOURCE.replace(old, new)) == hash_of(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 2", "FACTOR = 3"),
        ("FACTOR * size", "FACTOR + size"),
        ('name = "mine"', 'name = "other"'),
        ("Mine(Signs):", "Mine(Signs, object):"),
    ],
)
def test_a_change_of_code_anywhere_in_the_module_counts(hash_of, old: str, new: str):
    assert old in SOURCE
    assert hash_of(SOURCE.replace(old, new)) != hash_of(SOURCE)


def test_a_change_in_the_module_of_a_base_class_counts(tmp_path: Path):
    (tmp_path / "mine.py").write_text("from base import Mine as Base\nclass Mine(Base): ...\n")

    def hash_with_base(base: str) -> str:
        (tmp_path / "base.py").write_text(base)
        return run(
            "from workloads.source import source_hash; from mine import Mine; "
            "print(source_hash(Mine()))",
            tmp_path,
        )

    assert hash_with_base(SOURCE) == hash_with_base(SOURCE + "# a remark\n")
    assert hash_with_base(SOURCE) != hash_with_base(SOURCE.replace("FACTOR = 2", "FACTOR = 3"))


def test_the_hash_is_16_hex_digits_and_the_same_in_another_process():
    script = (
        "from workloads.source import source_hash; from workloads.digits import Digits; "
        "print(source_hash(Digits()))"
    )
    assert run(script).strip() == source_hash(Digits())
    assert len(bytes.fromhex(source_hash(Digits()))) == 8


def test_of_a_class_in_a_script_the_class_statement_alone_counts(tmp_path: Path):
    def hash_in_script(rest: str, factor: int = 2) -> str:
        script = tmp_path / "script.py"
        script.write_text(
            f"{SOURCE.replace('FACTOR * size', f'{factor} * size')}\n{rest}\n"
            "from workloads.source import source_hash\nprint(source_hash(Mine()))\n"
        )
        return run(script)

    assert hash_in_script("x = 1") == hash_in_script("x = 2")
    assert hash_in_script("x = 1") != hash_in_script("x = 1", factor=3)


def test_a_class_without_a_findable_source_is_refused_with_the_next_step():
    homeless = type("Homeless", (Digits,), {"__module__": "nowhere"})
    with pytest.raises(WorkloadError, match=r"nowhere\.Homeless cannot be found.*in a file"):
        source_hash(homeless())


def test_the_contract_itself_does_not_count():
    from workloads.source import _classes

    assert Workload not in _classes(Digits())
    assert Digits in _classes(Digits())
