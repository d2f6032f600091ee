"""Who says which forces pull a pushed molecule back: springs, stored forces, or a model's prior."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.data import Batch

from ocp_physmol.model.prior import PRIORS
from ocp_physmol.pushes import draw
from ocp_physmol.pushes.elastic_network import ElasticNetwork
from ocp_physmol.pushes.stretches import stretch_forces


class Pushed(NamedTuple):
    """D molecules of a batch, of n atoms with padding and M atoms in all, out of their minima."""

    pos: torch.Tensor  # [D, n, 3], Angstrom, aligned with the minima
    forces: torch.Tensor  # [D, n, 3], eV/Angstrom, which a model is to have there
    stored: dict[str, torch.Tensor]  # what a batch holds of priors there


def by_springs(network, batch, chosen, noise, generators) -> Pushed:
    """Pushes that are drawn anew, and the forces of the elastic network itself."""
    pos = draw.pushed_positions(network, noise, generators)
    return Pushed(pos, network.energy_and_forces(pos)[1], {})


def by_prior(network, batch, chosen, noise, generators) -> Pushed:
    """Pushes that are drawn anew, and the prior's curvature.

    What is stored there leaves the prior out, so a model's forces are the network's alone. They are
    to cancel the prior's force at the minimum, the same ones wherever the molecule is pushed.
    """
    pos = draw.pushed_positions(network, noise, generators)
    name = next(name for name in PRIORS if f"{name}_forces" in batch)
    at_minimum = batch[f"{name}_forces"][chosen[batch.batch]]
    without = {
        f"{name}_pos": pos[network.mask],
        f"{name}_energy": at_minimum.new_zeros(len(pos)),
        f"{name}_forces": torch.zeros_like(at_minimum),
    }
    return Pushed(pos, network.padded(-at_minimum), without)


def by_data(network, batch, chosen, noise, generators) -> Pushed:
    """The pushes and forces that `ocp-physmol data curvature` has stored."""
    stored = stored_push(batch, chosen, generators)
    pos, forces = (network.padded(stored.pop(key)) for key in ("pos", "restoring"))
    return Pushed(pos, forces, stored)


TEACHERS: dict[str, Callable[..., Pushed]] = {
    "springs": by_springs,
    "data": by_data,
    "prior": by_prior,
}
NEEDED = {
    "springs": (),
    "data": ("restoring_forces",),
    "prior": tuple(f"{p}_forces" for p in PRIORS),
}


def pushed_by(
    teacher: str,
    network: ElasticNetwork,
    batch: Batch,
    chosen: torch.Tensor,
    noise: float,
    generators: list[np.random.Generator],
    frequencies: bool = False,
) -> Pushed:
    """The `chosen` [B] (bool) molecules of a batch, those of the network, by one of TEACHERS.

    Each has a generator. With `frequencies`, bonds are as stiff as the data's stretches say.
    """
    pushed = TEACHERS[teacher](network, batch, chosen, noise, generators)
    if not frequencies:
        return pushed
    added = stretch_forces(batch, chosen, pushed.pos[network.mask])
    return pushed._replace(forces=pushed.forces + network.padded(added))


def stored_push(
    batch: Batch, chosen: torch.Tensor, generators: list[np.random.Generator]
) -> dict[str, torch.Tensor]:
    """One of the pushes that the data hold, for each of the D chosen molecules of M atoms.

    `pos` [M, 3] (Angstrom), `restoring` [M, 3] (eV/Angstrom), and of the priors there, by their
    keys in data, NAME_pos, NAME_energy [D] and NAME_forces.
    """
    natoms, atoms = batch.natoms[chosen], chosen[batch.batch]
    pushes = batch.pushed_pos.shape[1]
    which = torch.tensor([int(g.integers(pushes)) for g in generators]).to(natoms)
    of_atoms = which.repeat_interleave(natoms)
    keys, found = batch.keys(), {}
    for key in ("restoring_forces", *(k for k in keys if k.startswith("pushed_"))):
        rows, index = (atoms, of_atoms) if batch[key].dim() == 3 else (chosen, which)
        of_all = batch[key][rows]
        found[key.removeprefix("pushed_")] = of_all[torch.arange(len(of_all)), index]
    found["restoring"] = found.pop("restoring_forces")
    names = [key.removesuffix("_energy") for key in found if key.endswith("_energy")]
    return found | {f"{name}_pos": found["pos"] for name in names}
