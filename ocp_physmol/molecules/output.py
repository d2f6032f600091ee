"""Structures written where they ended, a file for each that they came from."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import ase.io
from ase import Atoms
from ase.io.formats import filetype
from rdkit import Chem

from ocp_physmol.errors import UserError, blame
from ocp_physmol.files import complete_or_absent
from ocp_physmol.molecules.structures import Structure, is_sdf, unpacked

# of ASE's formats, those that it reads as it wrote them; of others, extended XYZ is written
KEPT = ("traj", "proteindatabank", "vasp", "gen", "turbomole", "aims", "res", "cif")
OF_ANY = ("traj", "cif")  # the others hold one molecule, or the same one several times
XYZ = ("xyz", "extxyz")  # written as extended XYZ, with energies and forces


class Output:
    """The files in a folder that structures are to be written to, one for each input.

    Raises:
        UserError: if the folder cannot be written to, or if one of the files is an input.
    """

    def __init__(self, folder: Path, structures: Sequence[Structure]) -> None:
        by_label = _by_label([(structure, structure.atoms) for structure in structures])
        self.forms = {label: _form(own) for label, own in by_label.items()}
        self.paths = {
            label: folder / f"{label}{ending}" for label, (_, ending) in self.forms.items()
        }
        require_room(folder, self.paths.values(), structures)

    def write(self, ends: Sequence[tuple[Structure, Atoms]]) -> list[Path]:
        """Write structures, with the energies and forces of their calculators, and return where."""
        written = []
        for label, own in _by_label(ends).items():
            with complete_or_absent(self.paths[label]) as partial:
                _write(partial, own, self.forms[label][0])
            written.append(self.paths[label])
        return written


Own = list[tuple[Structure, Atoms]]  # of one file


def require_room(folder: Path, paths: Iterable[Path], structures: Sequence[Structure]) -> None:
    """Make a folder, if it is not there.

    A UserError if nothing can be written to it, or if one of its `paths` is that of an input.
    """
    inputs = {s.file.resolve() for s in structures if s.file is not None}
    for path in paths:
        if path.resolve() in inputs:
            raise UserError(f"{path} is read and would be replaced; choose another --output")
    with blame(f"--output {folder} cannot be written to", OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def _by_label(structures: Sequence[tuple[Structure, Atoms]]) -> dict[str, Own]:
    found: dict[str, Own] = {}
    for structure, atoms in structures:
        found.setdefault(structure.label, []).append((structure, atoms))
    return found


def _form(own: Own) -> tuple[str, str]:
    """The format in which the structures of a file are written, and how its name ends."""
    file = own[0][0].file
    if file is None:
        return "extxyz", ".xyz"
    ending = unpacked(file).suffix
    if is_sdf(file):
        return "sdf", ending
    form = filetype(str(file))
    if form in XYZ:
        return "extxyz", ending if ending in (".xyz", ".extxyz") else ".extxyz"
    alike = all(list(atoms.numbers) == list(own[0][1].numbers) for _, atoms in own)
    kept = form in KEPT and (alike or form in OF_ANY)
    return (form, ending) if kept else ("extxyz", ".extxyz")


def _write(path: Path, ends: Own, form: str) -> None:
    if form == "sdf":
        with Chem.SDWriter(str(path)) as writer:
            for structure, atoms in ends:
                assert structure.bonds is not None  # of every molecule of an SDF
                molecule = Chem.Mol(structure.bonds)
                molecule.GetConformer().SetPositions(atoms.positions)
                molecule.SetProp("energy_eV", f"{atoms.get_potential_energy():.6f}")
                for key in ("method", "converged"):
                    molecule.SetProp(key, str(atoms.info[key]))
                writer.write(molecule)
        return
    for structure, atoms in ends:
        atoms.info.setdefault("name", structure.name)
    images = [atoms for _, atoms in ends]
    if form == "extxyz" and all(atoms.constraints for atoms in images):  # which atoms are held
        others = [key for key in images[0].arrays if key not in ("numbers", "positions")]
        columns = ["symbols", "positions", *others, "forces", "move_mask"]
        ase.io.write(path, images, format=form, columns=columns)
        return
    ase.io.write(path, images, format=form)
