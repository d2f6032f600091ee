"""Section 3 in numpy: the energies of atoms, and their derivative written out.

A small molecule is a hundred operations on small arrays, and automatic differentiation takes longer
to note each of them down than a processor takes for it. The equations are those of `model/`, and
the sums over edges its compiled loops; tests compare both.
"""

import math

import numpy as np

from ocp_physmol.model.config import PhysMolConfig
from ocp_physmol.model.fast import loops
from ocp_physmol.model.fast.splines import MAX_SPACING, STENCIL
from ocp_physmol.potential.edges import MeasuredEdges, Pairs
from ocp_physmol.potential.layers import (
    Weights,
    layer_norm,
    linear,
    linear_gradient,
    products,
    silu,
)


class Network:
    """A `PhysMolEnergy` with the readout `atom`, without [CLS], A-mask and repulsion.

    Args:
        options: of the model, whose readout is `atom`.
        weights: the state_dict of `PhysMolEnergy`, and the buffer `embedding.electronegativity`.
        numbers: the atomic numbers that it is for, ascending.
    """

    def __init__(self, options: PhysMolConfig, weights: Weights, numbers: np.ndarray) -> None:
        self.cutoff, self.num_heads = options.cutoff, options.num_heads
        self.weights, self.numbers = weights, numbers
        self.dtype = weights["embedding.combine.weight"].dtype
        self.blocks = [
            Block(f"attention.blocks.{k}", options, weights) for k in range(options.num_layers)
        ]
        self.intervals = math.ceil(self.cutoff * max(options.num_rbf, 1 / MAX_SPACING))
        # networks that are alike in these have the same edges
        self.edge_options = (
            tuple(numbers), self.cutoff, self.intervals, self.num_heads, str(self.dtype)
        )  # fmt: skip
        self.tables = self._tabulated()
        own = weights["embedding.type_embedding.weight"], weights["embedding.electronegativity"]
        self.of_elements = np.column_stack(own).astype(self.dtype)  # [119, d]

    def _tabulated(self) -> list[np.ndarray]:
        """The filters of the embedding and of each block, as `model.fast.knots` has them."""
        distance = self.cutoff / self.intervals * np.arange(-3, self.intervals + 4)
        mu, sqrt_beta = (
            self.weights[f"radial_basis.{name}"][self.numbers, None] for name in ("mu", "sqrt_beta")
        )
        gaussians = np.exp(-np.square(sqrt_beta * (np.exp(-distance)[:, None] - mu)))
        envelope = 0.5 * (np.cos(np.pi / self.cutoff * distance) + 1)
        psi = (gaussians * envelope[:, None]).astype(self.dtype)
        radial = linear(gaussians.astype(self.dtype), self.weights, "embedding.radial_projection")
        filters = [silu(linear(psi, self.weights, f"{b.name}.distance"))[0] for b in self.blocks]
        return [_coefficients(values) for values in (radial, *filters)]

    def edges(self, numbers: np.ndarray, pairs: Pairs) -> MeasuredEdges:
        """What the network reads of atoms with `numbers` [N] and their `pairs`."""
        kind = np.searchsorted(self.numbers, numbers)
        return MeasuredEdges(pairs, kind, self.cutoff, self.intervals, self.num_heads, self.dtype)

    def __call__(self, numbers: np.ndarray, edges: MeasuredEdges) -> tuple[np.ndarray, np.ndarray]:
        """Energies of atoms with `numbers` [N] in units of the model, [N], and the derivative of
        their sum by the vectors of the P pairs that the `edges` are of, [P, 3]."""
        own = self.of_elements[numbers]
        x = self._embed(own, edges)
        vectors, backwards = None, []
        for block, table in zip(self.blocks, self.tables[1:]):
            x, vectors, backward = block(x, vectors, edges.all, table)
            backwards.append(backward)
        energies = linear(x, self.weights, "readout.f_atom")[:, 0].astype(float)

        grad = np.broadcast_to(self.weights["readout.f_atom.weight"], x.shape)
        of_edges = EdgeGradients(edges.all)
        grad_vectors = None
        for backward in reversed(backwards):
            grad, grad_vectors = backward(grad, grad_vectors, of_edges)
        self._embed_gradient(grad, own, edges, of_edges)
        return energies, edges.gradient(of_edges.weight, of_edges.gate, of_edges.direction)

    def _embed(self, own: np.ndarray, edges: MeasuredEdges) -> np.ndarray:
        """Eq. 1 and 4, `model.embedding`."""
        around, between = np.zeros_like(own), edges.between_atoms
        loops.embed((0, len(between.center)), between, own, self.tables[0], around)
        theirs = linear(around, self.weights, "embedding.neighbor_projection")
        return linear(np.concatenate([own, theirs], axis=1), self.weights, "embedding.combine")

    def _embed_gradient(self, grad, own, edges: MeasuredEdges, of_edges: "EdgeGradients") -> None:
        between = edges.between_atoms
        theirs = linear_gradient(grad, self.weights, "embedding.combine")[:, own.shape[1] :]
        around = linear_gradient(theirs, self.weights, "embedding.neighbor_projection")
        weight, gate = np.zeros_like(between.weight), np.zeros_like(between.gate)
        loops.embed_gradient(
            (0, len(between.center)), between, own, self.tables[0], around,
            np.zeros_like(own), np.zeros((0, 0), self.dtype), weight, gate, between.direction,
        )  # fmt: skip
        of_edges.weight[: len(weight)] += weight
        of_edges.gate[: len(gate)] += gate


class EdgeGradients:
    """Gradients of what the edges carry, gathered over all blocks."""

    def __init__(self, edges: loops.Edges) -> None:
        self.weight = np.zeros_like(edges.weight)  # [E, 4]
        self.gate = np.zeros_like(edges.gate[:, 0])  # [E]
        self.direction = np.zeros_like(edges.direction)  # [E, 3]


class Block:
    """Fig. 1b: `model.attention.MolecularAttentionBlock`."""

    def __init__(self, name: str, options: PhysMolConfig, weights: Weights) -> None:
        self.block, self.name, self.weights = name, f"{name}.attention", weights
        self.width, self.num_vectors = options.attention_width, options.vector_channels
        sizes = options.num_heads, self.width // options.num_heads, self.num_vectors
        self.attend, self.attend_gradient = loops.attention(*sizes)

    def __call__(self, x, vectors, edges: loops.Edges, table):
        """New embeddings [N, d] and vectors [N, 3c] (None: zero), and how gradients go back."""
        if vectors is None:
            vectors = np.zeros((len(x), 3 * self.num_vectors), x.dtype)
        x, vectors, attend_backward = self._attention(x, vectors, edges, table)
        weights, feed = self.weights, f"{self.block}.feed_forward"
        inner, norm_backward = layer_norm(x, weights, f"{feed}.0")
        hidden, slope = silu(linear(inner, weights, f"{feed}.1"))
        out = x + linear(hidden, weights, f"{feed}.3")

        def backward(grad, grad_vectors, of_edges: EdgeGradients):
            if grad_vectors is None:
                grad_vectors = np.zeros_like(vectors)
            hidden = linear_gradient(grad, weights, f"{feed}.3") * slope
            grad = grad + norm_backward(linear_gradient(hidden, weights, f"{feed}.1"))
            return attend_backward(grad, grad_vectors, of_edges)

        return out, vectors, backward

    def _attention(self, x, vectors, edges: loops.Edges, table):
        """x + O [message; products], and the vectors with what they receive."""
        weights, name, m = self.weights, self.name, self.width
        normal, norm_backward = layer_norm(x, weights, f"{self.block}.attention_norm")
        arguments = (
            (0, len(edges.center)), edges, linear(normal, weights, f"{name}.query"),
            linear(normal, weights, f"{name}.key_value"), vectors, table,
        )  # fmt: skip
        gathered = np.zeros((len(x), m + vectors.shape[1]), x.dtype)
        self.attend(*arguments, gathered)
        message, product_backward = gathered[:, :m], None
        if self.num_vectors > 0:
            vectors = vectors + gathered[:, m:]
            angles, product_backward = products(vectors, weights, f"{name}.products.left_right")
            message = np.concatenate([message, angles], axis=1)
        out = x + linear(message, weights, f"{name}.output")

        def backward(grad, grad_vectors, of_edges: EdgeGradients):
            of_message = linear_gradient(grad, weights, f"{name}.output")
            if product_backward is not None:
                grad_vectors = grad_vectors + product_backward(of_message[:, m:])
            received = np.concatenate([of_message[:, :m], grad_vectors], axis=1)
            query, key_value, before = self._attend_gradient(arguments, received, of_edges)
            query = linear_gradient(query, weights, f"{name}.query")
            key_value = linear_gradient(key_value, weights, f"{name}.key_value")
            return grad + norm_backward(query + key_value), grad_vectors + before

        return out, vectors, backward

    def _attend_gradient(self, arguments, grad, of_edges: EdgeGradients):
        """Those of queries, of keys and values, and of vectors; those of edges are added up."""
        _, edges, *inputs, table = arguments
        nodes = [np.zeros_like(values) for values in inputs]
        weight, gate = np.zeros_like(edges.weight), np.zeros_like(edges.gate)
        direction = np.zeros_like(edges.direction)
        nothing = np.zeros((0, 0), table.dtype)  # the table is not trained
        self.attend_gradient(*arguments, grad, *nodes, nothing, weight, gate, direction)
        of_edges.weight += weight
        of_edges.gate += gate.sum(1)
        of_edges.direction += direction
        return nodes


def _coefficients(values: np.ndarray) -> np.ndarray:
    """Of the splines through `values` [T, R + 4, C] on the knots: [T * R, C]."""
    count = values.shape[1] - 4
    parts = [weight * values[:, k : k + count] for k, weight in enumerate(STENCIL)]
    return np.sum(parts, axis=0, dtype=values.dtype).reshape(-1, values.shape[2])
