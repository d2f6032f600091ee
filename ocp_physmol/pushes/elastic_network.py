"""The energy around a minimum as far as the molecule's bonds tell: an elastic network of springs.

U(x) = 1/2 sum_{i<j} [k_ij (|r_ij| - |r0_ij|)^2 + s_ij (|r_ij - r0_ij|^2 - (|r_ij| - |r0_ij|)^2)]
       + 1/2 f(d) d^T L d

with r0 at the minimum: springs k along pairs of atoms joined by one, two or three bonds, and weak
ones s across bonds, which keep planar groups planar. Their constants are those of organic molecules
in general. L is what they lack of the second derivatives of a force field, where it knows the
molecule, for displacements d that are small. benchmarks/elastic_network.py compares frequencies
with DFT's.
"""

from functools import cached_property

import torch
from torch_geometric.utils import to_dense_batch

from ocp_physmol.model.elements import covalent_radii
from ocp_physmol.pushes.force_field import ForceField
from ocp_physmol.pushes.remembered import RememberedHessians
from ocp_physmol.tensor_geometry import align, sharp_soft_bonds

STRETCH = 30.0  # eV/A^2, of a bond as long as its two covalent radii,
STRETCH_POWER = 5  # which falls with this power of its length
ANGLE = 4.5  # eV/A^2, between second neighbours
TORSION = 0.3  # eV/A^2, between third neighbours
ACROSS = 0.03  # of a bond's stiffness, across it
SLACK = 0.1  # eV/A^2, by which the force field may be no minimum
FADE = 0.2  # Angstrom, root mean square of displacements where L has faded to 1/e
SOFTEST = 1.0  # eV/A^2, added to all stiffnesses where displacements and errors are weighed


class ElasticNetwork:
    """The springs of a batch of molecules, on padded arrays of n atoms each.

    Molecules have `natoms` [B] atoms with `atomic_numbers` [N], and minima `pos` [N, 3] (Angstrom).
    Their second derivatives are taken from those `remembered`, and added there.
    """

    def __init__(
        self, pos, atomic_numbers, natoms, remembered: RememberedHessians | None = None
    ) -> None:
        index, largest = torch.repeat_interleave(natoms), max([0, *natoms.tolist()])
        self._shape = {"batch": index, "batch_size": len(natoms), "max_num_nodes": largest}
        self.minimum, self.mask = to_dense_batch(pos, **self._shape)
        numbers = self.padded(atomic_numbers.long())
        self.vector, self.distance = _pairs(self.minimum)
        both = self.mask[:, :, None] & self.mask[:, None, :]
        other = both & ~torch.eye(both.shape[1], dtype=torch.bool, device=both.device)
        radii = covalent_radii().to(pos)[numbers]
        radii = radii[:, :, None] + radii[:, None, :]
        bond = sharp_soft_bonds(self.distance, radii) * other
        second = (bond @ bond).clamp(max=1) * (1 - bond)
        third = (bond @ bond @ bond).clamp(max=1) * (1 - bond) * (1 - second)
        stretch = STRETCH * bond * torch.where(other, radii / self.distance, 0.0) ** STRETCH_POWER
        self.along = (stretch + ANGLE * second + TORSION * third) * other  # k_ij, [B, n, n]
        self.across = ACROSS * stretch  # s_ij
        self._shapes = self.minimum, numbers, bond > 0.5, radii
        springs = self.springs_hessian()
        remembered = remembered or RememberedHessians(room=0)
        self._hessian = remembered.find(
            self.minimum, numbers, natoms, lambda which: self._force_field_or(springs, which)
        )
        self._lacking = self._hessian - springs  # L

    def padded(self, values: torch.Tensor) -> torch.Tensor:
        """Values of all atoms, [N, ...], as those of B molecules of n atoms, [B, n, ...]."""
        return to_dense_batch(values, **self._shape)[0]

    def energy_and_forces(self, pos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """U [B] (eV) and its forces [B, n, 3] at positions [B, n, 3] aligned with the minima."""
        vector, distance = _pairs(pos)
        stretched = distance - self.distance
        shift = vector - self.vector
        longitudinal = (self.along - self.across) * stretched
        pull = (longitudinal / distance)[..., None] * vector + self.across[..., None] * shift
        energy = longitudinal * stretched + self.across * shift.square().sum(-1)
        lacking, forces = self._lacking_energy_and_forces(pos - self.minimum)
        return energy.sum((1, 2)) / 4 + lacking, forces - pull.sum(2)

    def _lacking_energy_and_forces(self, push: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = (push * self.mask[..., None]).flatten(1)
        pull = (self._lacking @ flat[..., None])[..., 0]
        energy = (flat * pull).sum(1) / 2
        scale = 3 * self.mask.sum(1) * FADE**2
        square = flat.square().sum(1) / scale
        fade = torch.exp(-(square**2))
        steeper = energy * 4 * square / scale
        forces = fade[:, None] * (steeper[:, None] * flat - pull)
        return fade * energy, forces.view_as(push)

    def hessian(self) -> torch.Tensor:
        """Second derivatives at the minima, [B, 3n, 3n], eV/A^2; zero for padding."""
        return self._hessian

    def force_field(self, which: torch.Tensor | slice = slice(None)) -> ForceField:
        """The force field of some of the molecules."""
        return ForceField(*(part[which] for part in self._shapes))

    def _force_field_or(self, springs: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Second derivatives of the force field; `springs` where it knows no such minimum."""
        field = self.force_field(which)
        hessian = field.hessian()
        regular = hessian + SLACK * torch.eye(hessian.shape[1]).to(hessian)
        usable = field.known & (torch.linalg.cholesky_ex(regular).info == 0)
        return torch.where(usable[:, None, None], hessian, springs[which])

    def springs_hessian(self) -> torch.Tensor:
        """The same of the springs alone, without L."""
        direction = self.vector / self.distance[..., None]
        outer = direction[..., :, None] * direction[..., None, :]
        along, across = (k[..., None, None] for k in (self.along - self.across, self.across))
        blocks = along * outer + across * torch.eye(3).to(outer)  # [B, n, n, 3, 3]
        diagonal = torch.diag_embed(blocks.sum(2).permute(0, 2, 3, 1))  # [B, 3, 3, n, n]
        hessian = diagonal.permute(0, 3, 1, 4, 2) - blocks.permute(0, 1, 3, 2, 4)
        return hessian.flatten(3).flatten(1, 2)

    @cached_property
    def root(self) -> torch.Tensor:
        """Lower triangular L with L L^T = Hessian + SOFTEST, [B, 3n, 3n]."""
        hessian = self.hessian()
        return torch.linalg.cholesky(hessian + SOFTEST * torch.eye(hessian.shape[1]).to(hessian))

    def soft_displacements(self, normal: torch.Tensor) -> torch.Tensor:
        """From `normal` random numbers [B, n, 3], displacements as of heat, larger in softer
        directions: their covariance is that of exp(-U/kT)."""
        flat = normal.flatten(1)[..., None]
        moved = torch.linalg.solve_triangular(self.root.mT, flat, upper=True)
        return moved.view_as(normal) * self.mask[..., None]

    def weighed(self, forces: torch.Tensor) -> torch.Tensor:
        """Forces [B, n, 3] as [B, 3n] whose squares are twice the energy that a harmonic
        relaxation under them would gain: an error counts more in a softer direction."""
        flat = forces.flatten(1)[..., None]
        return torch.linalg.solve_triangular(self.root, flat, upper=False)[..., 0]

    def align(self, pos: torch.Tensor) -> torch.Tensor:
        """Positions [B, n, 3] moved rigidly onto the minima (Kabsch)."""
        return align(pos, self.minimum, self.mask)


def _pairs(pos):
    vector = pos[:, :, None] - pos[:, None]
    return vector, (vector.square().sum(-1) + 1e-12).sqrt()
