"""Random numbers of the terms.

Every structure has a generator of its own, seeded by (seed, step, structure). Draws depend neither
on the number of ranks nor on the rest of the batch, and a resumed run goes on with the same draws.
"""

import zlib
from itertools import compress

import numpy as np
import torch

from ocp_physmol.datasets.identifiers import identifiers


def structure_generators(batch, seed: int, step: int, purpose: str) -> list[np.random.Generator]:
    """One generator for each structure of the batch, by its `sid` (and `fid`)."""
    fids = identifiers(batch.fid) if "fid" in batch else [0] * len(batch.natoms)
    names = [f"{purpose} {sid} {fid}" for sid, fid in zip(identifiers(batch.sid), fids)]
    return [np.random.default_rng([seed, step, zlib.crc32(name.encode())]) for name in names]


def displaced_positions(
    batch, chosen: torch.Tensor, noise: float, generators: list[np.random.Generator]
) -> torch.Tensor:
    """Positions [M, 3] of the structures `chosen` [B] (bool), with Gaussian noise of standard
    deviation `noise` (Angstrom) on free atoms."""
    drawn = compress(zip(generators, batch.natoms.tolist()), chosen.tolist())
    draws = np.concatenate([np.zeros((0, 3)), *(g.standard_normal((n, 3)) for g, n in drawn)])
    atoms = chosen[batch.batch]
    displacement = noise * torch.as_tensor(draws, dtype=batch.pos.dtype, device=batch.pos.device)
    return batch.pos[atoms] + displacement * (batch.fixed[atoms] == 0)[:, None]
