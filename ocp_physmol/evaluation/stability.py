"""Does a model hold molecules together, and apart, far from its data: compressed or hot?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from ase.data import covalent_radii
from scipy.spatial.transform import Rotation
from torch_geometric.data import Data

from ocp_physmol import geometry
from ocp_physmol.evaluation.deviations import same_bonds
from ocp_physmol.evaluation.dynamics import simulate
from ocp_physmol.evaluation.structure_tasks import CHECKPOINTS, table
from ocp_physmol.files import write_json
from ocp_physmol.option_types import COUNT, PATH, POSITIVE, SEED, Number
from ocp_physmol.relaxation.batched import Descent, placed, relax
from ocp_physmol.relaxation.calculator import open_model
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

ROWS = {
    "compressed_rise_ev": "energy of compression, lowest (eV)",
    "compressed_pushed_fraction": "compressed bonds pushed apart",
    "compressed_returned_fraction": "relax back to their bonds",
    "collision_rise_ev": "energy of collision, lowest (eV)",
    "collision_pushed_fraction": "colliding molecules pushed apart",
    "hot_intact_fraction": "hot molecules intact at the end",
    "hot_mean_ps": "and until when on average (ps)",
    "hot_collapsed_fraction": "collapsed or lost",
}
APART = 10.0  # Angstrom between the nearest atoms of two molecules that do not feel each other


@dataclass(frozen=True)
class Protocol:
    """How molecules are treated."""

    compression: float = 0.7  # of all distances
    contact: float = 0.7  # of colliding molecules, in sums of the nearest atoms' covalent radii
    temperature: float = 1000.0  # K
    picoseconds: float = 5.0
    timestep: float = 0.5  # fs
    seed: int = 0


def stability(
    predictor: Predictor, structures: Sequence[Data], protocol: Protocol, name: str = ""
) -> dict:
    """Compress, collide and heat molecules that are at their minima.

    Returns:
        The keys of ROWS, and of each molecule `compressed_rises_ev` and `collision_rises_ev`
        (energies beyond the molecule at its minimum, and beyond two that are far apart), `fates`
        and `fate_picoseconds` of the hot ones (see `dynamics.Fate`).
    """
    structures = [placed(s, (s.pos - s.pos.mean(dim=0)).numpy()) for s in structures]
    return {
        **_compressed(predictor, structures, protocol.compression, name),
        **_collided(predictor, structures, protocol),
        **_heated(predictor, structures, protocol, name),
    }


def _compressed(predictor, structures, compression, name) -> dict:
    starts = [compression * s.pos.numpy() for s in structures]
    energies, forces = predictor.energies_and_forces([*map(placed, structures, starts)])
    rises = energies - predictor.energies_and_forces(structures)[0]
    pushed: list[bool] = []
    for structure, start, force in zip(structures, starts, forces):
        i, j = np.array(sorted(_bonds(structure)), dtype=int).reshape(-1, 2).T
        pushed += (((force[j] - force[i]) * (start[j] - start[i])).sum(axis=1) > 0).tolist()
    ends = relax(predictor, structures, starts, Descent(), title=f"{name} relaxations")
    returned = [
        bool(np.isfinite(end.positions).all()) and same_bonds(structure, end.positions)
        for structure, end in zip(structures, ends)
    ]
    return {
        "compressed_rise_ev": float(np.nanmin(rises)),
        "compressed_pushed_fraction": float(np.mean(pushed)),
        "compressed_returned_fraction": float(np.mean(returned)),
        "compressed_rises_ev": rises.tolist(),
    }


def _collided(predictor, structures, protocol) -> dict:
    """Each molecule beside a turned copy of it, in contact and apart, along a random direction."""
    rng = np.random.default_rng(protocol.seed)
    together, apart, ways = [], [], []
    for structure in structures:
        numbers, own = structure.atomic_numbers.long().numpy(), structure.pos.double().numpy()
        other = own @ Rotation.random(random_state=rng).as_matrix().T
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        radii = protocol.contact * (covalent_radii[numbers][:, None] + covalent_radii[numbers])
        near = distance_of_contact(own, other, way, radii)
        far = distance_of_contact(own, other, way, np.full_like(radii, APART))
        together.append(_pair(structure, own, other + near * way))
        apart.append(_pair(structure, own, other + far * way))
        ways.append(way)
    energies, forces = predictor.energies_and_forces(together)
    rises = energies - predictor.energies_and_forces(apart)[0]
    pushed = [
        (force[len(force) // 2 :].sum(axis=0) - force[: len(force) // 2].sum(axis=0)) @ way > 0
        for force, way in zip(forces, ways)
    ]
    return {
        "collision_rise_ev": float(np.nanmin(rises)),
        "collision_pushed_fraction": float(np.mean(pushed)),
        "collision_rises_ev": rises.tolist(),
    }


def distance_of_contact(
    own: np.ndarray, other: np.ndarray, way: np.ndarray, reach: np.ndarray
) -> float:
    """How far `other` [m, 3] has to be moved along the unit vector `way` to touch `own` [n, 3].

    The last place at which any two atoms are as close as their `reach` [n, m]; all in Angstrom.
    """
    between = other[None] - own[:, None]  # [n, m, 3]
    along = between @ way
    across = np.square(between).sum(axis=-1) - along**2
    height = reach**2 - across
    meets = height > 0
    return float((np.sqrt(height[meets]) - along[meets]).max()) if meets.any() else 0.0


def _pair(structure: Data, own: np.ndarray, other: np.ndarray) -> Data:
    """Two of a structure, without a cell."""
    entry = placed(structure, np.concatenate([own, other]))
    for key in ("atomic_numbers", "tags", "fixed"):
        if key in entry:
            entry[key] = torch.cat([entry[key], entry[key]])
    entry.natoms = 2 * int(structure.natoms)
    entry.cell, entry.pbc = 1000 * torch.eye(3)[None], torch.zeros(1, 3, dtype=torch.bool)
    return entry


def _heated(predictor, structures, protocol, name) -> dict:
    times = protocol.temperature, protocol.picoseconds, protocol.timestep
    fates = simulate(predictor, structures, *times, protocol.seed, name)
    ends = [fate.end for fate in fates]
    return {
        "hot_intact_fraction": float(np.mean([end == "intact" for end in ends])),
        "hot_mean_ps": float(np.mean([fate.picoseconds for fate in fates])),
        "hot_collapsed_fraction": float(np.mean([end in ("collapsed", "lost") for end in ends])),
        "fates": ends,
        "fate_picoseconds": [fate.picoseconds for fate in fates],
    }


def _bonds(structure: Data) -> set[tuple[int, int]]:
    return geometry.bonds(structure.atomic_numbers.int().numpy(), structure.pos.numpy())


DEFAULT = Protocol()


@click.command("stability", context_settings={"show_default": True}, params=[CHECKPOINTS])
@click.option("--data", type=PATH, required=True, help="LMDBs of molecules at minima.")
@click.option("--molecules", type=COUNT, default=8, help="Take the first so many.")
@click.option("--compression", type=Number(0.1, 1), default=DEFAULT.compression,
              help="Of all distances.")  # fmt: skip
@click.option("--contact", type=Number(0.1, 3), default=DEFAULT.contact,
              help="Of colliding molecules, in sums of two covalent radii.")  # fmt: skip
@click.option("--temperature", type=Number(0), default=DEFAULT.temperature, help="K.")
@click.option("--picoseconds", type=Number(0), default=DEFAULT.picoseconds,
              help="Of dynamics.")  # fmt: skip
@click.option("--timestep", type=POSITIVE, default=DEFAULT.timestep,
              help="fs.")  # fmt: skip
@click.option("--seed", type=SEED, default=DEFAULT.seed, help="Of all that is random.")
@click.option("--output", type=PATH, default="runs/stability", help="Folder.")
def command(
    checkpoints: dict[str, Path], data: Path, molecules: int, output: Path, **options: float
) -> None:
    """Compress, collide and heat molecules: do models hold them together, and apart?

    Compression and collision should cost energy, and forces undo them; in dynamics bonds should
    neither break nor collapse. Prints a table; writes stability.json.
    """
    protocol = Protocol(**options)  # type: ignore[arg-type]  # click's types
    structures = list(islice(open_labelled(data), molecules))
    opened = {name: open_model(checkpoint) for name, checkpoint in checkpoints.items()}
    results = {name: stability(p, structures, protocol, name) for name, p in opened.items()}
    click.echo(f"\n{len(structures)} molecules of {data}, {protocol}\n\n{table(results, ROWS)}")
    report = {"data": str(data), "protocol": vars(protocol), "models": results}
    write_json(output / "stability.json", report)
    click.echo(f"\nWritten: {output / 'stability.json'}")
