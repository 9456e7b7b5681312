"""A quick network of plain MNIST: it tells which samples of no digit have come out as one all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from train import export
from train.augmentation import as_inputs
from train.processor import compile_for_processor
from train.recipes import DIGITS, reference_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from train.mnist import Images, Labels


def judge(images: Images, labels: Labels) -> Callable[[Images], NDArray[np.floating]]:
    """Train it; what comes back tells how much some images look like a digit: its largest probability."""
    network = reference_network(len(DIGITS))
    compile_for_processor(network, optimizer="adam", loss="sparse_categorical_crossentropy")
    network.fit(as_inputs(images), labels, batch_size=128, epochs=2, verbose=0)

    def looks_like(some: Images) -> NDArray[np.floating]:
        return np.asarray(network.predict(as_inputs(some), batch_size=export.BATCH, verbose=0).max(axis=1))

    return looks_like
