"""Files of molecules, read and written in the same format, and molecules of SMILES."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

from ocp_physmol.errors import UserError, blame
from ocp_physmol.files import complete_or_absent

SDF = (".sdf", ".mol")  # read by RDKit, which keeps their bonds
SEED = 0  # of the embedding of SMILES: the same molecule begins at the same place


class Structure(NamedTuple):
    """A molecule of a file, or of SMILES."""

    name: str
    atoms: Atoms
    file: Path | None  # that it is from
    bonds: Chem.Mol | None  # what RDKit knows of it


def read(files: Sequence[Path], smiles: Sequence[str]) -> list[Structure]:
    """All structures of files, and those that RDKit embeds for SMILES.

    A UserError for files that cannot be read or hold nothing, and for SMILES that are none.
    """
    found = [structure for file in files for structure in _of_file(file)]
    found += [_of_smiles(text) for text in smiles]
    if not found:
        raise UserError("there is nothing to do; give files of molecules, or --smiles")
    return found


def write(
    folder: Path, ends: Sequence[tuple[Structure, Atoms, dict]], suffix: str = ""
) -> list[Path]:
    """Write structures where they ended, with the `results` there, a file for each they came from.

    The format is that of the input where ASE can write it, else extended XYZ.
    """
    by_file: dict[Path, list[tuple[Structure, Atoms, dict]]] = {}
    for structure, atoms, results in ends:
        source = structure.file or Path(f"{structure.name}.xyz")
        by_file.setdefault(source, []).append((structure, atoms, results))
    names = [source.name for source in by_file]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two files are called {twice}; relax them one after the other")
    written = []
    for source, own in by_file.items():
        write_one = _write_sdf if source.suffix in SDF else _write_with_ase
        written.append(write_one(folder / f"{source.stem}{suffix}{source.suffix}", source, own))
    return written


def _of_file(file: Path) -> list[Structure]:
    if not file.is_file():
        raise UserError(f"{file} does not exist; correct the path")
    if file.suffix in SDF:
        return _of_sdf(file)
    with blame(f"{file} cannot be read", Exception):  # each format has errors of its own
        images = ase.io.read(file, index=":")
    if not images or not all(len(atoms) for atoms in images):
        raise UserError(f"{file} holds a structure without atoms; correct it")
    names = [file.stem] if len(images) == 1 else [f"{file.stem}-{k}" for k in range(len(images))]
    return [Structure(name, atoms, file, None) for name, atoms in zip(names, images)]


def _of_sdf(file: Path) -> list[Structure]:
    molecules = []
    with rdBase.BlockLogs(), suppress(OSError):  # of an empty file
        molecules = list(Chem.SDMolSupplier(str(file), removeHs=False))
    if not molecules or None in molecules:
        raise UserError(f"{file} holds a molecule that RDKit cannot read; correct it")
    found = []
    for k, molecule in enumerate(molecules):
        name = file.stem if len(molecules) == 1 else f"{file.stem}-{k}"
        flat = not molecule.GetNumConformers() or not molecule.GetConformer().Is3D()
        whole = _embedded(molecule, name) if flat else Chem.AddHs(molecule, addCoords=True)
        found.append(Structure(name, _atoms(whole), file, whole))
    return found


def _of_smiles(text: str) -> Structure:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    if molecule is None or not molecule.GetNumAtoms():
        raise UserError(f"--smiles '{text}' is no molecule for RDKit; correct it")
    name = "".join(c if c.isalnum() or c in "-+()=" else "_" for c in text)[:60]
    whole = _embedded(molecule, text)
    return Structure(name, _atoms(whole), None, whole)


def _embedded(molecule: Chem.Mol, name: str) -> Chem.Mol:
    """With hydrogens, and positions of RDKit's distance geometry."""
    whole = Chem.AddHs(molecule)
    if rdDistGeom.EmbedMolecule(whole, randomSeed=SEED) != 0:
        raise UserError(f"RDKit finds no positions for {name}; give them in a file")
    return whole


def _atoms(molecule: Chem.Mol) -> Atoms:
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    return Atoms(symbols, molecule.GetConformer().GetPositions())


def _write_with_ase(path: Path, source: Path, ends: list) -> Path:
    images = []
    for _, atoms, results in ends:
        image = atoms.copy()
        known = {key: results[key] for key in ("energy", "forces")}
        image.calc = SinglePointCalculator(image, **known)
        images.append(image)
    form = _format(source)
    if form == "extxyz":
        path = path.with_suffix(".xyz" if source.suffix == ".xyz" else ".extxyz")
    with complete_or_absent(path) as partial:
        ase.io.write(partial, images, format=form)
    return path


def _format(source: Path) -> str:
    """What ASE is to write: the format of a file, if it can be written and hold all."""
    try:
        form = filetype(str(source))
    except (OSError, UnknownFileTypeError):  # of SMILES, there is no file
        return "extxyz"
    return form if form != "xyz" and ioformats[form].can_write else "extxyz"


def _write_sdf(path: Path, source: Path, ends: list) -> Path:
    with complete_or_absent(path) as partial, Chem.SDWriter(str(partial)) as writer:
        for structure, atoms, results in ends:
            molecule = Chem.Mol(structure.bonds)
            molecule.GetConformer().SetPositions(atoms.positions)
            molecule.SetProp("energy_eV", f"{results['energy']:.6f}")
            writer.write(molecule)
    return path
