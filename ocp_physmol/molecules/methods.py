"""Where energies and forces come from: a trained model, or another method, by its name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import click
from ase import Atoms

from ocp_physmol.calculators.pool import KNOWN, CalculatorPool, Refusal, Source
from ocp_physmol.errors import UserError, did_you_mean
from ocp_physmol.option_types import PATH
from ocp_physmol.potential.calculator import PhysMolCalculator
from ocp_physmol.potential.shipped import SHIPPED, best_available
from ocp_physmol.potential.weights import files_of

METHODS = click.Option(
    ["--method", "methods"],
    multiple=True,
    help=f"{', '.join([*SHIPPED, *KNOWN])}, or MODULE:NAME of a calculator of ASE. Any number of "
    "times, to compare.  [default: physmol-gfn2, or physmol where tblite is not installed]",
)
MODELS = click.Option(
    ["--model", "models"],
    multiple=True,
    type=PATH,
    help="A model that ocp-physmol export has written, in the place of --method. Of several, the "
    "mean counts.",
)


class Method(Protocol):
    """What gives energies (eV) and forces (eV/Angstrom)."""

    def answer(self, structures: Sequence[Atoms]) -> list[dict | Refusal]:
        """The `energy` and `forces` [n, 3] of each structure, or why it has none."""
        ...

    def doubts(self, atoms: Atoms, results: dict) -> list[str]:
        """Why not to trust the answer to a structure, in words."""
        ...


class OtherMethod:
    """A calculator of ASE, in processes of its own on all cores."""

    def __init__(self, name: str) -> None:
        self.pool = CalculatorPool(Source.named(name))

    def answer(self, structures: Sequence[Atoms]) -> list[dict | Refusal]:
        answers = self.pool.evaluate(
            {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array,
             "pbc": atoms.pbc}
            for atoms in structures
        )  # fmt: skip
        return [a if isinstance(a, Refusal) else {"energy": a[0], "forces": a[1]} for a in answers]

    def doubts(self, atoms: Atoms, results: dict) -> list[str]:
        return []  # it does not say


def open_methods(names: Sequence[str], models: Sequence[Path]) -> dict[str, Method]:
    """By name; with neither names nor models, the best of our own.

    A UserError for a name of nothing, and for models that do not fit.
    """
    if models:
        if names:
            raise UserError("give either --model or --method")
        return {files_of(models[0])[0].stem: PhysMolCalculator(list(models))}
    found: dict[str, Method] = {}
    for name in names or [best_available()]:
        if name not in (known := [*SHIPPED, *KNOWN]) and ":" not in name:
            cure = f"{did_you_mean(name, known)} (or MODULE:NAME of a calculator of ASE)"
            raise UserError(f"--method '{name}' is unknown; {cure}")
        is_own = name in SHIPPED
        found[name] = PhysMolCalculator(prior=SHIPPED[name]) if is_own else OtherMethod(name)
    for method in found.values():  # before the first of them has begun
        if isinstance(method, OtherMethod):
            method.pool.require_loadable()
    return found
