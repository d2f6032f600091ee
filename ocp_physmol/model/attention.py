"""Section 3.3 and Fig. 1b: the Molecular Attention Block, the [CLS] token, the A-mask."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ocp_physmol.model.config import PhysMolConfig
from ocp_physmol.model.elements import covalent_radii
from ocp_physmol.model.fast.kernels import attend
from ocp_physmol.model.fast.knots import Knots
from ocp_physmol.model.fast.loops import Edges
from ocp_physmol.model.graph import Graph
from ocp_physmol.tensor_geometry import soft_bonds

STRONG_DIRECTIONS = 20.0  # how much larger u starts than v, for products to be felt from the start


@dataclass
class Context:
    """The edges along which tokens attend to each other; the same for all blocks.

    Tokens are the N atoms, then (with [CLS]) one token for each of the B structures. Of the E'
    edges between tokens the first E are the graph's, the rest join atoms and [CLS], which has no
    position: for those there is no psi, and knots are those of a constant.
    """

    center: torch.Tensor  # [E'], the token that attends
    neighbor: torch.Tensor  # [E'], the token attended to
    envelope: torch.Tensor  # [E', 1], phi of Eq. 3, 1 for [CLS]
    radial: Any  # psi [E, num_rbf], a tensor or its Knots
    direction: torch.Tensor  # [E', 3], r_ij, zero for [CLS]; [0, 3] without vectors
    adjacency: torch.Tensor | None = None  # [E', 1], A in [0, 1]; None: no A-mask


class ClsToken(nn.Module):
    """The learned [CLS] token x_0, one for each structure, and its edges to the atoms."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(hidden_channels))

    def forward(self, x: torch.Tensor, context: Context, graph: Graph) -> torch.Tensor:
        """`x` [N, d] and the tokens, whose edges are appended to `context`."""
        atoms = torch.arange(len(x), device=x.device)
        tokens = torch.arange(len(graph.natoms), device=x.device) + len(x)
        own = graph.batch + len(x)  # [N], every atom's [CLS]
        ones = context.envelope.new_ones(2 * len(x) + len(tokens), 1)
        context.center = torch.cat([context.center, own, atoms, tokens])
        context.neighbor = torch.cat([context.neighbor, atoms, own, tokens])
        context.envelope = torch.cat([context.envelope, ones])
        if isinstance(context.radial, Knots):
            context.radial = context.radial.append(len(ones))
        if len(context.direction) > 0:
            zeros = context.direction.new_zeros(len(ones), 3)
            context.direction = torch.cat([context.direction, zeros])
        if context.adjacency is not None:
            context.adjacency = torch.cat([context.adjacency, ones])
        return torch.cat([x, self.embedding.expand(len(tokens), -1)])


class DistanceAttention(nn.Module):
    """Multi-head self-attention modulated by distance (after Thoelke & De Fabritiis, 2022).

    For each head, a_ij = SiLU(sum_c q_ic k_jc D^K_ijc) phi(d_ij), with the A-mask times
    SiLU(w A_ij + b), and x_i' = O sum_j a_ij (v_j * D^V_ij), where D^K and D^V are
    SiLU(linear(psi_ij)) between atoms and learned vectors where a [CLS] token takes part. The
    envelope multiplies weight and value together, so nothing is left of a pair at the cutoff.

    With `vector_channels` c, a token also carries c vectors V_i, zero at first, which see angles:

        V_i' = V_i + sum_j a_ij [r_ij (u_j * D^U_ij) + V_j * w_j * D^W_ij],
        x_i' = O [sum_j a_ij (v_j * D^V_ij); s(<P V_i', Q V_i'>)],

    with r_ij the unit vector from i to j, u and w linear in x as v is, D^U and D^W as D^V, P and Q
    linear maps of channels, and a product for each channel. Vectors turn with the structure and
    products do not. s(p) = p / (1 + p^2)^(1/4) grows as the vectors do, not as their squares, which
    explode from block to block where a structure is unlike all of the training. The message is
    PaiNN's (Schuett et al., 2021, Eq. 8), weighted as in TorchMD-NET's equivariant transformer; the
    product is that of PaiNN's update (Eq. 9).
    """

    def __init__(self, config: PhysMolConfig) -> None:
        super().__init__()
        hidden, width = config.hidden_channels, config.attention_width
        num_vectors = config.vector_channels
        filters = 2 * width + 2 * num_vectors
        self.num_heads = config.num_heads
        self.query = nn.Linear(hidden, width)
        self.key_value = nn.Linear(hidden, filters)  # to k, v, u and w
        self.distance = nn.Linear(config.num_rbf, filters)  # to D^K, D^V, D^U and D^W
        # D^V, D^U and D^W start near 0.7, not near 0: messages begin as large as their values
        nn.init.ones_(self.distance.bias[width:])
        # where neighbours face each other their directions cancel, and products are of second order
        with torch.no_grad():
            self.key_value.weight[2 * width : 2 * width + num_vectors] *= STRONG_DIRECTIONS
        self.cls_distance = nn.Parameter(torch.ones(filters)) if config.use_cls else None
        self.adjacency = nn.Linear(1, config.num_heads) if config.use_adjacency else None
        self.products = VectorProducts(num_vectors) if num_vectors > 0 else None
        self.output = nn.Linear(width + num_vectors, hidden)

    def forward(
        self, x: torch.Tensor, vectors: torch.Tensor, context: Context, table: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Messages [T, d] to the tokens `x` [T, d], and their new `vectors` [T, 3c].

        The `table` has the filters, if the context has Knots.
        """
        gate = context.envelope.expand(-1, self.num_heads)  # [E', H]
        if self.adjacency is not None:
            gate = gate * F.silu(self.adjacency(context.adjacency))
        query, key_value, radial = self.query(x), self.key_value(x), context.radial
        on_knots = table is not None
        filters = self.filters(radial) if table is None else table
        if self.cls_distance is not None:  # as four rows of a table, or once for each of its edges
            rows = 4 if on_knots else len(gate) - len(filters)
            filters = torch.cat([filters, self.cls_distance.expand(rows, -1)])
        if on_knots:
            knots, direction = (radial.first, radial.weight), context.direction
            edges = Edges(context.center, context.neighbor, *knots, gate, direction)
            gathered = attend(query, key_value, vectors, filters, edges)
        else:
            gathered = self._gather(query, key_value, vectors, filters, gate, context)
        if self.products is None:
            return self.output(gathered), vectors
        gathered, received = gathered.split([query.shape[1], vectors.shape[1]], dim=-1)
        vectors = vectors + received
        return self.output(torch.cat([gathered, self.products(vectors)], dim=-1)), vectors

    def filters(self, psi: torch.Tensor) -> torch.Tensor:
        """D^K, D^V, D^U and D^W side by side, [..., 2m + 2c]."""
        return F.silu(self.distance(psi))

    def _gather(self, query, key_value, vectors, filters, gate, context: Context) -> torch.Tensor:
        """The sums over edges by tensor operations, with `filters` [E', 2m + 2c]: [T, m + 3c]."""
        m, c = query.shape[1], vectors.shape[1] // 3
        key_value = key_value.index_select(0, context.neighbor) * filters
        key, value, along, carried = key_value.split([m, m, c, c], dim=-1)
        heads = (self.num_heads, -1)
        score = (query.index_select(0, context.center) * key).unflatten(-1, heads).sum(-1)
        weight = (F.silu(score) * gate)[..., None]  # [E', H, 1]
        message = (value.unflatten(-1, heads) * weight).flatten(1)  # [E', m]
        if c > 0:
            along = (along.unflatten(-1, heads) * weight).flatten(1)  # [E', c]
            carried = (carried.unflatten(-1, heads) * weight).flatten(1)
            theirs = vectors.index_select(0, context.neighbor).unflatten(-1, (3, c))
            vector = context.direction[:, :, None] * along[:, None] + theirs * carried[:, None]
            message = torch.cat([message, vector.flatten(1)], dim=-1)
        gathered = message.new_zeros(len(query), message.shape[-1])
        return gathered.index_add(0, context.center, message)


class VectorProducts(nn.Module):
    """s(<P V_i, Q V_i>), for each of c channels."""

    def __init__(self, num_vectors: int) -> None:
        super().__init__()
        self.num_vectors = num_vectors
        self.left_right = nn.Linear(num_vectors, 2 * num_vectors, bias=False)  # P and Q

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Products [T, c] of `vectors` [T, 3c]."""
        left, right = self.left_right(vectors.unflatten(-1, (3, self.num_vectors))).chunk(2, dim=-1)
        product = (left * right).sum(1)
        return product * (1 + product.square()).pow(-0.25)


class MolecularAttentionBlock(nn.Module):
    """One MAB: distance attention and a two-layer feed-forward network, both residual, pre-norm."""

    def __init__(self, config: PhysMolConfig) -> None:
        super().__init__()
        width = config.hidden_channels
        self.attention_norm = nn.LayerNorm(width)
        self.attention = DistanceAttention(config)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, x: torch.Tensor, vectors: torch.Tensor, context: Context, table: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        message, vectors = self.attention(self.attention_norm(x), vectors, context, table)
        x = x + message
        return x + self.feed_forward(x), vectors


class AttentionStack(nn.Module):
    """The L blocks, with the [CLS] token and the A-mask where they are switched on."""

    def __init__(self, config: PhysMolConfig) -> None:
        super().__init__()
        self.cls_token = ClsToken(config.hidden_channels) if config.use_cls else None
        self.use_adjacency, self.num_vectors = config.use_adjacency, config.vector_channels
        self.register_buffer("covalent_radii", covalent_radii(), persistent=False)
        self.blocks = nn.ModuleList(
            MolecularAttentionBlock(config) for _ in range(config.num_layers)
        )

    def forward(self, x, atom_type, graph: Graph, radial) -> tuple[torch.Tensor, torch.Tensor]:
        """Atom embeddings x^(L) [N, d], and those of the [CLS] tokens, [B, d] (or [0, d]).

        There is no norm at the end: an embedding's length grows with the number of neighbours, and
        energies need to know that number.
        """
        num_atoms = len(x)
        direction = graph.direction() if self.num_vectors > 0 else x.new_zeros(0, 3)
        envelope = graph.envelope[:, None]
        context = Context(graph.center, graph.neighbor, envelope, radial, direction)
        if self.use_adjacency:
            radii = self.covalent_radii[atom_type]
            bond_length = radii[graph.center] + radii[graph.neighbor]
            context.adjacency = soft_bonds(graph.distance, bond_length)[:, None]
        if self.cls_token is not None:
            x = self.cls_token(x, context, graph)
        vectors = x.new_zeros(len(x), 3 * self.num_vectors)
        tables = radial.tables[1:] if isinstance(radial, Knots) else [None] * len(self.blocks)
        for block, table in zip(self.blocks, tables):
            x, vectors = block(x, vectors, context, table)
        return x[:num_atoms], x[num_atoms:]
