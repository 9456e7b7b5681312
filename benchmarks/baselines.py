"""What the watcher is measured against: the reference path, the floor, and Tesseract.

The reference path is the way a notebook does it: read the image, resize it to 28×28, invert, `model.predict`, draw a
pyplot figure and save it. The floor is what no reader can do without: read, decode and hash the same files.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.daemon import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence


class Reference:
    """The reference path, warm."""

    def __init__(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import matplotlib as mpl  # noqa: PLC0415 - only the reference needs it

        mpl.use("Agg")
        from train.recipes import reference_network  # noqa: PLC0415

        self.network = reference_network(10)  # untrained: its speed is the same
        self.run(5)

    def run(self, count: int, samples: Sequence[Path] = SAMPLES) -> tuple[float, float]:
        """Crops a second, and milliseconds of processor time for each."""
        import matplotlib.pyplot as plt  # noqa: PLC0415

        begin, used = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as root:
            for number, path in zip(range(count), itertools.cycle(samples)):
                grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
                assert grey is not None
                image = 1 - cv2.resize(grey, (28, 28)).astype(np.float32) / 255
                probabilities = self.network.predict(image[None, ..., None], verbose=0)[0]
                figure, axes = plt.subplots()
                axes.imshow(grey, cmap="gray")
                axes.set_title(f"{probabilities.argmax()} ({probabilities.max():.1%})")
                figure.savefig(Path(root) / f"{number}.png")
                plt.close(figure)
        return count / (time.perf_counter() - begin), (time.process_time() - used) * 1000 / count


class Floor:
    """Processes that read, decode and hash."""

    def __init__(self, processes: int = 2) -> None:
        self.processes = processes
        self.pool = get_context("spawn").Pool(processes)
        self.run(100)

    def run(self, count: int, samples: Sequence[Path] = SAMPLES) -> tuple[float, float]:
        """Crops a second, and milliseconds of processor time for each."""
        with tempfile.TemporaryDirectory() as root:
            paths = []
            for number, sample in zip(range(count), itertools.cycle(samples)):
                paths.append(os.path.join(root, f"{number}{sample.suffix}"))
                Path(paths[-1]).write_bytes(sample.read_bytes())
            begin = time.perf_counter()
            slices = [paths[at : at + 64] for at in range(0, count, 64)]
            used = sum(self.pool.imap_unordered(_read_decode_hash, slices))
            return count / (time.perf_counter() - begin), used * 1000 / count


def _read_decode_hash(paths: list[str]) -> float:
    used = time.process_time()
    for path in paths:
        data = Path(path).read_bytes()
        hashlib.sha256(data).hexdigest()
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return time.process_time() - used


def tesseract(count: int) -> float:
    """Crops a second, one process a crop as its command line is used. Raises FileNotFoundError where it is missing."""
    begin = time.perf_counter()
    for path in itertools.islice(itertools.cycle(SAMPLES), count):
        command = ["tesseract", str(path), "-", "--psm", "10", "-c", "tessedit_char_whitelist=0123456789"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return count / (time.perf_counter() - begin)
