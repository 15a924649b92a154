# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Standard augmentation of images: random crops of the padded image, and reflections.

Source: He et al. 2016, arXiv:1512.03385, §4.2: four pixels of zeros on each side, and a crop of the
old size of that, or of its horizontal reflection. Evaluations, and the training loss at a cell's
end, see images as they are; the training loss along the curve is that of augmented ones.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import DrawWords, Workload

__all__ = ["AUGMENTATION", "StandardAugmentation"]

NONE, STANDARD = "none", "standard"


AUGMENTATION = Axis(
    name="augmentation",
    kind=AxisKind.TEXT,
    meaning=(
        "none; or standard: each time an image is trained on, another random crop of it, padded "
        "with black, and where reflection changes no class, its mirror image half the time."
    ),
    default=NONE,
    choices=(NONE, STANDARD),
)


class StandardAugmentation(Workload):
    """A workload of images that may be augmented."""

    image_shape: ClassVar[tuple[int, int, int]]
    """(C, H, W): channels, height and width."""
    padding: ClassVar[int] = 4
    """Pixels by which a crop may be off, in each direction."""
    reflects: ClassVar[bool] = False
    """Whether an image's mirror image is of the same class, as likely to be seen."""

    def training_inputs(self, inputs: Tensor, axes: AxisValues, draw: DrawWords) -> Tensor:
        if axes.get(AUGMENTATION.name, NONE) == NONE:
            return inputs
        images = inputs.view(-1, *self.image_shape)
        channels, height, width = self.image_shape
        words = draw(3)
        # 2⁶⁴ is no multiple of the 9 offsets, by one part in 10¹⁸.
        offsets = torch.from_numpy((words[:, :2] % (2 * self.padding + 1)).astype("int64"))
        rows = offsets[:, :1] + torch.arange(height)
        columns = offsets[:, 1:] + torch.arange(width)
        if self.reflects:
            mirrored = torch.from_numpy((words[:, 2:] & 1).astype(bool))
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = functional.pad(images, (self.padding,) * 4)
        places = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
        places = places.view(-1, 1, height * width).expand(-1, channels, -1)
        return padded.flatten(2).gather(2, places.to(inputs.device)).view_as(inputs)
