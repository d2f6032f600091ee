"""Energies and forces of an ASE calculator, for whatever evaluates trained models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from ocp_physmol.calculators.batches import evaluate
from ocp_physmol.calculators.pool import KNOWN, CalculatorPool, Source
from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError
from ocp_physmol.model.elements import NUM_TYPES, composition
from ocp_physmol.pushes.draw import bonded_across_the_cell
from ocp_physmol.relaxation.predictor import Predictor


class CalculatorPredictor(Predictor):
    """A calculator in the place of a trained model, for free molecules.

    Molecules that it refuses get NaN, and so do those that have flown apart over their cells.
    """

    device = torch.device("cpu")
    model, energy_scale = torch.nn.Identity(), 1.0  # nothing is learned

    def __init__(self, name: str) -> None:
        self.path = Path(name)
        self.refused: dict[int | str, str] = {}
        self.pool = CalculatorPool(Source.named(name))
        self.references = np.zeros(NUM_TYPES)  # of the elements, eV
        self._of_free_molecules = False  # whether the data have been seen to be

    def fit_references(self, structures: Sequence[Data]) -> None:
        """One energy for each element, so that energies are those of the labels of `structures`."""
        energies, _ = self.energies_and_forces(structures)
        kept = np.isfinite(energies)
        compositions = np.array([composition(s) for s in structures])[kept]
        lacking = np.array([float(s.energy) for s in structures])[kept] - energies[kept]
        self.references = self.references + np.linalg.lstsq(compositions, lacking, rcond=None)[0]

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        """`energy` [B] in eV, in double precision, and `forces` [N, 3] in eV/Angstrom."""
        across = bonded_across_the_cell(batch, batch.natoms)
        if across.any() and not self._of_free_molecules:
            raise UserError("calculators are for free molecules here, and the data are periodic")
        self._of_free_molecules = True
        energies, forces, refusals = evaluate(self.pool, batch, across)
        for place, reason in refusals.items():
            self.refused.setdefault(identifier(batch.sid[place]), reason)
        added = torch.from_numpy(self.references)[batch.atomic_numbers.long()]
        return {"energy": energies.index_add(0, batch.batch, added), "forces": forces.float()}


def is_calculator(name: str | Path) -> bool:
    """Whether a name is that of a calculator, as `Source.named` takes it, and of no file."""
    return str(name) in KNOWN or (":" in str(name) and not Path(name).exists())


def open_model(path: str | Path, cpu: bool = True) -> Predictor:
    """The model of a checkpoint, or a calculator: one of KNOWN, or MODULE:NAME."""
    if is_calculator(path):
        return CalculatorPredictor(str(path))
    return Predictor.open(Path(path), cpu)
