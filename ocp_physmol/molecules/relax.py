"""From files of molecules to their minima: ocp-physmol relax --help"""

from collections.abc import Sequence

import click
import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from rdkit.Chem import Descriptors
from tabulate import tabulate

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.errors import EXIT_STATUS
from ocp_physmol.geometry import bonds
from ocp_physmol.molecules.methods import Method
from ocp_physmol.molecules.output import Output
from ocp_physmol.molecules.relaxation import End, relaxations
from ocp_physmol.molecules.request import Request, request_options
from ocp_physmol.molecules.structures import Structure

HEADERS = ("", "energy (eV)", "± (meV)", "fmax (eV/Å)", "steps", "moved by (Å)", "remarks")
FORMATS = ("", ".4f", ".1f", ".3f", "", ".3f", "")


OPTIONS = request_options(fmax=0.01, steps=500, output="relaxed")


@click.command("relax", context_settings={"show_default": True}, params=OPTIONS)
def command(**given) -> None:
    """Relax the molecules of FILES (xyz, sdf, traj, ...) to the minima next to them.

    All are relaxed at once. The structures are written to --output in the format of their files,
    or as extended XYZ where that could not be read again.

    \b
    ocp-physmol relax caffeine.xyz
    ocp-physmol relax --smiles CCO --method physmol-gfn2 --method gfn2

    With --config-yml instead of FILES, the structures of dataset.relax are relaxed with a model of
    fairchem.
    """
    request = Request(**given)
    structures, unfit, opened = request.opened()
    refusals = [(structure, Refusal(problem)) for structure, problem in unfit]
    outputs = {name: Output(request.folder(name), structures) for name in opened}
    refused = bool(unfit)
    for name, method in opened.items():
        begins = [structure.atoms for structure in structures]
        title, found = f"Relaxing with {name}", {}
        try:
            for place, end in relaxations(method, begins, request.fmax, request.steps, title):
                found[place] = end
                if isinstance(end, End):
                    end.atoms.info |= {"method": name, "converged": end.converged}
        finally:  # what has ended stays, if the rest is interrupted
            ended = [(structures[place], found[place]) for place in sorted(found)]
            if ended:
                written = outputs[name].write(
                    [(s, e.atoms) for s, e in ended if isinstance(e, End)]
                )
                click.echo(f"\n{name}\n\n{table([*ended, *refusals], method)}\n")
                for path in written:
                    click.echo(f"Written: {path}")
        refused = refused or any(isinstance(end, Refusal) for end in found.values())
    if refused:
        raise SystemExit(EXIT_STATUS)


def table(ended: Sequence[tuple[Structure, End | Refusal]], method: Method) -> str:
    """A row for each structure: where it ended, how far from its start, what to know of it."""
    rows = [_row(structure, end, method) for structure, end in ended]
    keep = [k for k in range(len(HEADERS)) if any(row[k] not in (None, "") for row in rows)]
    return tabulate(
        [[row[k] for k in keep] for row in rows],
        [HEADERS[k] for k in keep],
        floatfmt=[FORMATS[k] for k in keep],
        disable_numparse=[0],  # names such as 1.10
    )


def _row(structure: Structure, end: End | Refusal, method: Method) -> list:
    if isinstance(end, Refusal):
        return [structure.name, None, None, None, None, None, f"refused: {end}"]
    spread = end.results.get("energy_std")
    return [
        structure.name,
        end.results["energy"],
        None if spread is None else 1000 * spread,
        end.largest_force,
        end.steps,
        moved_by(structure.atoms, end.atoms),
        "; ".join(remarks(structure, end, method)),
    ]


def moved_by(before: Atoms, after: Atoms) -> float:
    """Root mean square displacement of the atoms, Angstrom; of molecules, after alignment."""
    placed = after.copy()
    placed.set_constraint()
    if not before.pbc.any() and not before.constraints:
        minimize_rotation_and_translation(before, placed)
    return float(np.sqrt(((placed.positions - before.positions) ** 2).sum(1).mean()))


def remarks(structure: Structure, end: End, method: Method) -> list[str]:
    """What to know before the end of a relaxation is used."""
    before = structure.atoms
    found = [] if end.converged else [f"not converged: {end.largest_force:.3f} eV/Å are left"]
    if not before.pbc.any():
        found += unpaired(structure)
        old, new = (bonds(a.numbers, a.positions) for a in (before, end.atoms))
        names = ((old - new, "broken"), (new - old, "formed"))
        found += [f"{_named(before, pairs)} {what}" for pairs, what in names if pairs]
    return found + method.doubts(end.atoms, end.results)


def unpaired(structure: Structure) -> list[str]:
    """That a molecule is no closed shell, which all methods take it for."""
    if structure.atoms.numbers.sum() % 2:
        return ["an odd number of electrons: a radical, or an ion whose charge the file lacks"]
    count = Descriptors.NumRadicalElectrons(structure.bonds) if structure.bonds else 0
    return [f"its {count} unpaired electrons are taken for paired ones"] if count else []


def _named(atoms: Atoms, pairs: set[tuple[int, int]]) -> str:
    """Bonds by elements and places: C1-H5, from 1 on as in most programs."""
    return ", ".join("-".join(f"{atoms.symbols[k]}{k + 1}" for k in pair) for pair in sorted(pairs))
