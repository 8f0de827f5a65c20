"""Compiled loops of :mod:`vivace.kernels.codes`: what is not a product of matrices."""

from __future__ import annotations

import math

from vivace.kernels.jit import compiled


@compiled(reorder=True)
def enter(first, last, junction, value, vectors, floor, out):
    """``out[e] = value * [1, v / |v|]`` with ``v = vectors[junction]``, (n, 1 + D)."""
    for e in range(last - first):
        v, x = vectors[junction[first + e]], value[first + e]
        square = floor
        for k in range(v.shape[0]):
            square += v[k] * v[k]
        share = x / math.sqrt(square)
        out[e, 0] = x
        for k in range(v.shape[0]):
            out[e, 1 + k] = v[k] * share


@compiled(reorder=True)
def enter_backward(first, last, junction, value, vectors, floor, by_out, by_vectors):
    """Gradient of :func:`enter` by the vectors, added to it."""
    for e in range(last - first):
        j, x, of = junction[first + e], value[first + e], by_out[e, 1:]
        v, to = vectors[j], by_vectors[j]
        square, along = floor, floor - floor
        for k in range(v.shape[0]):
            square += v[k] * v[k]
            along += v[k] * of[k]
        share, along = x / math.sqrt(square), along / square
        for k in range(v.shape[0]):
            to[k] += share * (of[k] - along * v[k])


@compiled(reorder=True)
def norm_relu(h, gain, shift, floor, inverse, out):
    """``out = relu(normalised h * gain + shift)``; ``h`` becomes the normalised rows.

    ``inverse`` (n,) takes one over the standard deviation of each.
    """
    width = h.shape[1]
    for e in range(h.shape[0]):
        total, squares = floor - floor, floor - floor
        for k in range(width):
            total += h[e, k]
        mean = total / width
        for k in range(width):
            h[e, k] -= mean
            squares += h[e, k] * h[e, k]
        scale = 1 / math.sqrt(squares / width + floor)
        inverse[e] = scale
        for k in range(width):
            h[e, k] *= scale
            out[e, k] = max(h[e, k] * gain[k] + shift[k], floor - floor)


@compiled(reorder=True)
def norm_relu_backward(h, gain, inverse, out, by, by_gain, by_shift):
    """From the gradient by ``out`` to that by the rows, in place; those of gain and shift are added to."""
    width = h.shape[1]
    for e in range(h.shape[0]):
        of, row, kept, zero = by[e], h[e], out[e], inverse[e] - inverse[e]
        for k in range(width):
            of[k] = of[k] if kept[k] > 0 else zero
        for k in range(width):
            by_shift[k] += of[k]
        for k in range(width):
            by_gain[k] += of[k] * row[k]
        total, along = zero, zero
        for k in range(width):
            g = of[k] * gain[k]
            total += g
            along += g * row[k]
        total, along = total / width, along / width
        for k in range(width):
            of[k] = (of[k] * gain[k] - total - along * row[k]) * inverse[e]


@compiled
def add_to_cells(first, last, cell, codes, base, out):
    """``out[cell] += code - base`` of each entry."""
    for e in range(last - first):
        to = out[cell[first + e]]
        for k in range(to.shape[0]):
            to[k] += codes[e, k] - base[k]


@compiled
def of_cells(first, last, cell, by_cells, out):
    """``out = by_cells[cell]`` of each entry."""
    for e in range(last - first):
        of = by_cells[cell[first + e]]
        for k in range(of.shape[0]):
            out[e, k] = of[k]
