"""A calculator of ASE in numpy, for one structure or many."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties

from ocp_physmol.calculators.pool import Answer, CalculatorPool, Refusal, Source
from ocp_physmol.errors import UserError
from ocp_physmol.geometry import environments
from ocp_physmol.potential.potential import Potential, Surroundings
from ocp_physmol.potential.shipped import USUAL_SPREAD, shipped_models
from ocp_physmol.progress import chunks

BATCH, ATOMS = 64, 4000  # structures that are evaluated together, and about how many atoms


class PhysMolCalculator(Calculator):
    """Energies (eV) and forces (eV/Angstrom) of trained models, with those of their prior.

    Of several models the mean is given, and their standard deviations as `energy_std` and
    `forces_std` in `results`: they tell how far to trust it.

    Args:
        models: files that `ocp-physmol export` has written, of one model or more.
        prior: in the place of models, those with this prior that come with the package: "gfn2",
            which needs the extra xtb, or None.

    Raises:
        UserError: for files that do not fit, or models of different priors; in a calculation, for
            elements that a model does not know, and what its prior refuses.
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012  # ASE's

    def __init__(
        self,
        models: str | Path | Sequence[str | Path] | None = None,
        prior: str | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        self.usual_spread = np.inf  # eV/Angstrom
        if models is None:
            models, self.usual_spread = shipped_models(prior), USUAL_SPREAD[prior]
        elif prior is not None:
            raise UserError("give either models, which say their prior themselves, or a prior")
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
        self, structures: Sequence[Atoms], batch_size: int | None = None, title: str | None = None
    ) -> list[dict]:
        """The `results` of each structure, with a progress bar if there is a title.

        The prior is computed on all cores. A UserError for one that is refused.
        """
        found = []
        for part in chunks(list(structures), batch_size or _batch_size(structures), title):
            for atoms, answer in zip(part, self._answer(part)):
                if isinstance(answer, Refusal):
                    raise UserError(f"{atoms.symbols} is refused: {answer}")
                found.append(answer)
        return found

    def answer(self, structures: Sequence[Atoms]) -> list[dict | Refusal]:
        """The `results` of each structure, or why it has none."""
        parts = chunks(list(structures), _batch_size(structures))
        return [answer for part in parts for answer in self._answer(part)]

    def doubts(self, atoms: Atoms, results: dict) -> list[str]:
        """Why not to trust the `results` of a structure, in words."""
        found = []
        if unfamiliar := self.unfamiliar(atoms):
            found.append(f"unlike its training: {', '.join(unfamiliar)}")
        if (spread := largest(results.get("forces_std"))) > self.usual_spread:
            found.append(f"uncertain: forces of its models differ by {spread:.2f} eV/Å")
        return found

    def unfamiliar(self, atoms: Atoms) -> list[str]:
        """What atoms of a molecule are bonded to as in hardly any molecule of the training, with an
        example each: N4 as N(COO), ..."""
        lists = [potential.card.environments for potential in self.potentials]
        if not all(lists):
            return []
        if atoms.pbc.any():
            return ["periodic"]
        found = environments(atoms.numbers, atoms.positions)
        unknown = [e for e in set(found) if not all(e in known for known in lists)]
        examples = {found.index(environment): environment for environment in unknown}
        return [f"{atoms.symbols[k]}{k + 1} as {examples[k]}" for k in sorted(examples)]

    def _answer(self, structures: Sequence[Atoms]) -> list[dict | Refusal]:
        found: dict[int, Any] = {}
        for place, atoms in enumerate(structures):
            reasons = [potential.unfit(atoms) for potential in self.potentials]
            if reason := next(filter(None, reasons), None):
                found[place] = Refusal(reason)
            elif self.prior and atoms.pbc.any():
                found[place] = Refusal(f"{self.prior} is for free molecules, and this is periodic")
        fit = [place for place in range(len(structures)) if place not in found]
        known = [structures[place] for place in fit]
        if known:
            found |= dict(zip(fit, map(_mean, zip(*self._of_models(known)))))
        for place, answer in zip(fit, self._of_prior(known)):
            found[place] = _sum(found[place], answer)
        return [found[place] for place in range(len(structures))]

    def _of_models(self, structures: Sequence[Atoms]) -> Iterator[list[tuple[float, np.ndarray]]]:
        """What each model answers. Models that are alike look for neighbours once."""
        found: dict[tuple, Surroundings] = {}
        for potential in self.potentials:
            key = potential.network.edge_options
            if key not in found:
                found[key] = potential.surroundings(structures)
            yield potential.answers(found[key])

    def _of_prior(self, structures: Sequence[Atoms]) -> Iterable[Answer]:
        if self._pool is None:
            return ()
        return self._pool.evaluate(
            {"numbers": atoms.numbers, "positions": atoms.positions} for atoms in structures
        )


def _batch_size(structures: Sequence[Atoms]) -> int:
    """How many of them are evaluated together."""
    most = max(map(len, structures), default=0)
    return min(BATCH, max(1, ATOMS // max(1, most)))


def largest(vectors: np.ndarray | None) -> float:
    """The length of the longest of vectors [n, 3]; 0 without them."""
    return 0.0 if vectors is None else float(np.linalg.norm(vectors, axis=1).max())


def _mean(answers: Sequence[tuple[float, np.ndarray]]) -> dict:
    """Mean and spread of what several models answer."""
    energies, forces = np.array([e for e, _ in answers]), np.array([f for _, f in answers])
    result = {"energy": float(energies.mean()), "forces": forces.mean(0)}
    if len(answers) > 1:
        result |= {"energy_std": float(energies.std(ddof=1)), "forces_std": forces.std(0, ddof=1)}
    return {**result, "free_energy": result["energy"]}


def _sum(result: dict, of_prior: Answer) -> dict | Refusal:
    if isinstance(of_prior, Refusal):
        return of_prior
    energy, forces = result["energy"] + of_prior[0], result["forces"] + of_prior[1]
    return {**result, "energy": energy, "free_energy": energy, "forces": forces}
