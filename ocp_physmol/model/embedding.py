"""Section 3.2, Eq. 1 and 4: what an atom is, and what it has around it."""

import math

import torch
from torch import nn

from ocp_physmol.model.elements import electronegativities, periods_and_groups
from ocp_physmol.model.fast.kernels import embed
from ocp_physmol.model.fast.knots import Knots
from ocp_physmol.model.fast.loops import Edges
from ocp_physmol.model.graph import Graph

PERIOD_SCALE, GROUP_SCALE = 1.0, 1.8  # over which elements grow different


def similar_for_similar_elements(num_channels: int) -> torch.Tensor:
    """Random embeddings [119, num_channels], alike for neighbours in the periodic table.

    Random Fourier features (Rahimi & Recht, 2007) of period and group, of unit variance: elements D
    periods and G groups apart correlate by exp(-(D^2 / PERIOD_SCALE^2 + G^2 / GROUP_SCALE^2) / 2).
    So a model treats an element that it was not trained on like those around it.
    """
    place = periods_and_groups() / torch.tensor([PERIOD_SCALE, GROUP_SCALE])
    phase = 2 * math.pi * torch.rand(num_channels)
    return math.sqrt(2) * torch.cos(place @ torch.randn(2, num_channels) + phase)


class AtomEmbedding(nn.Module):
    """x_i = W [x_self; x_neighbor].

    Eq. 1: x_self = [E(z_i); n_{z_i}], a learned vector and the electronegativity.
    Eq. 4: x_neighbor = sum_j U (x_self_j * V psi_ij).
    """

    def __init__(self, hidden_channels: int, num_rbf: int) -> None:
        super().__init__()
        start = similar_for_similar_elements(hidden_channels - 1)
        self.type_embedding = nn.Embedding.from_pretrained(start, freeze=False)
        self.register_buffer("electronegativity", electronegativities(), persistent=False)
        self.radial_projection = nn.Linear(num_rbf, hidden_channels, bias=False)  # V
        self.neighbor_projection = nn.Linear(hidden_channels, hidden_channels, bias=False)  # U
        self.combine = nn.Linear(2 * hidden_channels, hidden_channels)  # W

    def forward(self, atom_type: torch.Tensor, graph: Graph, radial) -> torch.Tensor:
        """Embeddings [N, d] from `atom_type` [N] and the edges' psi [E, num_rbf], or Knots."""
        electronegativity = self.electronegativity[atom_type, None]
        own = torch.cat([self.type_embedding(atom_type), electronegativity], dim=-1)  # [N, d]
        edges = slice(0, 2 * len(graph.pair_distance))  # without those from an atom to itself
        center, neighbor = graph.center[edges], graph.neighbor[edges]
        if isinstance(radial, Knots):
            # the envelope stays outside of what is interpolated: nothing is left at the cutoff
            gate = graph.envelope[edges]
            nothing = gate.new_zeros(0, 3)
            links = Edges(center, neighbor, radial.first, radial.weight, gate, nothing)
            around = embed(own, radial.tables[0], links)
        else:
            message = own.index_select(0, neighbor) * self.radial_projection(radial[edges])
            around = torch.zeros_like(own).index_add(0, center, message)
        return self.combine(torch.cat([own, self.neighbor_projection(around)], dim=-1))
