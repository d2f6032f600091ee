"""Sections 3.3 and 3.4, Eq. 5-6: from embeddings to an energy, in three ways."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ocp_physmol.model.elements import covalent_radii
from ocp_physmol.model.graph import Graph

COULOMB_CORE = 0.3  # Angstrom; 1/d is at most the inverse of it, and exact beyond twice it
MAX_EXPONENT = 5.0  # of (beta_4/d)^beta_3; a repulsion of e^10 beta_2 is high enough

INITIAL_DEPTH = 0.5  # eV, of beta_2: gives stretches of physical stiffness
INITIAL_COULOMB = 0.1  # eV A, of beta_1
MAX_CHANGE = 5.0  # of what softplus makes positive: its results neither vanish nor explode


def pair_energy(distance: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Eq. 5: E_ij = -b1 b0/d + b2 [(b4/d)^(2 b3) - 2 (b4/d)^b3], in eV.

    The powers are taken in log space with a smooth cap on the exponent, so that overlapping atoms
    repel with a large finite energy and force.

    Args:
        distance: [P], Angstrom, positive.
        beta: [P, 5]; b0 (e^2) free in sign, b1 (eV A / e^2), b2 (eV), b3, b4 (Angstrom) positive.
    """
    b0, b1, b2, b3, b4 = beta.unbind(-1)
    at_least_core = COULOMB_CORE + F.softplus(distance - COULOMB_CORE, beta=20.0 / COULOMB_CORE)
    coulomb = -b1 * b0 * at_least_core.reciprocal()
    exponent = b3 * (b4.log() - distance.log())
    exponent = MAX_EXPONENT - F.softplus(MAX_EXPONENT - exponent, beta=4.0)
    attraction = exponent.exp()
    return coulomb + b2 * (attraction.square() - 2 * attraction)


def at_least_single(values: torch.Tensor) -> torch.Tensor:
    """Energies have more digits than the half precision in which autocast computes a layer."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def sum_over(values: torch.Tensor, batch: torch.Tensor, graph: Graph) -> torch.Tensor:
    """Sum `values` of atoms or pairs over those of each structure of `graph`: [B]."""
    values = at_least_single(values)
    return values.new_zeros(len(graph.natoms)).index_add(0, batch, values)


def linear_from_zero(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose outputs are zero until it is trained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class AtomReadout(nn.Module):
    """E = sum_i f_atom(x_i), f_atom a single linear layer (3.3)."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.f_atom = linear_from_zero(hidden_channels, 1)

    def forward(self, x, cls, atom_type, graph: Graph) -> torch.Tensor:
        return sum_over(self.f_atom(x)[:, 0], graph.batch, graph)


class ClsReadout(nn.Module):
    """E = f_mol(x_0), f_mol a single linear layer on the [CLS] token (3.3)."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.f_mol = linear_from_zero(hidden_channels, 1)

    def forward(self, x, cls, atom_type, graph: Graph) -> torch.Tensor:
        return at_least_single(self.f_mol(cls)[:, 0])


class BondRegressor(nn.Module):
    """f_bond, which gives the five parameters of Eq. 5 for each pair.

    A two-layer perceptron on the sum of both embeddings, the symmetric part of [x_i; x_j]. Its last
    layer starts at zero, so at the start every pair has beta_3 = 6, beta_4 = the sum of covalent
    radii, beta_2 = INITIAL_DEPTH and no charges; it changes them smoothly by MAX_CHANGE at most.
    """

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.embed = nn.Linear(hidden_channels, hidden_channels)
        self.regress = linear_from_zero(hidden_channels, 5)
        start = [INITIAL_COULOMB, INITIAL_DEPTH, 1.0, 1.0]  # softplus(offset)
        offset = torch.tensor([math.log(math.expm1(value)) for value in start])
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("covalent_radii", covalent_radii(), persistent=False)

    def forward(self, x, atom_type, graph: Graph) -> torch.Tensor:
        """beta [P, 5] from `x` [N, d] and `atom_type` [N]."""
        i, j = graph.pair_index
        embedded = self.embed(x)
        free = self.regress(F.silu(embedded.index_select(0, i) + embedded.index_select(0, j)))
        free = MAX_CHANGE * torch.tanh(free / MAX_CHANGE)
        b1, b2, b3, b4 = F.softplus(free[:, 1:] + self.offset).unbind(-1)
        radii = self.covalent_radii[atom_type]
        return torch.stack([free[:, 0], b1, b2, 6 * b3, (radii[i] + radii[j]) * b4], dim=-1)


class PhysicsReadout(AtomReadout):
    """E = sum_{i<j} phi(d_ij) E_ij + sum_i f_atom(x_i), Eq. 6, the envelope for continuity."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__(hidden_channels)
        self.f_bond = BondRegressor(hidden_channels)

    def forward(self, x, cls, atom_type, graph: Graph) -> torch.Tensor:
        beta = self.f_bond(x, atom_type, graph)
        bonds = graph.pair_envelope * pair_energy(graph.pair_distance, beta)
        pair_batch = graph.batch.index_select(0, graph.pair_index[0])
        atoms = super().forward(x, cls, atom_type, graph)
        return atoms + sum_over(bonds, pair_batch, graph)


READOUTS = {"atom": AtomReadout, "cls": ClsReadout, "physics": PhysicsReadout}
