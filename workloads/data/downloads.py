"""Downloads through torchvision, for users with internet: only ever when asked for."""

from pathlib import Path

from workloads.errors import WorkloadError

__all__ = ["fetch_cifar10", "fetch_fashion_mnist", "fetch_mnist"]


def fetch_mnist(folder: Path) -> None:
    """Download MNIST into `folder`, which may be absent."""
    _fetch("MNIST", folder)


def fetch_fashion_mnist(folder: Path) -> None:
    """Download Fashion-MNIST into `folder`, which may be absent."""
    _fetch("FashionMNIST", folder)


def fetch_cifar10(folder: Path) -> None:
    """Download CIFAR-10 into `folder`, which may be absent."""
    _fetch("CIFAR10", folder)


def _fetch(name: str, folder: Path) -> None:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise WorkloadError(
            f"{name} is downloaded through torchvision, which cannot be imported ({error}). "
            "Install it beside your torch: pip install torchvision."
        ) from error
    try:
        getattr(datasets, name)(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise WorkloadError(
            f"torchvision could not download {name} into {folder}: {error}. Check the network and "
            "the folder, and try again."
        ) from error
