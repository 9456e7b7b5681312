"""The recipes: everything that makes one trained network differ from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from train.augmentation import as_inputs, augment
from train.mnist import every_twelfth_pair, last_tenth
from watcher.reading import NONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from train.augmentation import Inputs
    from train.mnist import Images, Labels

DIGITS = tuple("0123456789")
TUNED = "-extra"  # behind a recipe's name: its networks were fine-tuned on labelled crops of one's own


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network and the way it is trained."""

    name: str
    classes: tuple[str, ...]  # what the outputs mean, in order
    network: Callable[[int], keras.Model]  # from the number of classes
    optimiser: Callable[[int], Any]  # from the number of steps in the whole training
    samples: Callable[[Images, Labels, np.random.Generator], tuple[Inputs, Labels]]
    """What the network is shown of a batch of MNIST: made anew each time, labels as indices of `classes`."""
    held_back: Callable[[int], NDArray[np.bool_]]
    """Which of that many training images are never trained on: they validate and calibrate."""
    epochs: int
    batch: int
    refresh: int  # batches over which batch normalisation is measured again, once the weights are averaged
    members: int = 1  # networks, trained one after the other, whose probabilities are averaged
    plain: int = 1  # times that each image of MNIST is shown in an epoch
    rendered: int = 0  # times that each image is also put on paper and taken back through the normaliser


def as_they_are(images: Images, labels: Labels, _: np.random.Generator) -> tuple[Inputs, Labels]:
    """Show MNIST unchanged."""
    return as_inputs(images), labels


def augmented(images: Images, labels: Labels, rng: np.random.Generator) -> tuple[Inputs, Labels]:
    """Show MNIST as other hands, pens and scanners would have made it."""
    return augment(images, rng), labels


def partly_augmented(images: Images, labels: Labels, rng: np.random.Generator) -> tuple[Inputs, Labels]:
    """Show a third as they are, for so they will come, and the rest as other hands, pens and scanners have it."""
    inputs = augment(images, rng)
    same = rng.random(len(images)) < 1 / 3
    inputs[same] = as_inputs(images[same])
    return inputs, labels


def reference_network(classes: int) -> keras.Model:
    """Build the reference: two plain convolutions with pooling, one dense layer (225,034 parameters)."""
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(classes, activation="softmax", dtype="float32"),
        ],
        name="reference",
    )


def compact_network(classes: int) -> keras.Model:
    """Build six 3×3 convolutions with batch normalisation and two poolings (212,258 parameters)."""
    return _convolutions("compact", (24, 32, 48, 64, 96, 112), classes)


def paper_network(classes: int) -> keras.Model:
    """Build the same with more filters late, where they cost little time (606,371 parameters with 11 classes)."""
    return _convolutions("paper", (24, 32, 56, 96, 160, 256), classes)


def _convolutions(name: str, widths: Sequence[int], classes: int) -> keras.Model:
    network = keras.Sequential([layers.Input((28, 28, 1))], name=name)
    for number, filters in enumerate(widths, start=1):
        # No bias: the normalisation after it has one of its own.
        network.add(layers.Conv2D(filters, (3, 3), padding="same" if number % 2 == 0 else "valid", use_bias=False))
        if number in (2, 4):
            network.add(layers.MaxPooling2D((2, 2)))  # here, so that what follows has a quarter of the work
        network.add(layers.BatchNormalization(momentum=0.95))
        network.add(layers.ReLU())
    network.add(layers.Flatten())
    network.add(layers.Dropout(0.4))
    network.add(layers.Dense(classes, activation="softmax", dtype="float32"))
    return network


def plain_adam(_: int) -> Any:
    """Make Adam with Keras's defaults."""
    return keras.optimizers.Adam()


def averaged_adamw(steps: int) -> Any:
    """Make AdamW on a cosine with warm-up, keeping a moving average of the weights: the network that is saved."""
    warmup = min(400, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        3e-4, steps - warmup, alpha=1e-3, warmup_target=3e-3, warmup_steps=warmup
    )
    # About the last twentieth of all steps, where the rate is small: the average of good networks only.
    average = max(0.0, 1 - 20 / steps)
    return keras.optimizers.AdamW(rate, weight_decay=2e-3, use_ema=True, ema_momentum=average)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="paper",
            classes=(*DIGITS, NONE),
            network=paper_network,
            optimiser=averaged_adamw,
            samples=partly_augmented,
            held_back=every_twelfth_pair,
            epochs=10,
            batch=128,
            refresh=200,
            members=2,
            plain=2,
            rendered=3,
        ),
        Recipe(
            name="compact",
            classes=DIGITS,
            network=compact_network,
            optimiser=averaged_adamw,
            samples=augmented,
            held_back=every_twelfth_pair,
            epochs=15,
            batch=128,
            refresh=100,
        ),
        Recipe(
            name="seed",
            classes=DIGITS,
            network=reference_network,
            optimiser=plain_adam,
            samples=as_they_are,
            held_back=last_tenth,
            epochs=5,
            batch=64,
            refresh=0,
        ),
    )
}
