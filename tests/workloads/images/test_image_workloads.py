"""Every image workload keeps the contract, on the first images of its sets.

What those sets are on the whole is tested in `test_sets`.
Those of CIFAR-10, which no package carries, are tried on made images in `test_cifar10`.
"""

from tests.workloads.images.few_images import FewImages
from tests.workloads.needed_data import needs
from workloads.data.catalogue import FASHION_MNIST, MNIST
from workloads.digits import DigitsCnn, DigitsImages
from workloads.images.fashion_mnist import FashionMnistCnn, FashionMnistMlp, FashionMnistResNet
from workloads.images.mnist import MnistCnn, MnistMlp, MnistResNet
from workloads.images.resnet import ImageResNet
from workloads.testing import WorkloadConformance


class DigitsResNet(DigitsImages, ImageResNet):
    """No workload on offer: a residual network small enough to be tried often."""

    name = "digits_resnet"
    version = 1


class TestDigitsCnn(WorkloadConformance):
    workload = DigitsCnn
    sizes = (1, 8)


class TestDigitsResNet(WorkloadConformance):
    workload = DigitsResNet
    sizes = (1, 4)


class FewMnistMlp(FewImages, MnistMlp):
    pass


class FewMnistCnn(FewImages, MnistCnn):
    pass


class FewMnistResNet(FewImages, MnistResNet):
    pass


class FewFashionMnistMlp(FewImages, FashionMnistMlp):
    pass


class FewFashionMnistCnn(FewImages, FashionMnistCnn):
    pass


class FewFashionMnistResNet(FewImages, FashionMnistResNet):
    pass


@needs(MNIST)
class TestMnistMlp(WorkloadConformance):
    workload = FewMnistMlp


@needs(MNIST)
class TestMnistCnn(WorkloadConformance):
    workload = FewMnistCnn
    sizes = (1, 4)


@needs(MNIST)
class TestMnistResNet(WorkloadConformance):
    workload = FewMnistResNet
    sizes = (1, 4)
    steps = 20


@needs(FASHION_MNIST)
class TestFashionMnistMlp(WorkloadConformance):
    workload = FewFashionMnistMlp


@needs(FASHION_MNIST)
class TestFashionMnistCnn(WorkloadConformance):
    workload = FewFashionMnistCnn
    sizes = (1, 4)


@needs(FASHION_MNIST)
class TestFashionMnistResNet(WorkloadConformance):
    workload = FewFashionMnistResNet
    sizes = (1, 4)
    steps = 20
