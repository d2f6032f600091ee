"""A loss of your own: the force on a displaced molecule points back to its minimum."""

import torch

from ocp_physmol.losses.draws import displaced_positions
from ocp_physmol.losses.term import Term
from ocp_physmol.model.copies import Copy


class Uphill(Term):
    """max(0, F.d), eV, for each molecule displaced by d from its minimum."""

    class Options(Term.Options):
        noise: float = 0.1  # standard deviation of the displacement, Angstrom

    def copy(self, batch, generators):
        everything = torch.ones_like(batch.natoms, dtype=torch.bool)
        pos = displaced_positions(batch, everything, self.options.noise, generators)
        return Copy("uphill", ("forces",), pos)

    def compare(self, out, batch, copy):
        per_atom = (out[copy.name]["forces"] * (copy.pos - batch.pos)).sum(-1)
        work = per_atom.new_zeros(len(batch.natoms)).index_add(0, batch.batch, per_atom)
        return work, torch.zeros_like(work)

    def forward(self, prediction, target, natoms):
        return torch.relu(prediction - target)
