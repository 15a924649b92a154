"""One data set: its files, the places where packages put them, and how to get it."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from workloads.data.folders import VARIABLE, data_folders
from workloads.errors import WorkloadError

__all__ = ["DataSet", "MissingDataError"]


class MissingDataError(WorkloadError):
    """A data set is nowhere to be found; the message says how to get it."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set that is on this machine or is not; nothing is downloaded unasked."""

    name: str
    """What the user calls it, and the name of its folder."""
    title: str
    """What it is, in a few words."""
    examples: str
    """How many of what it holds, in words."""
    licence: str
    """Under what terms it may be used."""
    source: str
    """Whom to cite."""
    files: tuple[str, ...]
    """What must be there, below one of `subfolders`; each may be packed (`.gz`)."""
    subfolders: tuple[str, ...] = (".",)
    """Where the files lie below a folder, by who packed it."""
    places: tuple[Path, ...] = ()
    """Folders where installed packages put it."""
    packages: tuple[tuple[str, str], ...] = ()
    """Python packages that carry it, which are not imported for it, each with the folder inside."""
    install: tuple[str, ...]
    """Commands that get it; `{folder}` stands for its folder among the user's."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """The first digits of SHA-256 of unpacked files, where others of that name are about."""
    fetch: Callable[[Path], None] | None = None
    """Downloads it into a folder, through a library; None where only `install` gets it."""

    def find(self) -> dict[str, Path] | None:
        """Return the path of each of `files`, all in one folder; None where there is none."""
        for folder in self._candidates():
            found = {name: _packed_or_not(folder / name) for name in self.files}
            if all(found.values()):
                return {name: path for name, path in found.items() if path is not None}
        return None

    def paths(self) -> dict[str, Path]:
        """Return the path of each of `files`; raises `MissingDataError` where there is none."""
        found = self.find()
        if found is None:
            raise MissingDataError(self.how_to_get())
        return found

    def read(self, name: str) -> bytes:
        """Return the content of one of `files`, unpacked.

        Raises `MissingDataError` where there is none, and `WorkloadError` where it is torn or
        another's.
        """
        path = self.paths()[name]
        content = path.read_bytes()
        if path.suffix == ".gz" and not name.endswith(".gz"):
            try:
                content = gzip.decompress(content)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise WorkloadError(
                    f"{path} of data set '{self.name}' cannot be unpacked ({error}). Remove it and "
                    f"get the data set anew: {self._commands()}."
                ) from error
        expected = self.digests.get(name)
        if expected and not hashlib.sha256(content).hexdigest().startswith(expected):
            raise WorkloadError(
                f"{path} is not the file of data set '{self.name}': its SHA-256 does not begin "
                f"with {expected}. Remove it and get the data set anew: {self._commands()}."
            )
        return content

    @property
    def folder(self) -> Path:
        """Its folder among the user's, whether it exists or not."""
        return data_folders()[0] / self.name

    def how_to_get(self) -> str:
        """Return the sentence for who lacks it."""
        looked = ", ".join(str(folder) for folder in self._roots())
        return (
            f"Data set '{self.name}' ({self.title}) is not on this machine. Looked in {looked}. "
            f"Get it with: {self._commands()}. Or set {VARIABLE} to the folder that holds "
            f"'{self.name}'."
        )

    def commands(self) -> list[str]:
        """Return the commands that get it."""
        filled = [command.format(folder=self.folder) for command in self.install]
        if self.fetch is not None:
            filled.append(f"scaling-study data --fetch {self.name}")
        return filled

    def _commands(self) -> str:
        return " or ".join(f"`{command}`" for command in self.commands())

    def _roots(self) -> list[Path]:
        carried = [_inside_package(*each) for each in self.packages]
        return [
            *(folder / self.name for folder in data_folders()),
            *self.places,
            *(folder for folder in carried if folder is not None),
        ]

    def _candidates(self) -> list[Path]:
        return [root / sub for root in self._roots() for sub in self.subfolders]


def _inside_package(package: str, folder: str) -> Path | None:
    spec = find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / folder


def _packed_or_not(path: Path) -> Path | None:
    packed = path.with_name(path.name + ".gz")
    return next((each for each in (path, packed) if each.exists()), None)
