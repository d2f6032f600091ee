"""Which structures are at a minimum, and where the minimum of the others is.

IS2RE's data hold `pos_relaxed`, the minimum of each structure. All others hold forces: a structure
is at a minimum where no force on a free atom reaches EQUILIBRIUM_FORCE.
"""

import torch

from ocp_physmol.losses.term import Term
from ocp_physmol.model.copies import Copy

EQUILIBRIUM_FORCE = 0.05  # eV/Angstrom; below, the largest force on a free atom counts as zero


class EquilibriumTerm(Term):
    """A term for training data that say which structures are at a minimum."""

    def problem(self, entry, labels):
        if "pos_relaxed" in entry or "forces" in labels:
            return None
        return (
            "needs minima, and the training data has neither pos_relaxed nor forces; leave it "
            "out, or add optional: true"
        )


def at_equilibrium(batch) -> torch.Tensor:
    """Which structures of a batch with labelled `forces` are at a minimum, [B] bool."""
    size = batch.forces.norm(dim=-1) * (batch.fixed == 0)
    largest = size.new_zeros(len(batch.natoms)).scatter_reduce(0, batch.batch, size, "amax")
    return largest < EQUILIBRIUM_FORCE


def relaxed_copy(batch, *outputs: str) -> Copy | None:
    """The structures where they relax to; None if the data do not say."""
    return Copy("relaxed", outputs, pos=batch.pos_relaxed) if "pos_relaxed" in batch else None
