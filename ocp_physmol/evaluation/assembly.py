"""Section 4.4, molecule assembly: does a relaxation rejoin groups that were pulled away?"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from torch_geometric.data import Data

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.deviations import deviations, same_bonds
from ocp_physmol.evaluation.functional_groups import Group, disjoint_pairs, functional_groups
from ocp_physmol.evaluation.structure_tasks import Task, task_options
from ocp_physmol.option_types import Number
from ocp_physmol.relaxation.batched import Descent, relax
from ocp_physmol.relaxation.predictor import Predictor


@dataclass(frozen=True)
class Protocol(Descent):
    """How molecules are cut and relaxed."""

    steps: int = 500  # at most
    distance: float = 0.7  # Angstrom, that each group is moved along its bond


def assemble(
    predictor: Predictor,
    structures: Sequence[Data],
    protocol: Protocol,
    batch_size: int = 32,
    name: str = "",
) -> dict:
    """Pull groups of each structure away, relax it with the model `name`, and look at its bonds.

    Structures without a group that could be pulled away are skipped; if all are, it is a UserError.

    Returns:
        What `deviations` says, with `cut` and `assembled` positions; `success_fraction`, the
        share of molecules whose bonds are those of the minimum, `do_nothing_success_fraction`, the
        same before relaxation, `num_molecules` and `num_skipped`. Of each molecule: `success`, and
        the atoms of its `groups`.
    """
    chosen = [(structure, choose_groups(structure, protocol.seed)) for structure in structures]
    cut = [(structure, groups) for structure, groups in chosen if groups]
    if not cut:
        raise UserError("no molecule has a single bond outside rings to cut; choose others")
    molecules = [structure for structure, _ in cut]
    starts = [pull(s.pos.numpy(), groups, protocol.distance) for s, groups in cut]
    ends = relax(predictor, molecules, starts, protocol, batch_size, f"{name} assemblies")
    keys = ("cut", "assembled")
    found = deviations(predictor, molecules, starts, ends, protocol.fmax, batch_size, keys)
    success = [not broken for broken in found["broken"]]
    return {
        "success_fraction": float(np.mean(success)),
        "do_nothing_success_fraction": float(np.mean([*map(same_bonds, molecules, starts)])),
        "num_molecules": len(cut),
        "num_skipped": len(chosen) - len(cut),
        **found,
        "success": success,
        "groups": [[list(group.atoms) for group in groups] for _, groups in cut],
    }


def choose_groups(structure: Data, seed: int = 0) -> tuple[Group, ...]:
    """One or two groups at random, by the structure's `sid`, not its place; none if it has none."""
    groups = functional_groups(structure.atomic_numbers.int().numpy(), structure.pos.numpy())
    if not groups:
        return ()
    rng = np.random.default_rng([seed, zlib.crc32(str(identifier(structure.sid)).encode())])
    pairs = disjoint_pairs(groups)
    if pairs and rng.random() < 0.5:
        return pairs[rng.integers(len(pairs))]
    return (groups[rng.integers(len(groups))],)


def pull(positions: np.ndarray, groups: Sequence[Group], distance: float) -> np.ndarray:
    """Positions [n, 3] with each group moved rigidly along its bond, away from the rest."""
    moved = positions.copy()
    for group in groups:
        rest, first = positions[list(group.bond)]
        moved[list(group.atoms)] += distance * (first - rest) / np.linalg.norm(first - rest)
    return moved


@click.command(
    "assemble", context_settings={"show_default": True}, params=task_options("assembly", Protocol())
)
@click.option(
    "--distance", type=Number(0), default=Protocol.distance, help="That groups are moved (Å)."
)
def command(distance: float, **shared: Any) -> None:
    """Pull one or two groups of each molecule away, and relax it with each model.

    Prints how often the bonds are those of before; writes assembly.json and figures.

    \b
    ocp-physmol assemble --checkpoint PhysMol=a.pt --checkpoint SchNet=b.pt \\
        --data data/qm9/test --draw 35 --draw 87 --draw-from data/qm9/train
    """
    task = Task(**shared)
    protocol = Protocol(**task.descent, distance=distance)
    task.drawn = [s for s in task.drawn if choose_groups(s, protocol.seed)]
    done = f"one or two groups moved by {distance} Å"
    found = task.run(assemble, protocol, done, ("cut", "cut", "assembled"))
    task.write("assembly.json", found)
