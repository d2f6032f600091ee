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
    center, neighbor, first, weight, gate = edges
    filter_ = np.empty(table.shape[1], table.dtype)
    for e in range(span[0], span[1]):
        x_j, out_i = x[neighbor[e]], out[center[e]]
        _read_filter(table, first[e], weight[e], filter_)
        for c in range(len(filter_)):
            out_i[c] += gate[e] * x_j[c] * filter_[c]


@jit
def _embed_gradient(span, edges, x, table, grad, grad_x, grad_table, grad_weight, grad_gate):
    center, neighbor, first, weight, gate = edges
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
def _attention_kernels(num_heads: int, head_width: int):
    """Compiled for these sizes: a loop over a head of known width is a few vectors."""
    width = num_heads * head_width

    @jit
    def attend(span, edges, query, key_value, table, out):
        center, neighbor, first, weight, gate = edges
        zero, one = table.dtype.type(0), table.dtype.type(1)
        filtered = np.empty(2 * width, table.dtype)  # k * D^K and v * D^V
        for e in range(span[0], span[1]):
            q, kv, out_i = query[center[e]], key_value[neighbor[e]], out[center[e]]
            _read_filter(table, first[e], weight[e], filtered)
            for c in range(2 * width):
                filtered[c] *= kv[c]
            for h in range(num_heads):
                score = zero
                for c in range(h * head_width, (h + 1) * head_width):
                    score += q[c] * filtered[c]
                a = gate[e, h] * score / (one + math.exp(-score))
                for c in range(h * head_width, (h + 1) * head_width):
                    out_i[c] += a * filtered[width + c]

    @jit
    def attend_gradient(
        span, edges, query, key_value, table, grad,
        grad_query, grad_key_value, grad_table, grad_weight, grad_gate,
    ):  # fmt: skip
        center, neighbor, first, weight, gate = edges
        zero, one = table.dtype.type(0), table.dtype.type(1)
        filter_ = np.empty(2 * width, table.dtype)
        grad_filter = np.empty(2 * width, table.dtype)
        for e in range(span[0], span[1]):
            q, grad_q, grad_i = query[center[e]], grad_query[center[e]], grad[center[e]]
            kv, grad_kv = key_value[neighbor[e]], grad_key_value[neighbor[e]]
            _read_filter(table, first[e], weight[e], filter_)
            for h in range(num_heads):
                score, grad_a = zero, zero
                for c in range(h * head_width, (h + 1) * head_width):
                    score += q[c] * kv[c] * filter_[c]
                    grad_a += grad_i[c] * kv[width + c] * filter_[width + c]
                sigmoid = one / (one + math.exp(-score))
                silu = score * sigmoid
                a = gate[e, h] * silu
                grad_score = gate[e, h] * grad_a * (sigmoid + silu * (one - sigmoid))
                grad_gate[e, h] = grad_a * silu
                for c in range(h * head_width, (h + 1) * head_width):
                    grad_q[c] += grad_score * kv[c] * filter_[c]
                    grad_filter[c] = grad_score * q[c]
                    grad_filter[width + c] = a * grad_i[c]
            for c in range(2 * width):
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
    def forward(ctx, kernels, *tensors):
        ctx.kernels = kernels
        ctx.save_for_backward(*tensors)
        edges, values = tensors[:5], tensors[5:]
        out = values[0].new_zeros(values[0].shape)
        _run(kernels[0], _arrays(edges), _arrays(values), _arrays([out]))
        return out

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "compiled sums have first derivatives only; where the positions require grad, "
                "PhysMol evaluates its formulas themselves, which have all of them"
            )
        edges, (*nodes, table) = Edges(*ctx.saved_tensors[:5]), ctx.saved_tensors[5:]
        wants_weight, wants_table = ctx.needs_input_grad[4], ctx.needs_input_grad[-1]
        sums = [node.new_zeros(node.shape) for node in nodes]
        sums.append(table.new_zeros(table.shape if wants_table else (0, 0)))
        weight = edges.weight.new_zeros(edges.weight.shape if wants_weight else (0, 0))
        rows = [weight, edges.gate.new_zeros(edges.gate.shape)]
        inputs = _arrays([*nodes, table, grad])
        _run(ctx.kernels[1], _arrays(edges), inputs, _arrays(sums), _arrays(rows))
        return None, None, None, None, *rows, *sums


def embed(x: torch.Tensor, table: torch.Tensor, edges: Edges) -> torch.Tensor:
    """Eq. 4: sum_j gate_ij x_j * F_ij, [N, C], from `x` [N, C] and the `table` [T * R, C] of F."""
    return _EdgeSum.apply((_embed, _embed_gradient), *edges, x, table)


def attend(
    query: torch.Tensor, key_value: torch.Tensor, table: torch.Tensor, edges: Edges
) -> torch.Tensor:
    """sum_j SiLU(q_i . k_j * D^K_ij) gate_ij (v_j * D^V_ij), for each head: [N, m].

    Of `query` [N, m], `key_value` [N, 2m] (keys and values side by side) and the `table`
    [T * R, 2m] of D^K and D^V, side by side too.
    """
    num_heads = edges.gate.shape[1]
    kernels = _attention_kernels(num_heads, query.shape[1] // num_heads)
    return _EdgeSum.apply(kernels, *edges, query, key_value, table)
