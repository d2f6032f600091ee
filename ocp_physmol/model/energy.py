"""Sections 3.3 and 3.4, Eq. 5-6: from embeddings to an energy, in three ways."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ocp_physmol.model.elements import covalent_radii
from ocp_physmol.model.graph import Graph

COULOMB_CORE = 0.3  # Angstrom; 1/d stays finite below, and is exact beyond twice this distance
MAX_EXPONENT = 5.0  # of (beta_4/d)^beta_3; a repulsion of e^10 beta_2 is high enough

INITIAL_DEPTH = 0.5  # eV, of beta_2: gives stretches of physical stiffness
INITIAL_COULOMB = 0.1  # eV A, of beta_1
MAX_CHANGE = 5.0  # of what softplus makes positive: its results neither vanish nor explode


def _softplus_inverse(value: float) -> float:
    return math.log(math.expm1(value))


def soft_core_inverse(distance: torch.Tensor) -> torch.Tensor:
    """1/d for d well above COULOMB_CORE, at most 1/COULOMB_CORE, smooth in between."""
    core = COULOMB_CORE + F.softplus(distance - COULOMB_CORE, beta=20.0 / COULOMB_CORE)
    return core.reciprocal()


def pair_energy(distance: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Eq. 5: E_ij = -b1 b0/d + b2 [(b4/d)^(2 b3) - 2 (b4/d)^b3], in eV.

    The powers are taken in log space with a smooth cap on the exponent, so that overlapping atoms
    repel with a large finite energy and force.

    Args:
        distance: [P], Angstrom, positive.
        beta: [P, 5]; b0 (e^2) free in sign, b1 (eV A / e^2), b2 (eV), b3, b4 (Angstrom) positive.
    """
    b0, b1, b2, b3, b4 = beta.unbind(-1)
    exponent = b3 * (b4.log() - distance.log())
    exponent = MAX_EXPONENT - F.softplus(MAX_EXPONENT - exponent, beta=4.0)
    attraction = exponent.exp()
    return -b1 * b0 * soft_core_inverse(distance) + b2 * (attraction.square() - 2 * attraction)


def at_least_single(values: torch.Tensor) -> torch.Tensor:
    """Energies have more digits than the half precision in which autocast computes a layer."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def sum_over(values: torch.Tensor, batch: torch.Tensor, num_graphs: int) -> torch.Tensor:
    """Sum `values` [N] over the atoms or pairs of each structure: [num_graphs]."""
    values = at_least_single(values)
    return values.new_zeros(num_graphs).index_add(0, batch, values)


class AtomReadout(nn.Module):
    """E = sum_i f_atom(x_i), f_atom a single linear layer (3.3)."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.f_atom = nn.Linear(hidden_channels, 1)
        nn.init.zeros_(self.f_atom.weight)  # start from the element references alone
        nn.init.zeros_(self.f_atom.bias)

    def forward(self, x, cls, atom_type, graph: Graph) -> torch.Tensor:
        return sum_over(self.f_atom(x)[:, 0], graph.batch, graph.num_graphs)


class ClsReadout(nn.Module):
    """E = f_mol(x_0), f_mol a single linear layer on the [CLS] token (3.3)."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.f_mol = nn.Linear(hidden_channels, 1)
        nn.init.zeros_(self.f_mol.weight)
        nn.init.zeros_(self.f_mol.bias)

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
        self.regress = nn.Linear(hidden_channels, 5)
        nn.init.zeros_(self.regress.weight)
        nn.init.zeros_(self.regress.bias)
        start = [INITIAL_COULOMB, INITIAL_DEPTH, 1.0, 1.0]
        self.register_buffer(
            "offset", torch.tensor([_softplus_inverse(v) for v in start]), persistent=False
        )
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
        return super().forward(x, cls, atom_type, graph) + sum_over(
            bonds, pair_batch, graph.num_graphs
        )


def make_readout(name: str, hidden_channels: int) -> nn.Module:
    """The readout called `name`: "atom", "cls" or "physics"."""
    classes = {"atom": AtomReadout, "cls": ClsReadout, "physics": PhysicsReadout}
    return classes[name](hidden_channels)
