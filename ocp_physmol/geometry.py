"""Rigid alignment, and all decisions on which atoms are bonded.

Every decision compares a distance with the sum of two covalent radii (ASE's, Cordero 2008).
`bonds` is yes or no; the others are smooth in the distance and in [0, 1].
"""

import numpy as np
import torch
from ase.data import covalent_radii

REACH = 1.25  # longest bond, in sums of two covalent radii; a hydrogen bond has about 1.9
SOFT_REACH = 1.3  # the same, where the smooth decisions are 1/2


def align(
    positions: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Move positions rigidly, without reflection, to the least squares from `reference` (Kabsch).

    Both are [..., n, 3], as is the result. `mask` [..., n] is True for the atoms that count, by
    default all; the others are moved to the origin.
    """
    weight = torch.ones_like(positions[..., :1]) if mask is None else mask[..., None].to(positions)
    count = weight.sum(-2, keepdim=True)
    center = (reference * weight).sum(-2, keepdim=True) / count
    moved = (positions - (positions * weight).sum(-2, keepdim=True) / count) * weight
    u, _, vt = torch.linalg.svd(moved.mT @ ((reference - center) * weight))
    handed = torch.ones_like(u[..., 0])
    handed[..., 2] = torch.det(u @ vt).sign()
    return moved @ (u * handed[..., None, :]) @ vt + center * weight


def bonded(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Whether pairs of atoms, given by atomic numbers and distance (Angstrom), are bonded."""
    return distance < REACH * (covalent_radii[first] + covalent_radii[second])


def bonds(numbers: np.ndarray, positions: np.ndarray) -> set[tuple[int, int]]:
    """The bonded pairs (i, j), i < j, of n atoms at `positions` [n, 3], Angstrom, not periodic."""
    i, j = np.triu_indices(len(numbers), k=1)
    distance = np.linalg.norm(positions[i].astype(float) - positions[j], axis=1)
    chosen = bonded(numbers[i], numbers[j], distance)
    return set(zip(i[chosen].tolist(), j[chosen].tolist()))


def soft_bonds(distance: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """The A-mask of section 3.3, smooth in the distance; `radii` are sums of two covalent radii."""
    return torch.sigmoid((SOFT_REACH - distance / radii) / 0.05)


def sharp_soft_bonds(distance: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """Smooth, too, but steeper and in the inverse distance: 0 or 1 for almost all pairs."""
    return torch.sigmoid((radii / distance - 1 / SOFT_REACH) / 0.02)
