"""Which structures are at a minimum, and where the minimum of the others is.

Data say so in one of two ways. IS2RE's hold `pos_relaxed`, where a structure relaxes to. All others
hold forces: a structure is at a minimum where none acts on a free atom.
"""

import torch

from ocp_physmol.model.copies import Copy

EQUILIBRIUM_FORCE = 0.05  # eV/Angstrom; below, the largest force on a free atom counts as zero


def problem(entry, labels: set[str]) -> str | None:
    """Why nothing in the training data says what is a minimum, and the cure; None if it does."""
    if "pos_relaxed" in entry or "forces" in labels:
        return None
    return (
        "needs minima, and the training data has neither pos_relaxed nor forces; leave it out, or "
        "add optional: true"
    )


def at_equilibrium(batch) -> torch.Tensor:
    """Which structures of a batch with labelled `forces` are at a minimum, [B] bool."""
    size = batch.forces.norm(dim=-1) * (batch.fixed == 0)
    largest = size.new_zeros(len(batch.natoms)).scatter_reduce(0, batch.batch, size, "amax")
    return largest < EQUILIBRIUM_FORCE


def relaxed_copy(batch, *outputs: str) -> Copy | None:
    """The structures where they relax to; None if the data do not say."""
    return Copy("relaxed", outputs, pos=batch.pos_relaxed) if "pos_relaxed" in batch else None
