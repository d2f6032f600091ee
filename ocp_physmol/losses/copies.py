"""The displaced and the masked copy of a batch that the losses of 3.5 and 3.6 look at.

Every structure draws from a generator of its own, seeded by (seed, step, structure). What it draws
depends neither on the number of ranks nor on its companions in the batch, and a resumed run goes on
as if it had not been interrupted.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

from ocp_physmol.datasets.identifiers import identifier

EQUILIBRIUM_FORCE = 0.05  # eV/Angstrom; below, the largest force on a free atom counts as zero


def structure_generators(batch, seed: int, step: int, purpose: str) -> list[np.random.Generator]:
    """One generator for each structure of the batch, by its `sid` (and `fid`)."""
    sids, fids = batch.sid, batch.fid if "fid" in batch else [0] * len(batch.natoms)
    names = [f"{purpose} {identifier(s)} {identifier(f)}" for s, f in zip(sids, fids)]
    return [np.random.default_rng([seed, step, zlib.crc32(name.encode())]) for name in names]


def displaced_positions(batch, noise: float, generators) -> torch.Tensor:
    """Positions [M, 3] of the structures in `batch.displaced` [B], with Gaussian noise of standard
    deviation `noise` (A) on free atoms."""
    natoms = batch.natoms.tolist()
    chosen = zip(generators, natoms, batch.displaced.tolist())
    draws = [g.standard_normal((n, 3)) for g, n, displaced in chosen if displaced]
    draws = np.concatenate([np.zeros((0, 3)), *draws])
    atoms = batch.displaced[batch.batch]
    displacement = noise * torch.as_tensor(draws, dtype=batch.pos.dtype, device=batch.pos.device)
    return batch.pos[atoms] + displacement * (batch.fixed[atoms] == 0)[:, None]


def masked_atoms(batch, ratio: float, generators) -> torch.Tensor:
    """Which atoms to hide, [N] bool: each with probability `ratio`, at least one a structure."""
    draws = [g.random(n) for g, n in zip(generators, batch.natoms.tolist())]
    masked = np.concatenate([(d < ratio) | (d == d.min()) for d in draws])
    return torch.as_tensor(masked, device=batch.pos.device)


def at_equilibrium(batch) -> torch.Tensor:
    """Which structures are at a minimum, [B] bool: no labelled force on a free atom is larger than
    EQUILIBRIUM_FORCE."""
    size = batch.forces.norm(dim=-1) * (batch.fixed == 0)
    largest = size.new_zeros(len(batch.natoms)).scatter_reduce(0, batch.batch, size, "amax")
    return largest < EQUILIBRIUM_FORCE
