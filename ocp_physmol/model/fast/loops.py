"""Sums over edges as loops compiled for the processor: Eq. 4 and the attention, first derivatives.

Array operations write each of some ten intermediate results of [E, 2m] to memory and read it back.
A loop finishes one edge before it begins the next, and all of that stays in the fastest cache. The
filter of an edge, V psi or D, is a weighted sum of four consecutive rows of a table (knots.py).

All loops begin with the same arguments: `span`, the range of edges to sum over, and the `Edges`.
They add to sums and gradients, and overwrite what belongs to an edge.
"""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np


class Edges(NamedTuple):
    """The atoms, the filter and the gate of each of E edges, as tensors or as arrays."""

    center: Any  # [E], atom i
    neighbor: Any  # [E], atom j
    first: Any  # [E], the first of four consecutive rows of the table
    weight: Any  # [E, 4], of these rows in the filter
    gate: Any  # [E] or [E, num_heads], multiplies the message
    direction: Any  # [E, 3], of unit length, from i to j; [0, 3] without vectors


def jit(function):
    """Compile at the first call, and keep the result on disk where there is a place for it."""
    compile_ = partial(numba.njit, fastmath=True, nogil=True, error_model="numpy")
    try:
        return compile_(function, cache=True)
    except RuntimeError:  # nothing is writable: neither the package's folder nor a home
        return compile_(function)


@jit
def _read_filter(table, first, weight, filter_):
    """filter = sum_k weight_k table[first + k]"""
    row0, row1, row2, row3 = table[first], table[first + 1], table[first + 2], table[first + 3]
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for c in range(len(filter_)):
        filter_[c] = w0 * row0[c] + w1 * row1[c] + w2 * row2[c] + w3 * row3[c]


@jit
def _add_gradient(e, grad_filter, table, first, weight, grad_table, grad_weight):
    """From the gradient of edge e's filter to those of table and weights, unless they are empty."""
    for k in range(4):
        row = first[e] + k
        if len(grad_weight) > 0:
            total = table.dtype.type(0)
            for c in range(len(grad_filter)):
                total += grad_filter[c] * table[row, c]
            grad_weight[e, k] = total
        if len(grad_table) > 0:
            w, grad_row = weight[e, k], grad_table[row]
            for c in range(len(grad_filter)):
                grad_row[c] += w * grad_filter[c]


@jit
def embed(span, edges, x, table, out):
    center, neighbor, first, weight, gate, _ = edges
    filter_ = np.empty(table.shape[1], table.dtype)
    for e in range(span[0], span[1]):
        x_j, out_i = x[neighbor[e]], out[center[e]]
        _read_filter(table, first[e], weight[e], filter_)
        for c in range(len(filter_)):
            out_i[c] += gate[e] * x_j[c] * filter_[c]


@jit
def embed_gradient(
    span, edges, x, table, grad, grad_x, grad_table, grad_weight, grad_gate, grad_direction
):
    center, neighbor, first, weight, gate, _ = edges
    filter_ = np.empty(table.shape[1], table.dtype)
    grad_filter = np.empty(table.shape[1], table.dtype)
    for e in range(span[0], span[1]):
        x_j, grad_x_j, grad_i = x[neighbor[e]], grad_x[neighbor[e]], grad[center[e]]
        _read_filter(table, first[e], weight[e], filter_)
        total = table.dtype.type(0)
        for c in range(len(filter_)):
            total += grad_i[c] * x_j[c] * filter_[c]
            grad_x_j[c] += gate[e] * grad_i[c] * filter_[c]
            grad_filter[c] = gate[e] * grad_i[c] * x_j[c]
        grad_gate[e] = total
        _add_gradient(e, grad_filter, table, first, weight, grad_table, grad_weight)


@cache
def attention(num_heads: int, head_width: int, num_vectors: int):
    """The sums and their gradients, for these sizes: a loop of known length is a few vectors."""
    width, share = num_heads * head_width, num_vectors // num_heads
    along, carried = 2 * width, 2 * width + num_vectors  # where the filters of vectors begin

    @jit
    def attend(span, edges, query, key_value, vectors, table, out):
        center, neighbor, first, weight, gate, direction = edges
        zero, one = table.dtype.type(0), table.dtype.type(1)
        filtered = np.empty(table.shape[1], table.dtype)  # k * D^K, v * D^V, u * D^U, w * D^W
        for e in range(span[0], span[1]):
            q, kv, out_i = query[center[e]], key_value[neighbor[e]], out[center[e]]
            _read_filter(table, first[e], weight[e], filtered)
            for c in range(len(filtered)):
                filtered[c] *= kv[c]
            for h in range(num_heads):
                score = zero
                for c in range(h * head_width, (h + 1) * head_width):
                    score += q[c] * filtered[c]
                a = gate[e, h] * score / (one + math.exp(-score))
                for c in range(h * head_width, (h + 1) * head_width):
                    out_i[c] += a * filtered[width + c]
                for c in range(h * share, (h + 1) * share):
                    filtered[along + c] *= a
                    filtered[carried + c] *= a
            if num_vectors > 0:
                vectors_j = vectors[neighbor[e]]
                for axis in range(3):
                    r, here = direction[e, axis], axis * num_vectors
                    for c in range(num_vectors):
                        out_i[width + here + c] += r * filtered[along + c]
                        out_i[width + here + c] += vectors_j[here + c] * filtered[carried + c]

    @jit
    def attend_gradient(
        span, edges, query, key_value, vectors, table, grad,
        grad_query, grad_key_value, grad_vectors, grad_table,
        grad_weight, grad_gate, grad_direction,
    ):  # fmt: skip
        center, neighbor, first, weight, gate, direction = edges
        zero, one = table.dtype.type(0), table.dtype.type(1)
        filter_ = np.empty(table.shape[1], table.dtype)
        grad_filter = np.empty(table.shape[1], table.dtype)
        filtered = np.empty(2 * num_vectors, table.dtype)  # a (u * D^U) and a (w * D^W)
        for e in range(span[0], span[1]):
            q, grad_q, grad_i = query[center[e]], grad_query[center[e]], grad[center[e]]
            kv, grad_kv = key_value[neighbor[e]], grad_key_value[neighbor[e]]
            vectors_j, grad_vectors_j = vectors[neighbor[e]], grad_vectors[neighbor[e]]
            _read_filter(table, first[e], weight[e], filter_)
            if num_vectors > 0:  # what the message's gradient is along r_ij and along V_j
                for c in range(num_vectors):
                    grad_filter[along + c] = grad_filter[carried + c] = zero
                for axis in range(3):
                    r, here = direction[e, axis], axis * num_vectors
                    for c in range(num_vectors):
                        grad_vector = grad_i[width + here + c]
                        grad_filter[along + c] += r * grad_vector
                        grad_filter[carried + c] += vectors_j[here + c] * grad_vector
            for h in range(num_heads):
                score, grad_a = zero, zero
                for c in range(h * head_width, (h + 1) * head_width):
                    score += q[c] * kv[c] * filter_[c]
                    grad_a += grad_i[c] * kv[width + c] * filter_[width + c]
                for c in range(h * share, (h + 1) * share):
                    grad_a += grad_filter[along + c] * kv[along + c] * filter_[along + c]
                    grad_a += grad_filter[carried + c] * kv[carried + c] * filter_[carried + c]
                sigmoid = one / (one + math.exp(-score))
                silu = score * sigmoid
                a = gate[e, h] * silu
                grad_score = gate[e, h] * grad_a * (sigmoid + silu * (one - sigmoid))
                grad_gate[e, h] = grad_a * silu
                for c in range(h * head_width, (h + 1) * head_width):
                    grad_q[c] += grad_score * kv[c] * filter_[c]
                    grad_filter[c] = grad_score * q[c]
                    grad_filter[width + c] = a * grad_i[c]
                for c in range(h * share, (h + 1) * share):
                    grad_filter[along + c] *= a
                    grad_filter[carried + c] *= a
                    filtered[c] = a * kv[along + c] * filter_[along + c]
                    filtered[num_vectors + c] = a * kv[carried + c] * filter_[carried + c]
            if num_vectors > 0:
                for axis in range(3):
                    grad_r, here = zero, axis * num_vectors
                    for c in range(num_vectors):
                        grad_vector = grad_i[width + here + c]
                        grad_r += filtered[c] * grad_vector
                        grad_vectors_j[here + c] += filtered[num_vectors + c] * grad_vector
                    grad_direction[e, axis] = grad_r
            for c in range(len(filter_)):
                grad_kv[c] += grad_filter[c] * filter_[c]
                grad_filter[c] *= kv[c]
            _add_gradient(e, grad_filter, table, first, weight, grad_table, grad_weight)

    return attend, attend_gradient
