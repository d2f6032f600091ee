"""Sections 3.3 and 3.4, Eq. 5-6: from embeddings to an energy, in four ways."""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ocp_physmol.model.bonds import BondRules, Bonds
from ocp_physmol.model.elements import NUM_TYPES, covalent_radii
from ocp_physmol.model.graph import Graph

COULOMB_CORE = 0.3  # Angstrom; 1/d is at most the inverse of it, and exact beyond twice it
MAX_EXPONENT = 5.0  # of (beta_4/d)^beta_3; a repulsion of e^10 beta_2 is high enough

INITIAL_DEPTH = 0.5  # eV, of beta_2: gives stretches of physical stiffness
INITIAL_COULOMB = 0.1  # eV A, of beta_1
MAX_CHANGE = 5.0  # of what softplus makes positive: its results neither vanish nor explode
LARGEST_CORRECTION = (0.3, 0.3, 0.06)  # of the logarithms of depth, exponent and length


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


def of_layer(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The energies [N] that a layer gives for `x` [N, d], in the precision of its weights also
    under autocast: half precision rounds an energy of 2 eV to 1 meV."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype))[:, 0]


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
        return sum_over(of_layer(self.f_atom, x), graph.batch, graph)


class ClsReadout(nn.Module):
    """E = f_mol(x_0), f_mol a single linear layer on the [CLS] token (3.3)."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.f_mol = linear_from_zero(hidden_channels, 1)

    def forward(self, x, cls, atom_type, graph: Graph) -> torch.Tensor:
        return at_least_single(of_layer(self.f_mol, cls))


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


class PairTerms(NamedTuple):
    """P pairs of atoms, and what Eq. 5 needs to know of them."""

    pair_index: torch.Tensor  # [2, P]
    distance: torch.Tensor  # [P], Angstrom
    factor: torch.Tensor  # [P], of the energy, 0 where the pair ends
    beta: torch.Tensor  # [P, 5]


class PairReadout(AtomReadout):
    """E = sum_{i<j} factor_ij E_ij + sum_i f_atom(x_i), Eq. 6, the factor for continuity."""

    def forward(self, x, cls, atom_type, graph: Graph) -> torch.Tensor:
        pairs = self.pairs(x, atom_type, graph)
        energy = pairs.factor * pair_energy(pairs.distance, pairs.beta)
        batch = graph.batch.index_select(0, pairs.pair_index[0])
        return super().forward(x, cls, atom_type, graph) + sum_over(energy, batch, graph)

    def pairs(self, x, atom_type, graph: Graph) -> PairTerms:
        raise NotImplementedError


class PhysicsReadout(PairReadout):
    """Eq. 6 as in the paper: all pairs, whose parameters come from the atoms' embeddings."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__(hidden_channels)
        self.f_bond = BondRegressor(hidden_channels)

    def pairs(self, x, atom_type, graph: Graph) -> PairTerms:
        beta = self.f_bond(x, atom_type, graph)
        return PairTerms(graph.pair_index, graph.pair_distance, graph.pair_envelope, beta)


class BondCorrections(nn.Module):
    """What is learned of bonds beyond `BondRules`, from both elements and the order alone.

    The logarithms of depth, exponent and length are each changed by a sum over both elements of a
    polynomial in the order. They are changed so little that each keeps its meaning, and start at
    zero: training begins with the rules themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(NUM_TYPES, 3, 3))  # of 3 powers, of 3 values

    def forward(self, bonds: Bonds, atom_type: torch.Tensor) -> torch.Tensor:
        """beta [B, 5] of Eq. 5, without charges, from `atom_type` [N]."""
        i, j = atom_type[bonds.pair_index]
        coefficients = self.coefficients.index_select(0, i) + self.coefficients.index_select(0, j)
        past = bonds.order[:, None] - 1
        constant, linear, square = coefficients.unbind(1)  # [B, 3] each
        free = constant + past * (linear + past * square)
        c2, c3, c4 = (torch.tanh(free) * free.new_tensor(LARGEST_CORRECTION)).exp().unbind(1)
        # the second derivative of Eq. 5 at its minimum is 2 b2 (b3/b4)^2
        power = bonds.length * (bonds.stiffness / (2 * bonds.depth)).sqrt()
        nothing = torch.zeros_like(c2)
        return torch.stack([nothing, nothing, bonds.depth * c2, power * c3, bonds.length * c4], 1)


class BondReadout(PairReadout):
    """Eq. 6 over bonds alone, whose parameters are those of chemistry, corrected."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__(hidden_channels)
        self.rules = BondRules()
        self.f_bond = BondCorrections()

    def pairs(self, x, atom_type, graph: Graph) -> PairTerms:
        bonds = self.rules(atom_type, graph.pair_index, graph.pair_distance)
        beta = self.f_bond(bonds, atom_type)
        return PairTerms(bonds.pair_index, bonds.distance, bonds.share, beta)


READOUTS = {
    "atom": AtomReadout,
    "bonds": BondReadout,
    "cls": ClsReadout,
    "physics": PhysicsReadout,
}
