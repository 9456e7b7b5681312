"""Planes at another size."""

from __future__ import annotations

import numpy as np
import pytest

from watcher.plane import resized


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("shape", [(90, 70), (128, 128), (389, 411), (1001, 803), (3000, 4000)])
def test_what_is_made_smaller_stays_in_its_place(shape: tuple[int, int], colours: int) -> None:
    """A ramp is the same ramp at another size, whether it was halved on the way or not."""
    height, width = shape
    ramp = np.add.outer(100 * (np.arange(height) + 0.5) / height, 150 * (np.arange(width) + 0.5) / width)
    page = np.repeat(np.rint(ramp).astype(np.uint8)[..., np.newaxis], colours, axis=2).squeeze()
    small = resized(page, 120, 64).astype(float)
    assert small.shape == (64, 120, *page.shape[2:])
    expected = np.add.outer(100 * (np.arange(64) + 0.5) / 64, 150 * (np.arange(120) + 0.5) / 120)
    inside = (slice(2, -2), slice(2, -2))  # interpolation repeats the edge
    assert np.abs(small.reshape(64, 120, -1) - expected[..., np.newaxis])[inside].max() < 2.5


def test_each_pixel_of_a_large_picture_counts_alike() -> None:
    """Noise averages out as far as it should: nothing was skipped."""
    rng = np.random.default_rng(0)
    page = rng.integers(0, 256, (1024, 1024), np.uint8)
    assert resized(page, 64, 64).std() == pytest.approx(page.std() / 16, rel=0.1)
