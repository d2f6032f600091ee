"""Sums over edges as loops compiled for the processor: Eq. 4 and the attention, first derivatives.

Tensor operations write each of some ten intermediate results of [E, 2m] to memory and read it back.
A loop finishes one edge before it begins the next, and all of that stays in the fastest cache. The
filter of an edge, V psi or D, is a weighted sum of four consecutive rows of a table (knots.py).

All kernels begin with the same arguments: `span`, the range of edges to sum over, and the `Edges`.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
import torch

MIN_EDGES = 20_000  # for a thread to be worth starting


class Edges(NamedTuple):
    """The atoms, the filter and the gate of each of E edges."""

    center: torch.Tensor  # [E], atom i
    neighbor: torch.Tensor  # [E], atom j
    first: torch.Tensor  # [E], the first of four consecutive rows of the table
    weight: torch.Tensor  # [E, 4], of these rows in the filter
    gate: torch.Tensor  # [E] or [E, num_heads], multiplies the message
    direction: torch.Tensor  # [E, 3], of unit length, from i to j; [0, 3] without vectors


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
def _embed(span, edges, x, table, out):
    center, neighbor, first, weight, gate, _ = edges
    filter_ = np.empty(table.shape[1], table.dtype)
    for e in range(span[0], span[1]):
        x_j, out_i = x[neighbor[e]], out[center[e]]
        _read_filter(table, first[e], weight[e], filter_)
        for c in range(len(filter_)):
            out_i[c] += gate[e] * x_j[c] * filter_[c]


@jit
def _embed_gradient(
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
def _attention_kernels(num_heads: int, head_width: int, num_vectors: int):
    """Compiled for these sizes: a loop over a head of known width is a few vectors."""
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


def _run(kernel, edges, inputs, sums, rows=()) -> None:
    """Run the kernel over all edges, in as many threads as torch uses where that pays.

    `sums` are added to by any edge, so each thread has its own; `rows` belong to one edge.
    """

    def run_span(span, own_sums):
        kernel(span, edges, *inputs, *own_sums, *rows)

    num_edges = len(edges[0])
    threads = min(torch.get_num_threads(), num_edges // MIN_EDGES)
    if threads <= 1:
        run_span((0, num_edges), sums)
        return
    spans = pairwise(num_edges * t // threads for t in range(threads + 1))
    own = [sums, *([np.zeros_like(s) for s in sums] for _ in range(threads - 1))]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run_span, spans, own))  # raises what went wrong there
    for total, *parts in zip(*own):
        for part in parts:
            total += part


def _arrays(tensors) -> tuple[np.ndarray, ...]:
    return tuple(t.detach().contiguous().numpy() for t in tensors)


class _EdgeSum(torch.autograd.Function):
    """A pair of kernels, one for the sums and one for their gradients; the table comes last."""

    @staticmethod
    def forward(ctx, kernels, channels, *tensors):
        ctx.kernels = kernels
        ctx.save_for_backward(*tensors)
        edges, values = tensors[: len(Edges._fields)], tensors[len(Edges._fields) :]
        out = values[0].new_zeros(len(values[0]), channels)
        _run(kernels[0], _arrays(edges), _arrays(values), _arrays([out]))
        return out

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "compiled sums have first derivatives only; where the positions require grad, "
                "PhysMol evaluates its formulas themselves, which have all of them"
            )
        num_fields = len(Edges._fields)
        edges = Edges(*ctx.saved_tensors[:num_fields])
        *nodes, table = ctx.saved_tensors[num_fields:]
        wants_weight, wants_table = ctx.needs_input_grad[5], ctx.needs_input_grad[-1]
        sums = [node.new_zeros(node.shape) for node in nodes]
        sums.append(table.new_zeros(table.shape if wants_table else (0, 0)))
        weight_shape = edges.weight.shape if wants_weight else (0, 0)
        shapes = (weight_shape, edges.gate.shape, edges.direction.shape)
        rows = [grad.new_zeros(shape) for shape in shapes]
        inputs = _arrays([*nodes, table, grad])
        _run(ctx.kernels[1], _arrays(edges), inputs, _arrays(sums), _arrays(rows))
        return None, None, None, None, None, *rows, *sums


def embed(x: torch.Tensor, table: torch.Tensor, edges: Edges) -> torch.Tensor:
    """Eq. 4: sum_j gate_ij x_j * F_ij, [N, C], from `x` [N, C] and the `table` [T * R, C] of F."""
    return _EdgeSum.apply((_embed, _embed_gradient), x.shape[1], *edges, x, table)


def attend(
    query: torch.Tensor,
    key_value: torch.Tensor,
    vectors: torch.Tensor,
    table: torch.Tensor,
    edges: Edges,
) -> torch.Tensor:
    """The sums over neighbours of attention.py, scalars and vectors side by side: [N, m + 3c].

    Args:
        query: [N, m].
        key_value: [N, 2m + 2c], k, v, u and w side by side.
        vectors: [N, 3c], the x components of all c, then y, then z.
        table: [T * R, 2m + 2c], D^K, D^V, D^U and D^W side by side.
    """
    num_heads, num_vectors = edges.gate.shape[1], vectors.shape[1] // 3
    kernels = _attention_kernels(num_heads, query.shape[1] // num_heads, num_vectors)
    channels = query.shape[1] + vectors.shape[1]
    return _EdgeSum.apply(kernels, channels, *edges, query, key_value, vectors, table)
