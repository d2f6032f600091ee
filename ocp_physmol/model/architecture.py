"""Section 3, Fig. 1a: from atoms and their neighbours to the energies of structures."""

from typing import NamedTuple

import torch
from torch import nn

from ocp_physmol.model.attention import AttentionStack
from ocp_physmol.model.config import PhysMolConfig
from ocp_physmol.model.embedding import AtomEmbedding
from ocp_physmol.model.energy import READOUTS
from ocp_physmol.model.fast.knots import Grid, Tables
from ocp_physmol.model.graph import Graph, Neighbors, measure
from ocp_physmol.model.radial import RadialBasis
from ocp_physmol.model.repulsion import NuclearRepulsion


class Structures(NamedTuple):
    """B structures of N atoms in all, and the neighbours in them."""

    pos: torch.Tensor  # [N, 3], Angstrom
    atom_type: torch.Tensor  # [N], atomic numbers, 0 for masked atoms
    neighbors: Neighbors


class PhysMolEnergy(nn.Module):
    """E(x): embedding, L Molecular Attention Blocks, readout, repulsion. Plain PyTorch."""

    def __init__(self, config: PhysMolConfig) -> None:
        super().__init__()
        self.cutoff = config.cutoff
        self.radial_basis = RadialBasis(config.num_rbf, config.cutoff)
        self.embedding = AtomEmbedding(config.hidden_channels, config.num_rbf)
        self.attention = AttentionStack(config)
        self.readout = READOUTS[config.readout](config.hidden_channels)
        self.repulsion = NuclearRepulsion(config.cutoff) if config.repulsion else None

    def tabulated(self, types: torch.Tensor) -> Tables:
        """The filters of the embedding and of the blocks for atoms of `types` [T], ascending."""
        grid = Grid(self.radial_basis, types)
        blocks = [block.attention.filters(grid.psi) for block in self.attention.blocks]
        return Tables.of(grid, [self.embedding.radial_projection(grid.gaussians), *blocks])

    def forward(self, structures: Structures, tables: Tables | None = None) -> torch.Tensor:
        """Energies [B], eV where the labels are.

        Filters are read from `tables`, which can be differentiated once, or are the formulas.
        """
        x, cls, graph = self.represent(structures, tables)
        energy = self.readout(x, cls, structures.atom_type, graph)
        if self.repulsion is not None:
            energy = energy + self.repulsion(structures.atom_type, graph)
        return energy

    def represent(
        self, structures: Structures, tables: Tables | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, Graph]:
        """Final embeddings x^(L), of atoms [N, d] and [CLS] tokens [B, d] or [0, d]; the graph."""
        atom_type = structures.atom_type
        graph = measure(structures.pos, structures.neighbors, self.cutoff)
        if tables is not None:
            radial = tables.place(atom_type, graph)
        else:
            center_type = atom_type.index_select(0, graph.center)
            radial = self.radial_basis(center_type, graph.distance, graph.envelope)
        x = self.embedding(atom_type, graph, radial)
        return *self.attention(x, atom_type, graph, radial), graph
