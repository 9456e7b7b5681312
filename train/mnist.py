"""MNIST: found in a folder, the user's cache or a public mirror, checked by hash, read as arrays."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import tempfile
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from watcher.errors import DigitdropError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Images = NDArray[np.uint8]
"""(n, 28, 28), 0 paper to 255 ink."""
Labels = NDArray[np.uint8]
"""(n,), 0 to 9."""

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
# SHA-256 of the unpacked files. Packed ones differ from mirror to mirror, by the packing time in their header.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TIMEOUT = 30.0  # seconds without an answer before the next mirror is tried


class DataError(DigitdropError):
    """The training or test data is missing, damaged or not what it should be."""


@dataclass(frozen=True, slots=True)
class Mnist:
    """The four files as arrays, with the hash of what was read."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    sha256: Mapping[str, str]  # of the unpacked bytes, by file name

    def limited(self, count: int | None) -> Mnist:
        """The first `count` training images, and as many test images at most; all with None."""
        return Mnist(
            self.train_images[:count],
            self.train_labels[:count],
            self.test_images[:count],
            self.test_labels[:count],
            self.sha256,
        )

    @property
    def is_original(self) -> bool:
        """Whether every file is MNIST to the byte."""
        return dict(self.sha256) == SHA256


def load(
    data: Path | None, cache: Path, mirrors: Sequence[str] = MIRRORS, expected: Mapping[str, str] = SHA256
) -> Mnist:
    """Read MNIST from `data`; without it from `cache`, which is filled from `mirrors` where it has to be.

    A folder named by the user is taken at its word, so that other sets in the same format can be trained
    on; the hashes say what it was. What comes from the cache or a mirror has to be MNIST to the byte.
    Raises `DataError`.
    """
    unpacked = {
        name: _from_folder(data, name) if data else _known(name, sha256, cache, mirrors)
        for name, sha256 in expected.items()
    }
    parts = [parse_idx(raw, name) for name, raw in unpacked.items()]
    train_images, train_labels, test_images, test_labels = parts
    for images, labels, what in ((train_images, train_labels, "train"), (test_images, test_labels, "t10k")):
        if images.shape[1:] != (28, 28) or labels.shape != (len(images),) or not len(images):
            raise DataError(f"The {what} images {images.shape} and labels {labels.shape} do not belong together.")
        if labels.max() > 9:
            raise DataError(f"The {what} labels hold {labels.max()}; only the digits 0 to 9 can be trained on.")
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in unpacked.items()}
    return Mnist(train_images, train_labels, test_images, test_labels, hashes)


def last_tenth(count: int) -> NDArray[np.bool_]:
    """Hold back the last 10%, as Keras's `validation_split=0.1` does."""
    return np.asarray(np.arange(count) >= int(count * 0.9))


def every_twelfth_pair(count: int) -> NDArray[np.bool_]:
    """Hold back 5,000 of 60,000, in pairs of neighbours, so that calibration sees all the writers training sees.

    MNIST has two groups of people write in turn, and networks read several times as many wrong of the one that begins:
    every twelfth image would always be one of the other's.
    """
    return np.asarray(np.arange(count) // 2 % 12 == 11)


def parse_idx(raw: bytes, name: str) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, as described on MNIST's own page; `name` is for the message."""
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(f"{name} is not an IDX file of bytes.")
    dimensions = raw[3]
    start = 4 + 4 * dimensions
    if len(raw) < start:
        raise DataError(f"{name} ends within its header.")
    shape = struct.unpack(f">{dimensions}I", raw[4:start])
    if len(raw) - start != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{name} holds {len(raw) - start} bytes where its header promises {shape}.")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _from_folder(folder: Path, name: str) -> bytes:
    """The unpacked bytes of the file in `folder`, which may be gzipped."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return _unpack(path.read_bytes(), str(path))
    raise DataError(f"{folder} has no {name}.gz. Give --data the folder with MNIST's four files.")


def _unpack(raw: bytes, name: str) -> bytes:
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} is damaged ({error}). Fetch it again.") from error


def _known(name: str, sha256: str, cache: Path, mirrors: Sequence[str]) -> bytes:
    """MNIST's own file from the cache or the first mirror that has it, kept in the cache."""
    cached = cache / f"{name}.gz"
    if cached.is_file():
        try:
            return _checked(cached.read_bytes(), sha256, str(cached))
        except DataError:
            pass  # a damaged copy is fetched again
    problems = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=TIMEOUT) as answer:  # noqa: S310, our own list
                packed = answer.read()
            unpacked = _checked(packed, sha256, f"{mirror}{name}.gz")
        except (OSError, HTTPException, DataError) as error:
            problems.append(f"{mirror}: {error}")
            continue
        _keep(packed, cached)
        return unpacked
    raise DataError(
        f"MNIST is neither in {cache} nor to be had from a mirror ({'; '.join(problems)}). "
        "Give --data the folder with its four files."
    )


def _checked(raw: bytes, sha256: str, origin: str) -> bytes:
    unpacked = _unpack(raw, origin)
    if hashlib.sha256(unpacked).hexdigest() != sha256:
        raise DataError(f"{origin} is not the MNIST file it should be (wrong SHA-256).")
    return unpacked


def _keep(packed: bytes, path: Path) -> None:
    """Write a download into the cache whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(packed)
    os.replace(temporary, path)
