"""Structures written where they ended, a file for each that they came from."""

from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import filetype
from rdkit import Chem

from ocp_physmol.errors import UserError, blame
from ocp_physmol.files import complete_or_absent
from ocp_physmol.molecules.structures import PACKED, Structure, is_sdf

# of ASE's formats, those that it reads as it wrote them; of others, extended XYZ is written
KEPT = ("traj", "proteindatabank", "vasp", "gen", "turbomole", "aims", "res", "cif")
XYZ = ("xyz", "extxyz")  # written as extended XYZ, with energies and forces


class Output:
    """The files in a folder that structures are to be written to, one for each input.

    Raises:
        UserError: if the folder cannot be made, or if one of the files is an input.
    """

    def __init__(self, folder: Path, structures: Sequence[Structure], suffix: str = "") -> None:
        """`suffix` follows the labels of the inputs in the names of the files."""
        with blame(f"--output {folder} cannot be written to", OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self.forms = {s.label: _form(s.file) for s in structures}
        self.paths = {
            label: folder / f"{label}{suffix}{ending}" for label, (_, ending) in self.forms.items()
        }
        inputs = {s.file.resolve() for s in structures if s.file is not None}
        for path in self.paths.values():
            if path.resolve() in inputs:
                raise UserError(f"{path} is read and would be replaced; choose another --output")

    def write(self, ends: Sequence[tuple[Structure, Atoms]]) -> list[Path]:
        """Write structures, with the energies and forces of their calculators, and return where."""
        written = []
        for label, path in self.paths.items():
            own = [(structure, atoms) for structure, atoms in ends if structure.label == label]
            if own:
                with complete_or_absent(path) as partial:
                    _write(partial, own, self.forms[label][0])
                written.append(path)
        return written


def _form(file: Path | None) -> tuple[str, str]:
    """The format in which the structures of a file are written, and how its name ends."""
    if file is None:
        return "extxyz", ".xyz"
    if is_sdf(file):
        return "sdf", file.suffix
    form = filetype(str(file))
    ending = Path(file.stem).suffix if file.suffix in PACKED else file.suffix
    if form in XYZ:
        return "extxyz", ending if ending in (".xyz", ".extxyz") else ".extxyz"
    return (form, ending) if form in KEPT else ("extxyz", ".extxyz")


def _write(path: Path, ends: list[tuple[Structure, Atoms]], form: str) -> None:
    if form == "sdf":
        with Chem.SDWriter(str(path)) as writer:
            for structure, atoms in ends:
                assert structure.bonds is not None  # of every molecule of an SDF
                molecule = Chem.Mol(structure.bonds)
                molecule.GetConformer().SetPositions(atoms.positions)
                molecule.SetProp("energy_eV", f"{atoms.get_potential_energy():.6f}")
                writer.write(molecule)
        return
    for structure, atoms in ends:
        atoms.info["name"] = structure.name
    ase.io.write(path, [atoms for _, atoms in ends], format=form)
