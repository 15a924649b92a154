"""Rows that fit the store's schema, for tests of the store."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def cell_id(number: int) -> str:
    return f"{number:016x}"


def cell_row(number: int, pack_id: str = "pack", **changes: Any) -> dict[str, Any]:
    row = {
        "cell_id": cell_id(number),
        "workload": "digits",
        "workload_version": 1,
        "dataset_fraction": 0.5,
        "train_examples": 100,
        "model_size": 64,
        "parameter_count": 4810,
        "batch_size": 32,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "seed": number,
        "budget": "epochs: 40",
        "optimizer": "sgd",
        "learning_rate_schedule": "constant",
        "batch_size_schedule": "constant",
        "evaluation_schedule": "geometric:12",
        "workload_axes": "{}",
        "chance_error": 0.9,
        "validation_examples": 300,
        "test_examples": 300,
        "status": "completed",
        "steps": 120,
        "epochs": 38.4,
        "examples_seen": 3840,
        "training_flops": 1.1e8,
        "wall_seconds": 0.25,
        "pack_wall_seconds": 2.0,
        "train_loss": 0.01,
        "train_error": 0.0,
        "validation_loss": 0.4,
        "validation_error": 0.1,
        "test_loss": 0.5,
        "test_error": 0.125,
        "best_validation_loss": 0.375,
        "best_validation_error": 0.1,
        "best_validation_step": 100,
        "generalization_gap": 0.125,
        "validation_evaluations": 12,
        "workload_metrics": "{}",
        "pack_id": pack_id,
        "packed_cells": 8,
        "arithmetic": "stacked",
        "device_name": "cpu",
        "host": "somewhere",
        "started_at": EPOCH + timedelta(seconds=number),
        "code_version": "0.1.0",
        "workload_source": "ab12",
        "torch_version": "2.13.0",
        "ray_version": None,
    }
    return {**row, **changes}


def curve_rows(number: int, pack_id: str = "pack", steps: Sequence[int] = (0, 60, 120)) -> Any:
    return [
        {
            "cell_id": cell_id(number),
            "pack_id": pack_id,
            "step": step,
            "epoch": step * 0.32,
            "examples_seen": step * 32,
            "train_loss": None if step == 0 else 1.0 / step,
            "validation_loss": 1.0 / (step + 1),
            "validation_error": 0.5,
            "learning_rate": 0.1,
            "batch_size": 32,
            "noise_scale": 2.125,
        }
        for step in steps
    ]


def failure_row(number: int, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    row = {
        "cell_id": cell_id(number),
        "pack_id": "pack",
        "attempt": attempt,
        "error_type": "ValueError",
        "error_message": "no",
        "error_traceback": "Traceback …",
        "host": "somewhere",
        "failed_at": EPOCH + timedelta(seconds=attempt),
    }
    return {**row, **changes}


def write_cells(store: Any, pack_id: str, numbers: Sequence[int], **changes: Any) -> None:
    cells = [cell_row(number, pack_id, **changes) for number in numbers]
    curves = [row for number in numbers for row in curve_rows(number, pack_id)]
    store.write_part(pack_id, cells, curves)
