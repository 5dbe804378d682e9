"""Pictures made smaller: every new pixel is the mean of the area of old ones that it covers."""

from __future__ import annotations

import math

import numpy as np

from rlrun.types import Array


class Resize:
    """`resize(picture uint8 [H, W] or [H, W, C]) -> uint8 [height, width] or [height, width, C]`, for H and W as given.

    Equal, bit for bit, to OpenCV's INTER_AREA, which ALE's own vector calls: float32 sums in the same order, rows
    first, rounded half to even. NumPy does it in a tenth of the time that the emulator takes for the picture, so an
    installation need not bring along OpenCV; Pillow's box filter rounds between rows and columns and differs.

    Raises:
        ValueError: it would have to be made larger.
    """

    def __init__(self, height: int, width: int, to_height: int, to_width: int):
        if to_height > height or to_width > width:
            raise ValueError(f"pictures of {height} x {width} cannot become {to_height} x {to_width}: only smaller")
        self._rows, self._row_weights = _areas(height, to_height)
        self._columns, self._column_weights = _areas(width, to_width)

    def __call__(self, picture: Array) -> Array:
        across = _weighed(picture, self._columns, self._column_weights, 1)
        small = _weighed(across, self._rows, self._row_weights, 0)
        return np.rint(small, out=small).astype(np.uint8)

    def means(self, picture: Array) -> Array:
        """The same as float32, not rounded; heights first, which is faster where pictures are wide."""
        down = _weighed(picture, self._rows, self._row_weights, 0)
        return _weighed(down, self._columns, self._column_weights, 1)


def _weighed(picture: Array, places: Array, weights: Array, axis: int) -> Array:
    """The sum over k of what lies along an axis at places[k], times weights[k]; both [K, new length]."""
    others = tuple(other for other in range(1, picture.ndim + 1) if other != axis + 1)
    weights = np.expand_dims(weights, others)
    total: Array = np.take(picture, places[0], axis) * weights[0]
    for place, weight in zip(places[1:], weights[1:], strict=True):
        total += np.take(picture, place, axis) * weight
    return total


def _areas(length: int, to_length: int) -> tuple[Array, Array]:
    """Which old pixels each of the new ones covers [K, to_length], and what share of it each of them is.

    K is the most that one covers; where it is fewer, the rest has no weight.
    """
    scale = length / to_length
    covered: list[list[tuple[int, float]]] = []
    for pixel in range(to_length):
        start = pixel * scale
        end = min(start + scale, length)
        shares = []
        for place in range(math.floor(start), math.ceil(end)):
            overlap = min(place + 1, end) - max(place, start)
            if overlap > 1e-3:
                shares.append((place, overlap / (end - start)))
        covered.append(shares)
    most = max(map(len, covered))
    places, weights = np.zeros((most, to_length), np.int64), np.zeros((most, to_length), np.float32)
    for pixel, shares in enumerate(covered):
        for k, (place, share) in enumerate(shares):
            places[k, pixel], weights[k, pixel] = place, share
    return places, weights
