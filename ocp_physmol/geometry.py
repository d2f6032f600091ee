"""Rigid alignment, and all decisions on which atoms are bonded.

Every decision compares a distance with the sum of two covalent radii (ASE's, Cordero 2008).
`bonds` is yes or no; the others are smooth in the distance and in [0, 1].
"""

import numpy as np
import torch
from ase.data import covalent_radii

REACH = 1.25  # sums of radii, of a bond; a hydrogen bond is half as long again
SOFT_REACH = 1.3  # sums of radii, where the smooth ones are 1/2


def align(
    positions: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Move positions rigidly, without reflection, to the least squares from `reference` (Kabsch).

    Args:
        positions, reference: [..., n, 3].
        mask: [..., n], True for the atoms that count; padding is moved to the reference's centre.
            All count by default.

    Returns:
        [..., n, 3].
    """
    weight = positions.new_ones(positions.shape[:-1]) if mask is None else mask.to(positions)
    weight = weight[..., None]
    count = weight.sum(-2, keepdim=True)
    center = (reference * weight).sum(-2, keepdim=True) / count
    moved = (positions - (positions * weight).sum(-2, keepdim=True) / count) * weight
    u, _, vt = torch.linalg.svd(moved.mT @ ((reference - center) * weight))
    handed = torch.ones_like(u[..., 0])
    handed[..., 2] = torch.det(u @ vt).sign()
    return moved @ (u * handed[..., None, :]) @ vt + center * weight


def bonded(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Whether pairs of atoms are bonded: closer than REACH sums of their covalent radii.

    Args:
        first, second: atomic numbers.
        distance: Angstrom. All three have, or broadcast to, one shape.
    """
    return distance < REACH * (covalent_radii[first] + covalent_radii[second])


def bonds(numbers: np.ndarray, positions: np.ndarray) -> set[tuple[int, int]]:
    """The bonded pairs (i, j), i < j, of a structure that is not periodic.

    Args:
        numbers: [n], atomic numbers.
        positions: [n, 3], Angstrom.
    """
    i, j = np.triu_indices(len(numbers), k=1)
    distance = np.linalg.norm(positions[i].astype(float) - positions[j], axis=1)
    chosen = bonded(numbers[i], numbers[j], distance)
    return set(zip(i[chosen].tolist(), j[chosen].tolist()))


def soft_bonds(distance: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """The A-mask of section 3.3 as a smooth function of distance.

    Args:
        distance: Angstrom.
        radii: sums of covalent radii, Angstrom, of the same shape.
    """
    return torch.sigmoid((SOFT_REACH - distance / radii) / 0.05)


def sharp_soft_bonds(distance: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """Smooth, too, but steeper and in the inverse distance: 0 or 1 for almost all pairs."""
    return torch.sigmoid((radii / distance - 1 / SOFT_REACH) / 0.02)
