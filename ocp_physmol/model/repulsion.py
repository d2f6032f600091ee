"""The repulsion of nuclei behind their electrons: what keeps atoms apart where there is no data."""

import torch
from torch import nn

from ocp_physmol.model.elements import NUM_TYPES, covalent_radii
from ocp_physmol.model.energy import sum_over
from ocp_physmol.model.graph import Graph
from ocp_physmol.model.nuclei import CORE, COULOMB, REACH, SCREENING, SCREENING_LENGTH
from ocp_physmol.model.radial import switched_off


def screened_coulomb(z_i: torch.Tensor, z_j: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """The universal repulsion of nuclei of charge z_i and z_j at `distance` (Angstrom), in eV.

    `model.nuclei` has the source. All are [P].
    """
    rounded = (distance**4 + CORE**4) ** 0.25  # exact to 0.5 % from 0.5 Angstrom on
    scaled = rounded * (z_i**0.23 + z_j**0.23) / SCREENING_LENGTH
    screened = sum(amplitude * torch.exp(-rate * scaled) for amplitude, rate in SCREENING)
    return COULOMB * z_i * z_j / rounded * screened


class NuclearRepulsion(nn.Module):
    """E = sum_{i<j} E_ZBL(d_ij) s(d_ij / reach_ij), which has nothing to learn.

    The switch s leaves only what is closer than bonds are: the energy has two continuous
    derivatives, and ends at the `cutoff` (Angstrom) at the latest. Masked atoms (type 0) have no
    charge.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        charge = torch.arange(NUM_TYPES, dtype=torch.get_default_dtype())
        self.register_buffer("charge", charge, persistent=False)
        self.register_buffer("radius", REACH * covalent_radii(), persistent=False)

    def forward(self, atom_type: torch.Tensor, graph: Graph) -> torch.Tensor:
        """Energies [B], eV, of structures with `atom_type` [N]."""
        i, j = graph.pair_index
        radius = self.radius[atom_type]
        reach = (radius.index_select(0, i) + radius.index_select(0, j)).clamp(max=self.cutoff)
        near = (graph.pair_distance < reach).nonzero()[:, 0]  # few or none, where bonds are intact
        i, j = i.index_select(0, near), j.index_select(0, near)
        distance, reach = graph.pair_distance.index_select(0, near), reach.index_select(0, near)
        charge = self.charge[atom_type]
        energy = screened_coulomb(charge.index_select(0, i), charge.index_select(0, j), distance)
        return sum_over(energy * switched_off(distance / reach), graph.batch[i], graph)
