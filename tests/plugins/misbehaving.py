"""A plug-in workload that raises, kills its process, or takes its time, when its axes say so.

Installed for tests by putting this folder on PYTHONPATH: Python finds the entry point in the
`.dist-info` folder beside this file, as it would in site-packages.
"""

import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from workloads.axis import Axis, AxisKind
from workloads.base import Data, Split, Workload

SWITCH = "MISBEHAVING_SWITCH"
"""Environment variable: the path of a file while which exists faults happen."""
STEP_LOG = "MISBEHAVING_STEP_LOG"
"""Environment variable: the path of a file to which every update of a stack adds a line (process
id, members) and then takes `STEP_SECONDS`."""
STEP_SECONDS = 0.005
MOST_ROWS = "MISBEHAVING_MOST_ROWS"
"""Environment variable: rows of a training loss above which memory is said to be lacking."""
LOG = "MISBEHAVING_LOG"
"""Environment variable: the path of a file to which every training adds a line when it begins."""


class Misbehaving(Workload):
    """Two Gaussian clusters, and faults on demand."""

    name = "misbehaving"
    version = 1
    model_size = Axis(
        name="model_size", kind=AxisKind.INTEGER, minimum=1, maximum=64, meaning="Hidden width."
    )
    axes = (
        Axis(
            name="fault",
            kind=AxisKind.TEXT,
            default="none",
            choices=("none", "raise", "exit", "hang"),
            meaning="What goes wrong.",
        ),
        Axis(
            name="pause",
            kind=AxisKind.NUMBER,
            default=0.0,
            minimum=0.0,
            maximum=60.0,
            meaning="Seconds before training begins.",
        ),
    )
    chance_error = 0.5
    stackable = False

    def data(self, axes):
        generator = torch.Generator().manual_seed(1)
        targets = torch.arange(192) % 2
        inputs = torch.randn(192, 4, generator=generator) + 0.8 * targets[:, None]
        parts = [Split(inputs[i : i + 64], targets[i : i + 64]) for i in (0, 64, 128)]
        return Data(*parts)

    def model(self, size):
        return nn.Sequential(nn.Linear(4, size), nn.ReLU(), nn.Linear(size, 2))

    def loss(self, outputs, targets):
        if torch.is_grad_enabled():
            if STEP_LOG in os.environ:
                with Path(os.environ[STEP_LOG]).open("a") as log:
                    log.write(f"{os.getpid()} {len(outputs)}\n")
                time.sleep(STEP_SECONDS)
            if len(outputs) > int(os.environ.get(MOST_ROWS, "1000000")):
                raise torch.OutOfMemoryError("CUDA out of memory, as it were")
        return functional.cross_entropy(outputs, targets, reduction="none")

    def error(self, outputs, targets):
        return (outputs.argmax(1) != targets).float()

    def training_targets(self, targets, axes, stream):
        if LOG in os.environ:
            with Path(os.environ[LOG]).open("a") as log:
                log.write(f"{os.getpid()} {axes['fault']}\n")
        if axes["pause"]:
            time.sleep(axes["pause"])
        if axes["fault"] != "none" and Path(os.environ[SWITCH]).exists():
            if axes["fault"] == "exit":
                os._exit(7)
            if axes["fault"] == "hang":
                time.sleep(3600)
            raise ArithmeticError("this cell was asked to <b>fail</b>")
        return targets


class MisbehavingTogether(Misbehaving):
    """The same, trained many cells at once."""

    name = "misbehaving_together"
    stackable = True
