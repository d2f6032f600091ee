"""What chemistry knows of a bond before any training: its order, length, depth and stiffness.

Elements without a valence here (metals, noble gases, [mask]) form no bonds.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ocp_physmol.model.elements import NUM_TYPES, electronegativities
from ocp_physmol.model.radial import switched_off

# Valence; radii of single, double and triple bonds in Angstrom; energy in eV that each valence adds
# to a bond. Radii of H, C, N, O, F are halves of mean lengths in QM9 (B3LYP), the others Pyykko's &
# Atsumi's (Chem. Eur. J. 2009, 15, 186 and 12770). Energies are what bonds to C and H have beyond
# the share of C and H, whose shares are half of C-C and H-H (Huheey, Inorganic Chemistry, 1993).
NONMETALS = {
    1: (1, 0.335, 0.335, 0.335, 2.26),  # H
    5: (3, 0.85, 0.78, 0.73, 1.90),  # B
    6: (4, 0.760, 0.667, 0.600, 1.80),  # C
    7: (3, 0.678, 0.600, 0.555, 1.60),  # N
    8: (2, 0.640, 0.540, 0.530, 2.00),  # O
    9: (1, 0.580, 0.580, 0.530, 3.40),  # F
    14: (4, 1.16, 1.07, 1.02, 1.30),  # Si
    15: (3, 1.11, 1.02, 0.94, 1.00),  # P
    16: (2, 1.03, 0.94, 0.95, 1.25),  # S
    17: (1, 0.99, 0.95, 0.93, 1.90),  # Cl
    34: (2, 1.16, 1.07, 1.07, 0.65),  # Se
    35: (1, 1.14, 1.09, 1.10, 1.30),  # Br
    53: (1, 1.33, 1.29, 1.25, 0.65),  # I
}
INTACT, BROKEN = 1.15, 1.45  # lengths of a single bond up to which it is whole, and where it ends
MAX_ORDER = 3.0
SOFTNESS = 0.05  # electrons, of what counts as an unused valence
LEAST_USED = 0.9  # of the valences; atoms that use fewer are radicals, and their bonds do not gain
MDYN_PER_ANGSTROM = 6.2415  # eV/Angstrom^2


class Bonds(NamedTuple):
    """The B pairs of atoms that share a bond, or part of one."""

    pair_index: torch.Tensor  # [2, B]
    distance: torch.Tensor  # [B], Angstrom
    share: torch.Tensor  # [B], 1 for a bond, 0 for none
    order: torch.Tensor  # [B], about 1 to 3
    length: torch.Tensor  # [B], Angstrom
    depth: torch.Tensor  # [B], eV
    stiffness: torch.Tensor  # [B], eV/Angstrom^2
    pair: torch.Tensor  # [B], which of the P pairs that were asked about


class BondRules(nn.Module):
    """Bonds from elements and from which atoms are near, all smooth in the positions.

    Order: an atom's unused valences, V minus its number of bonds, are shared among its neighbours
    in proportion to theirs; then orders are scaled to add up to V at each atom (ethyne 3, benzene
    1.5). Length: sums of radii, interpolated in the order. Depth: order times both atoms' energies
    by valence. So the depths of an intact molecule add up to a sum over its elements, which element
    references take up: the wells shape stretches and dissociation, and leave the energies at
    minima to the rest of the model. Stiffness: Gordy's rule (J. Chem. Phys. 1946, 14, 305).
    """

    def __init__(self) -> None:
        super().__init__()
        table = torch.full((NUM_TYPES, 5), -torch.inf)  # no distance is below such a length
        for z, values in NONMETALS.items():
            table[z] = torch.tensor(values)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("electronegativity", electronegativities(), persistent=False)

    def forward(
        self, atom_type: torch.Tensor, pair_index: torch.Tensor, distance: torch.Tensor
    ) -> Bonds:
        """Bonds among the pairs [2, P] of atoms at `distance` [P] (Angstrom)."""
        table = self.table[atom_type]  # [N, 5]
        valence, single = table[:, 0], table[:, 1]
        i, j = pair_index
        length = single.index_select(0, i) + single.index_select(0, j)
        pair = (distance < BROKEN * length).nonzero()[:, 0]
        pair_index, distance = pair_index.index_select(1, pair), distance.index_select(0, pair)
        i, j = pair_index
        ratio = distance / length.index_select(0, pair)
        share = switched_off((ratio - INTACT) / (BROKEN - INTACT))
        order = self._scaled(self._order(valence, i, j, share), valence, i, j, share)
        _, one, two, three, energy = (table.index_select(0, i) + table.index_select(0, j)).unbind(1)
        past = order - 1
        curvature = (one - 2 * two + three) / 2
        length = one + past * (two - one + (past - 1) * curvature)
        x = self.electronegativity[atom_type]
        softness = length.square() / (x.index_select(0, i) * x.index_select(0, j))
        stiffness = MDYN_PER_ANGSTROM * (1.67 * order * softness**-0.75 + 0.30)
        depth = energy * order
        return Bonds(pair_index, distance, share, order, length, depth, stiffness, pair)

    def _order(self, valence, i, j, share):
        """What neighbours offer each other beyond single bonds, smoothly at most MAX_ORDER."""
        unused = valence - _around(valence, i, j, share, share)
        unused = SOFTNESS * F.softplus(unused / SOFTNESS)
        of_i, of_j = unused.index_select(0, i), unused.index_select(0, j)
        near = _around(valence, i, j, share * of_j, share * of_i) + SOFTNESS
        offered = share * of_i * of_j * (1 / near).index_select(0, i).add((1 / near)[j]) / 2
        return MAX_ORDER - F.softplus(MAX_ORDER - 1 - offered, beta=8.0)

    def _scaled(self, order, valence, i, j, share):
        """Orders that come closer to adding up to the valence of each atom."""
        used = _around(valence, i, j, share * order, share * order) / valence
        scale = 1 / (LEAST_USED + F.softplus(used - LEAST_USED, beta=40.0))
        return order * (scale.index_select(0, i) + scale.index_select(0, j)) / 2


def _around(like, i, j, to_i, to_j):
    """Sums over the bonds of each atom, of what goes to its first and to its second atom: [N]."""
    total = to_i.new_zeros(len(like))
    return total.index_add(0, i, to_i).index_add(0, j, to_j)
