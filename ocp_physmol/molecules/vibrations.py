"""Frequencies of molecules at their minima: ocp-physmol vibrations --help"""

import glob
from pathlib import Path
from typing import NamedTuple

import ase.io
import click
import numpy as np
from ase import Atoms, units
from tabulate import tabulate
from tqdm import tqdm

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.errors import EXIT_STATUS, UserError
from ocp_physmol.figures.spectrum import spectrum_figure
from ocp_physmol.files import complete_or_absent, write_json
from ocp_physmol.harmonic import displaced, hessian, normal_modes
from ocp_physmol.molecules.methods import Method
from ocp_physmol.molecules.output import require_room
from ocp_physmol.molecules.relax import remarks
from ocp_physmol.molecules.relaxation import End, answers_or_refusals, relax
from ocp_physmol.molecules.request import Request, request_options

LINEAR = 0.03  # Angstrom, of atoms off an axis, by root mean square
FRAMES = 16  # of a film of a mode
FILMED = 0.3  # Angstrom, by which the atom moves that moves most


class Vibrations(NamedTuple):
    """Of a molecule: frequencies [modes] (1/cm, imaginary ones negative, sorted) and [modes, n, 3]
    how the atoms move."""

    frequencies: np.ndarray
    modes: np.ndarray

    @property
    def zero_point_energy(self) -> float:
        """eV, of the real modes."""
        return 0.5 * float(self.frequencies.clip(min=0).sum()) * units.invcm


OPTIONS = request_options(fmax=0.003, steps=1000, output="vibrations")


@click.command("vibrations", context_settings={"show_default": True}, params=OPTIONS)
def command(**given) -> None:
    """Harmonic frequencies and zero-point energies of the molecules of FILES, at their minima.

    Writes them, the minima, a picture of the spectrum without intensities, and films of imaginary
    modes.

    \b
    ocp-physmol vibrations caffeine.xyz
    ocp-physmol vibrations --smiles CCO --method physmol-gfn2 --method gfn2
    """
    request = Request(**given)
    structures, unfit, opened = request.opened()
    for structure in structures:
        if structure.atoms.pbc.any() or structure.atoms.constraints:
            raise UserError(
                f"{structure.name} has periods or atoms that are held; give free molecules"
            )
    for name in opened:
        folder = request.folder(name)
        paths = [folder / f"{s.name}{end}" for s in structures for end in (".json", ".xyz")]
        require_room(folder, paths, structures)
    rows: list[list] = []
    spectra: dict[str, dict[str, np.ndarray]] = {}
    failed = len(unfit)
    for name, method in opened.items():
        begins = [structure.atoms for structure in structures]
        title = f"Relaxing with {name}"
        ends = relax(method, begins, request.fmax, request.steps, title)
        pairs = tqdm(zip(structures, ends), "Vibrations", len(structures), unit=" structures")
        try:
            for structure, end in pairs:
                found = end if isinstance(end, Refusal) else vibrations(method, end.atoms)
                if isinstance(end, Refusal) or isinstance(found, Refusal):
                    rows.append([structure.name, name, None, None, None, f"refused: {found}"])
                    failed += 1
                    continue
                end.atoms.info |= {"method": name, "converged": end.converged}
                _write(request.folder(name) / structure.name, end, found)
                spectra.setdefault(structure.name, {})[name] = found.frequencies
                known = [*remarks(structure, end, method), *_saddle(found)]
                rows.append([structure.name, name, *_summary(found), "; ".join(known)])
        except BaseException:  # what has ended stays, if the rest is interrupted
            _report(rows, spectra, request.output)
            raise
    rows += [[s.name, "", None, None, None, f"refused: {problem}"] for s, problem in unfit]
    _report(rows, spectra, request.output)
    if failed:
        raise SystemExit(EXIT_STATUS)


def _report(rows: list[list], spectra: dict[str, dict[str, np.ndarray]], output: Path) -> None:
    """Draw the spectra, and print the table."""
    for molecule, by_method in spectra.items():
        spectrum_figure(output / f"{molecule}.png", molecule, by_method)
    headers = ("", "method", "zero-point (eV)", "lowest (1/cm)", "imaginary", "remarks")
    formats = ("", "", ".4f", ".0f", "", "")
    click.echo("\n" + tabulate(rows, headers, floatfmt=formats, disable_numparse=[0, 1, 5]))
    if spectra:
        click.echo(f"\nWritten: frequencies, spectra and films in {output}")


def _saddle(found: Vibrations) -> list[str]:
    falling = (found.frequencies < 0).any()
    return ["a saddle point, no minimum: relax a frame of its film"] if falling else []


def vibrations(method: Method, atoms: Atoms) -> Vibrations | Refusal:
    """Those of a molecule where it is; or why it has none."""
    centered = atoms.copy()
    centered.positions -= centered.positions.mean(0)
    if not centered.has("masses"):
        centered.set_masses("most_common")  # the isotopes that spectra are of
    if (modes := num_modes(atoms)) == 0:
        return Vibrations(np.zeros(0), np.zeros((0, 1, 3)))
    copies = [Atoms(atoms.numbers, positions) for positions in displaced(centered.positions)]
    forces = []
    for answer in answers_or_refusals(method, copies):
        if isinstance(answer, Refusal):
            return answer
        forces.append(answer["forces"])
    return Vibrations(*normal_modes(centered, hessian(np.array(forces)), modes))


def num_modes(atoms: Atoms) -> int:
    """3n - 6, or 3n - 5 for a linear molecule, or 0 for an atom."""
    if len(atoms) == 1:
        return 0
    extent = np.linalg.svd(atoms.positions - atoms.positions.mean(0))[1]
    return 3 * len(atoms) - (5 if extent[1] < LINEAR * np.sqrt(len(atoms)) else 6)


def _summary(found: Vibrations) -> tuple[float, float | None, int]:
    frequencies = found.frequencies
    lowest = float(frequencies[0]) if len(frequencies) else None
    return found.zero_point_energy, lowest, int((frequencies < 0).sum())


def _write(place: Path, end: End, found: Vibrations) -> None:
    """PLACE.json, the minimum PLACE.xyz, and films PLACE-mode-NUMBER.xyz of imaginary modes."""
    write_json(
        place.with_name(f"{place.name}.json"),
        {
            "method": end.atoms.info["method"],
            "converged": end.converged,
            "energy_ev": end.results["energy"],
            "largest_force_ev_per_a": end.largest_force,
            "zero_point_energy_ev": found.zero_point_energy,
            "frequencies_per_cm": found.frequencies.round(2).tolist(),
        },
        indent=2,
    )
    with complete_or_absent(place.with_name(f"{place.name}.xyz")) as partial:
        ase.io.write(partial, end.atoms, format="extxyz")
    for film in place.parent.glob(f"{glob.escape(place.name)}-mode-*.xyz"):
        film.unlink()  # of an earlier run
    for k in np.flatnonzero(found.frequencies < 0):
        phases = FILMED * np.sin(2 * np.pi * np.arange(FRAMES) / FRAMES)
        moved = [end.atoms.positions + phase * found.modes[k] for phase in phases]
        with complete_or_absent(place.with_name(f"{place.name}-mode-{k}.xyz")) as partial:
            images = [Atoms(end.atoms.numbers, positions) for positions in moved]
            ase.io.write(partial, images, format="xyz")
