"""Compiled loops that write sparse sequences into batches, time first."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill(places, counts, offsets, rows, size, levels, out, wrong, low, high):
    """Write the samples ``low…high`` of a dense batch ``out`` float32 ``[T, B, size]``, zeros included.

    Sample ``b`` is sequence ``rows[b]``. Step by step for all of them, since those stand side by side in memory. Places
    that do not rise, or lie behind ``T``, are left out and set ``wrong[0]``.
    """
    unit = np.float32(levels)
    next_entry = np.empty(high - low, np.int64)
    for b in range(low, high):
        next_entry[b - low] = offsets[rows[b]]
    for t in range(out.shape[0]):
        first = np.int64(t) * size
        for b in range(low, high):
            line = out[t, b]
            for e in range(size):
                line[e] = 0
            entry, end = next_entry[b - low], offsets[rows[b] + 1]
            while entry < end:
                element = np.int64(places[entry]) - first
                if element >= size:
                    break
                if element < 0:
                    wrong[0] = 1
                    break
                line[element] = np.float32(counts[entry]) / unit
                entry += 1
            next_entry[b - low] = entry
    for b in range(low, high):
        if next_entry[b - low] < offsets[rows[b] + 1]:
            wrong[0] = 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def count_steps(places, offsets, rows, size, entries, wrong, low, high):
    """Count the entries of each step of the samples ``low…high`` in ``entries`` int64 ``[T, B]``, all zero before."""
    steps = entries.shape[0]
    for b in range(low, high):
        t, first, before = 0, np.int64(0), np.int64(-1)
        for entry in range(offsets[rows[b]], offsets[rows[b] + 1]):
            place = np.int64(places[entry])
            if place >= first + size:
                t = place // size
                first = t * size
            if place <= before or t >= steps:
                wrong[0] = 1
                break
            before = place
            entries[t, b] += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def list_entries(places, counts, offsets, rows, shape, levels, begin, indices, values, low, high):
    """Write the samples ``low…high`` of a sparse batch: entries of step ``t`` of sample ``b`` from ``begin[t, b]`` on.

    shape: int64 ``[3]``, polarities, rows and columns. indices: int64 ``[5, nnz]`` or, of a line, ``[3, nnz]``.
    """
    unit = np.float32(levels)
    height, width = shape[1], shape[2]
    size = shape[0] * height * width
    line = len(indices) == 3
    for b in range(low, high):
        t, first, to = np.int64(-1), np.int64(0), np.int64(0)
        row, edge, p, y = np.int64(0), np.int64(-1), np.int64(0), np.int64(0)  # ``edge``: first element behind the row
        for entry in range(offsets[rows[b]], offsets[rows[b] + 1]):
            place = np.int64(places[entry])
            if t < 0 or place >= first + size:
                t = place // size
                first = t * size
                to = begin[t, b]
                edge = -1
            element = place - first
            if element >= edge:
                row = element // width
                edge = (row + 1) * width
                p, y = row // height, row % height
            indices[0, to] = t
            indices[1, to] = b
            if line:
                indices[2, to] = element
            else:
                indices[2, to] = p
                indices[3, to] = y
                indices[4, to] = element - row * width
            values[to] = np.float32(counts[entry]) / unit
            to += 1
