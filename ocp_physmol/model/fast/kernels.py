"""The compiled sums over edges (loops.py), as operations on tensors that have a derivative."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch

from ocp_physmol.model.fast import loops
from ocp_physmol.model.fast.loops import Edges

MIN_EDGES = 20_000  # for a thread to be worth starting


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
    return _EdgeSum.apply((loops.embed, loops.embed_gradient), x.shape[1], *edges, x, table)


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
    kernels = loops.attention(num_heads, query.shape[1] // num_heads, num_vectors)
    channels = query.shape[1] + vectors.shape[1]
    return _EdgeSum.apply(kernels, channels, *edges, query, key_value, vectors, table)
