"""Workloads with the first images of each set, where the number does not matter to a test."""

from workloads.images.image_classification import ImageClassification, Images

FEW = 1500


class FewImages(ImageClassification):
    """Stands before the workload whose images it cuts short."""

    def images(self) -> tuple[Images, Images, Images]:
        pool, validation, test = (
            Images(each.pixels[:FEW], each.labels[:FEW]) for each in super().images()
        )
        return pool, validation, test
