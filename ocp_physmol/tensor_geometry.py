"""Rigid alignment, and which atoms are bonded, smooth in the distance and in [0, 1]."""

import torch

SOFT_REACH = 1.3  # sums of two covalent radii at which the decisions are 1/2; see geometry.REACH


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


def soft_bonds(distance: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """The A-mask of section 3.3, smooth in the distance; `radii` are sums of two covalent radii."""
    return torch.sigmoid((SOFT_REACH - distance / radii) / 0.05)


def sharp_soft_bonds(distance: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """Smooth, too, but steeper and in the inverse distance: 0 or 1 for almost all pairs."""
    return torch.sigmoid((radii / distance - 1 / SOFT_REACH) / 0.02)
