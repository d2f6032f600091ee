"""What force fields call the shape of a molecule: bonds, angles, torsions and planes.

Each coordinate comes with its derivatives by the positions (the rows of Wilson's B matrix), at the
positions given. Formulas: Wilson, Decius and Cross, Molecular Vibrations (1955), chapter 4;
torsions: Blondel and Karplus (1996).
"""

import math
from typing import NamedTuple

import torch

LINEAR = math.radians(165)  # an angle beyond is one of two bends, and no part of a torsion
PLANAR = 0.2  # Angstrom, the largest height of an atom above the plane of its three neighbours


class Coordinates(NamedTuple):
    """C coordinates of one sort, of molecules of a batch, each of k atoms."""

    atoms: torch.Tensor  # [C, 1 + k]: the molecule, and its atoms
    slopes: torch.Tensor  # [C, k, 3]: derivatives by the positions of the atoms
    value: torch.Tensor  # [C]: Angstrom or radians


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm(dim=-1, keepdim=True)


def _of(pos: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """The positions [k, C, 3] of the atoms [C, 1 + k] of molecules [B, n, 3]."""
    return pos[atoms[:, :1], atoms[:, 1:]].movedim(1, 0)


def stretches(pos: torch.Tensor, bonded: torch.Tensor) -> Coordinates:
    """Lengths of all bonds i-j, i < j, where `bonded` [B, n, n] (bool) says so."""
    atoms = bonded.triu().nonzero()
    first, second = _of(pos, atoms)
    direction = _unit(first - second)
    return Coordinates(atoms, torch.stack([direction, -direction], 1), (first - second).norm(dim=1))


def bends(pos: torch.Tensor, bonded: torch.Tensor) -> tuple[Coordinates, Coordinates]:
    """Angles i-j-k, i < k, of two bonds: those that are bent, and two for each linear one."""
    pairs = bonded[:, :, :, None] & bonded[:, :, None, :]  # [B, j, i, k]
    molecule, j, i, k = pairs.triu(1).nonzero().unbind(1)
    atoms = torch.stack([molecule, i, j, k], 1)
    a, b, c = _of(pos, atoms)
    u, v = a - b, c - b
    r, s = u.norm(dim=1)[:, None], v.norm(dim=1)[:, None]
    u, v = u / r, v / s
    cosine = (u * v).sum(1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)[:, 0]
    straight = angle > LINEAR
    sine = (1 - cosine**2).sqrt().clamp(min=1e-6)
    first, last = (cosine * u - v) / (r * sine), (cosine * v - u) / (s * sine)
    bent = Coordinates(atoms, torch.stack([first, -first - last, last], 1), angle)
    across = _across(_unit(u - v)[straight])  # [L, 2, 3]
    first, last = across / r[straight, :, None], across / s[straight, :, None]
    both = torch.stack([first, -first - last, last], 2).flatten(0, 1)
    linear = Coordinates(
        atoms[straight].repeat_interleave(2, 0), both, angle[straight].repeat_interleave(2)
    )
    return Coordinates(*(part[~straight] for part in bent)), linear


def torsions(pos: torch.Tensor, bonded: torch.Tensor) -> Coordinates:
    """Angles i-j-k-l, j < k, of three bonds, without those along linear angles."""
    molecule, j, k = bonded.triu().nonzero().unbind(1)
    ends = bonded[molecule, j][:, :, None] & bonded[molecule, k][:, None, :]  # [bonds, n, n]
    bond, i, last_atom = ends.nonzero().unbind(1)
    molecule, j, k = molecule[bond], j[bond], k[bond]
    proper = (i != k) & (last_atom != j) & (i != last_atom)
    atoms = torch.stack([molecule, i, j, k, last_atom], 1)[proper]
    a, b, c, d = _of(pos, atoms)
    bent = (_angle(a, b, c) < LINEAR) & (_angle(b, c, d) < LINEAR)
    atoms, (a, b, c, d) = atoms[bent], (x[bent] for x in (a, b, c, d))
    f, g, h = a - b, b - c, d - c
    m, n = torch.linalg.cross(f, g), torch.linalg.cross(h, g)
    length = g.norm(dim=1, keepdim=True)
    over_m, over_n = m / m.square().sum(1, keepdim=True), n / n.square().sum(1, keepdim=True)
    first, last = -length * over_m, length * over_n
    shared = (
        (f * g).sum(1, keepdim=True) * over_m - (h * g).sum(1, keepdim=True) * over_n
    ) / length
    slopes = torch.stack([first, shared - first, -shared - last, last], 1)
    sine = (torch.linalg.cross(n, m) * g).sum(1) / length[:, 0]
    return Coordinates(atoms, slopes, torch.atan2(sine, (m * n).sum(1)))


def planes(pos: torch.Tensor, bonded: torch.Tensor) -> Coordinates:
    """Heights of atoms j above the plane of their three neighbours, where they are planar."""
    molecule, j = (bonded.sum(-1) == 3).nonzero().unbind(1)
    others = bonded[molecule, j].nonzero()[:, 1].view(-1, 3)
    atoms = torch.cat([molecule[:, None], j[:, None], others], 1)
    centre, a, b, c = _of(pos, atoms)
    area = torch.linalg.cross(b - a, c - a)
    normal = _unit(area)
    height = ((centre - a) * normal).sum(1)
    opposite = torch.stack([torch.linalg.cross(*pair) for pair in (
        (b - centre, c - centre), (c - centre, a - centre), (a - centre, b - centre)
    )], 1)  # fmt: skip
    shares = (opposite @ normal[..., None]) / area.norm(dim=1)[:, None, None]  # barycentric
    slopes = torch.cat([normal[:, None], -shares * normal[:, None]], 1)
    planar = height.abs() < PLANAR
    return Coordinates(atoms[planar], slopes[planar], height[planar])


def _angle(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.arccos((_unit(a - b) * _unit(c - b)).sum(-1).clamp(-1, 1))


def _across(axis: torch.Tensor) -> torch.Tensor:
    """Two unit vectors [C, 2, 3] across each unit vector [C, 3], and across each other."""
    other = torch.eye(3).to(axis)[axis.abs().argmin(1)]
    first = _unit(torch.linalg.cross(axis, other))
    return torch.stack([first, torch.linalg.cross(axis, first)], 1)
