"""A calculator of ASE in numpy, for one structure or many."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties

from ocp_physmol.calculators.pool import CalculatorPool, Refusal, Source
from ocp_physmol.errors import UserError
from ocp_physmol.potential.potential import Potential
from ocp_physmol.progress import chunks


class PhysMolCalculator(Calculator):
    """Energies (eV) and forces (eV/Angstrom) of trained models, with those of their prior.

    Of several models the mean is given, and their standard deviations as `energy_std` and
    `forces_std` in `results`: they tell how far to trust it.

    Args:
        models: files that `ocp-physmol export` has written, of one model or more.

    Raises:
        UserError: for files that do not fit, or models of different priors; in a calculation, for
            elements that a model does not know, and what its prior refuses.
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012  # ASE's

    def __init__(self, models: str | Path | Sequence[str | Path], **options) -> None:
        super().__init__(**options)
        names = [models] if isinstance(models, str | Path) else models
        self.potentials = [Potential.open(name) for name in names]
        if not self.potentials:
            raise UserError("models is empty; give the files of one model at least")
        priors = {potential.card.model.prior for potential in self.potentials}
        if len(priors) > 1:
            raise UserError(f"the models have different priors ({priors}); use those of one")
        self.prior = priors.pop()
        self._pool = CalculatorPool(Source.named(self.prior)) if self.prior else None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise UserError("there is nothing to calculate; give atoms")
        self.results = {}  # nothing stays of the structure before, if this one is refused
        (self.results,) = self.calculate_many([self.atoms])

    def export_properties(self) -> Properties:
        """Those of `results` that ASE knows."""
        known = {key: self.results[key] for key in self.implemented_properties}
        return Properties(known)

    def calculate_many(
        self, structures: Sequence[Atoms], batch_size: int = 64, title: str | None = None
    ) -> list[dict]:
        """The `results` of each structure, with a progress bar if there is a title.

        The prior is computed on all cores.
        """
        parts = chunks(list(structures), batch_size, title)
        return [result for part in parts for result in self._calculate(part)]

    def _calculate(self, structures: Sequence[Atoms]) -> list[dict]:
        found = [potential.evaluate(structures) for potential in self.potentials]
        results = [_mean(answers) for answers in zip(*found)]
        if self._pool is not None:
            for result, atoms, answer in zip(results, structures, self._of_prior(structures)):
                if isinstance(answer, Refusal):
                    raise UserError(f"{self.prior} refuses {atoms.symbols}: {answer}")
                result["energy"] += answer[0]
                result["forces"] = result["forces"] + answer[1]
        return [{**result, "free_energy": result["energy"]} for result in results]

    def _of_prior(self, structures: Sequence[Atoms]):
        assert self._pool is not None
        if any(atoms.pbc.any() for atoms in structures):
            raise UserError(f"the prior {self.prior} is for free molecules; set pbc = False")
        return self._pool.evaluate(
            {"numbers": atoms.numbers, "positions": atoms.positions} for atoms in structures
        )


def _mean(answers: Sequence[tuple[float, np.ndarray]]) -> dict:
    """Mean and spread of what several models answer."""
    energies, forces = np.array([e for e, _ in answers]), np.array([f for _, f in answers])
    result = {"energy": float(energies.mean()), "forces": forces.mean(0)}
    if len(answers) > 1:
        result |= {"energy_std": float(energies.std(ddof=1)), "forces_std": forces.std(0, ddof=1)}
    return result
