"""Downloads through torchvision and Hugging Face's datasets: only ever when asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workloads.errors import WorkloadError

__all__ = [
    "TEXT8_CHARACTERS",
    "fetch_cifar10",
    "fetch_fashion_mnist",
    "fetch_mnist",
    "fetch_text8",
]

TEXT8_REPOSITORY = "afmck/text8"
TEXT8_CHARACTERS = 10**8
"""Of the whole text."""


def fetch_mnist(folder: Path) -> None:
    """Download MNIST into `folder`, which may be absent."""
    _through_torchvision("MNIST", folder)


def fetch_fashion_mnist(folder: Path) -> None:
    """Download Fashion-MNIST into `folder`, which may be absent."""
    _through_torchvision("FashionMNIST", folder)


def fetch_cifar10(folder: Path) -> None:
    """Download CIFAR-10 into `folder`, which may be absent."""
    _through_torchvision("CIFAR10", folder)


def fetch_text8(folder: Path) -> None:
    """Download text8 from the Hugging Face Hub into `folder`, which may be absent."""
    splits = _from_hub(TEXT8_REPOSITORY)
    try:
        # In one piece, or parted into what is trained on, validated on and tested on.
        text = "".join(splits["train"]["text"])
        if len(text) < TEXT8_CHARACTERS:
            text += "".join(
                part for name in ("validation", "test") for part in splits[name]["text"]
            )
    except KeyError as error:
        raise WorkloadError(
            f"{TEXT8_REPOSITORY} has no {error}; expected: the splits train, validation and test, "
            "with a column text. Put the file text8 of another source into "
            f"{folder}."
        ) from error
    _write_whole(folder / "text8", text.encode())


def _through_torchvision(name: str, folder: Path) -> None:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise WorkloadError(
            f"{name} is downloaded through torchvision, which cannot be imported ({error}). "
            "Install it beside your torch: pip install torchvision."
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside first: a download that is cut short must not look like a whole one.
        with TemporaryDirectory(dir=folder, prefix=".part-") as beside:
            getattr(datasets, name)(beside, download=True)
            for path in sorted(Path(beside).rglob("*")):  # folders before what they hold
                into = folder / path.relative_to(beside)
                if path.is_dir():
                    into.mkdir(exist_ok=True)
                else:
                    path.replace(into)
    except (OSError, RuntimeError) as error:
        raise WorkloadError(
            f"torchvision could not download {name} into {folder}: {error}. Check the network and "
            "the folder, and try again."
        ) from error


def _from_hub(repository: str) -> Mapping[str, Mapping[str, Sequence[Any]]]:
    """Return the columns of each split of a repository of the Hugging Face Hub."""
    try:
        import datasets
    except ImportError as error:
        raise WorkloadError(
            f"{repository} is downloaded through Hugging Face's datasets, which cannot be imported "
            f"({error}). Install it: pip install datasets (3.0 or newer)."
        ) from error
    try:
        splits: Mapping[str, Mapping[str, Sequence[Any]]] = datasets.load_dataset(repository)
    except (OSError, RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise WorkloadError(
            f"Hugging Face's datasets could not download {repository}: {error}. Check the network "
            "and the space of its cache, and try again."
        ) from error
    return splits


def _write_whole(path: Path, content: bytes) -> None:
    """Write all or nothing, of which the next try writes over what is left."""
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise WorkloadError(
            f"{path} cannot be written: {error}. Check the folder and its space, and try again."
        ) from error
