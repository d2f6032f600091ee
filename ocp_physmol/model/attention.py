"""Section 3.3 and Fig. 1b: the Molecular Attention Block, the [CLS] token, the A-mask."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ocp_physmol.geometry import soft_bonds
from ocp_physmol.model.config import PhysMolConfig
from ocp_physmol.model.elements import covalent_radii
from ocp_physmol.model.fast.kernels import Edges, attend
from ocp_physmol.model.fast.knots import Knots
from ocp_physmol.model.graph import Graph


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
        if context.adjacency is not None:
            context.adjacency = torch.cat([context.adjacency, ones])
        return torch.cat([x, self.embedding.expand(len(tokens), -1)])


class DistanceAttention(nn.Module):
    """Multi-head self-attention modulated by distance (after Thoelke & De Fabritiis, 2022).

    For each head, a_ij = SiLU(sum_c q_ic k_jc D^K_ijc) phi(d_ij), with the A-mask times
    SiLU(w A_ij + b), and x_i' = O sum_j a_ij (v_j * D^V_ij), where D^K and D^V are
    SiLU(linear(psi_ij)) between atoms and learned vectors where a [CLS] token takes part. The
    envelope multiplies weight and value together, so nothing is left of a pair at the cutoff.
    """

    def __init__(self, config: PhysMolConfig) -> None:
        super().__init__()
        hidden, width = config.hidden_channels, config.attention_width
        self.num_heads = config.num_heads
        self.query = nn.Linear(hidden, width)
        self.key_value = nn.Linear(hidden, 2 * width)
        self.distance = nn.Linear(config.num_rbf, 2 * width)  # to D^K and D^V
        self.cls_distance = nn.Parameter(torch.ones(2 * width)) if config.use_cls else None
        self.adjacency = nn.Linear(1, config.num_heads) if config.use_adjacency else None
        self.output = nn.Linear(width, hidden)

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        """Messages [T, d] to the tokens `x` [T, d]."""
        gate = context.envelope.expand(-1, self.num_heads)  # [E', H]
        if self.adjacency is not None:
            gate = gate * F.silu(self.adjacency(context.adjacency))
        query, key_value, radial = self.query(x), self.key_value(x), context.radial
        on_knots = isinstance(radial, Knots)
        filters = radial.table(self._filters, radial.psi) if on_knots else self._filters(radial)
        if self.cls_distance is not None:  # as four rows of a table, or once for each of its edges
            rows = 4 if on_knots else len(gate) - len(filters)
            filters = torch.cat([filters, self.cls_distance.expand(rows, -1)])
        if not on_knots:
            return self.output(self._gather(query, key_value, filters, gate, context))
        edges = Edges(context.center, context.neighbor, radial.first, radial.weight, gate)
        return self.output(attend(query, key_value, filters, edges))

    def _filters(self, psi: torch.Tensor) -> torch.Tensor:
        """D^K and D^V side by side, [..., 2m]."""
        return F.silu(self.distance(psi))

    def _gather(self, query, key_value, filters, gate, context: Context) -> torch.Tensor:
        """The sum over edges by tensor operations, with `filters` [E', 2m]: [T, m]."""
        key_value = key_value.index_select(0, context.neighbor) * filters
        key, value = key_value.chunk(2, dim=-1)  # each [E', m]
        heads = (self.num_heads, -1)
        score = (query.index_select(0, context.center) * key).unflatten(-1, heads).sum(-1)
        weight = F.silu(score) * gate  # [E', H]
        message = (value.unflatten(-1, heads) * weight[..., None]).flatten(1)  # [E', m]
        gathered = message.new_zeros(len(query), message.shape[-1])
        return gathered.index_add(0, context.center, message)


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

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.feed_forward(x)


class AttentionStack(nn.Module):
    """The L blocks, with the [CLS] token and the A-mask where they are switched on."""

    def __init__(self, config: PhysMolConfig) -> None:
        super().__init__()
        self.cls_token = ClsToken(config.hidden_channels) if config.use_cls else None
        self.use_adjacency = config.use_adjacency
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
        context = Context(graph.center, graph.neighbor, graph.envelope[:, None], radial)
        if self.use_adjacency:
            radii = self.covalent_radii[atom_type]
            bond_length = radii[graph.center] + radii[graph.neighbor]
            context.adjacency = soft_bonds(graph.distance, bond_length)[:, None]
        if self.cls_token is not None:
            x = self.cls_token(x, context, graph)
        for block in self.blocks:
            x = block(x, context)
        return x[:num_atoms], x[num_atoms:]
