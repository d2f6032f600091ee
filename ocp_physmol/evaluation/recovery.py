"""Section 4.3, structure recovery: does a relaxation lead back to the minimum of before?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from torch_geometric.data import Data

from ocp_physmol.evaluation.deviations import deviations
from ocp_physmol.evaluation.structure_tasks import Task, task_options
from ocp_physmol.option_types import Number
from ocp_physmol.relaxation.batched import Descent, relax
from ocp_physmol.relaxation.predictor import Predictor


@dataclass(frozen=True)
class Protocol(Descent):
    """How the minima are perturbed and relaxed; Delta P depends on all of it."""

    noise: float = 0.1  # Angstrom, standard deviation of every coordinate; with 0 minima must stay


def recover(
    predictor: Predictor,
    structures: Sequence[Data],
    protocol: Protocol,
    batch_size: int = 32,
    name: str = "",
) -> dict:
    """Perturb each structure, relax it with the model `name`, and compare it with its minimum.

    Returns:
        What `deviations` says, with `perturbed` and `relaxed` positions.
    """
    rng = np.random.default_rng(protocol.seed)
    molecules = list(structures)
    starts = [s.pos.numpy() + rng.normal(scale=protocol.noise, size=s.pos.shape) for s in molecules]
    ends = relax(predictor, molecules, starts, protocol, batch_size, f"{name} relaxations")
    keys = ("perturbed", "relaxed")
    return deviations(predictor, molecules, starts, ends, protocol.fmax, batch_size, keys)


@click.command(
    "recover", context_settings={"show_default": True}, params=task_options("recovery", Protocol())
)
@click.option(
    "--noise", "noises", type=Number(0), multiple=True, default=[Protocol.noise],
    help="Standard deviation of every coordinate (Å), any number of times.",
)  # fmt: skip
def command(noises: Sequence[float], **shared: Any) -> None:
    """Push all atoms of molecules at their minima, and relax them with each model.

    The molecules are the smallest and as many random ones. Prints a table for each --noise; writes
    recovery.json and figures.

    \b
    ocp-physmol recover --checkpoint PhysMol=a.pt --checkpoint SchNet=b.pt \\
        --data data/quickstart/test --noise 0 --noise 0.1
    """
    task = Task(**shared)
    record = {}
    for noise in noises:
        protocol = Protocol(**task.descent, noise=noise)
        done = f"noise of {noise} Å on every coordinate"
        panels = (f"pushed by {noise} Å", "perturbed", "relaxed")
        record[str(noise)] = task.run(recover, protocol, done, panels, f"_{noise}")
    task.write("recovery.json", {"noise": record})
