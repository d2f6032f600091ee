"""Molecules of files and of SMILES."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import ase.io
from ase import Atoms
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

from ocp_physmol.errors import UserError, blame

SDF = (".sdf", ".mol")  # read by RDKit, which keeps their bonds
PACKED: dict[str, Callable] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DAMAGE = (OSError, EOFError, lzma.LZMAError, zlib.error)  # of packed files
CHARGES = ("charge", "total_charge")  # in the comments of extended XYZ
APART = 3.0  # Angstrom, between molecules of one SMILES
SEED = 0  # of the embedding: the same molecule begins at the same place
LONGEST = 60  # characters of SMILES in a name


class Structure(NamedTuple):
    """A molecule of a file, or of SMILES."""

    name: str  # no other has it
    atoms: Atoms
    label: str  # of what it is from, a file or SMILES; no other file has it
    file: Path | None
    bonds: Chem.Mol | None  # what RDKit knows of it


def read(files: Sequence[Path], smiles: Sequence[str]) -> list[Structure]:
    """All structures of files, and those that RDKit embeds for SMILES.

    Raises:
        UserError: for files that cannot be read or hold nothing, SMILES that are none, and
            molecules with a charge.
    """
    labels = _unique([*map(_stem, files), *map(_as_name, smiles)])
    found: list[Structure] = []
    for file, label in zip(files, labels):
        images = _of_sdf(file) if is_sdf(file) else _of_ase(file)
        for k, (atoms, bonds) in enumerate(images):
            name = label if len(images) == 1 else f"{label}-{k}"
            found.append(Structure(name, atoms, label, file, bonds))
    for text, label in zip(smiles, labels[len(files) :]):
        atoms, bonds = _of_smiles(text)
        found.append(Structure(label, atoms, label, None, bonds))
    if not found:
        raise UserError("there is nothing to do; give files of molecules, or --smiles")
    names = _unique([structure.name for structure in found])
    return [structure._replace(name=name) for structure, name in zip(found, names)]


def is_sdf(file: Path) -> bool:
    return unpacked(file).suffix.lower() in SDF


def unpacked(file: Path) -> Path:
    """The name of a file without .gz and the like."""
    return file.with_suffix("") if file.suffix in PACKED else file


def _stem(file: Path) -> str:
    return unpacked(file).stem


def _as_name(smiles: str) -> str:
    return "".join(c if c.isalnum() or c in "-+()=" else "_" for c in smiles)[:LONGEST]


def _unique(names: Sequence[str]) -> list[str]:
    """The names, and for those that are there before, NAME-2, NAME-3, ..."""
    taken: dict[str, int] = {}  # how often each was asked for
    for name in names:
        free = name
        while free in taken:
            taken[name] += 1
            free = f"{name}-{taken[name]}"
        taken[free] = 1
    return list(taken)


Image = tuple[Atoms, Chem.Mol | None]


def _of_ase(file: Path) -> list[Image]:
    _require(file)
    with blame(f"{file} cannot be read", Exception):  # each format has errors of its own
        images = ase.io.read(file, index=":", do_not_split_by_at_sign=True)
    if not images or not all(len(atoms) for atoms in images):
        raise UserError(f"{file} holds a structure without atoms; correct it")
    for k, atoms in enumerate(images):
        charges = [atoms.get_initial_charges().sum(), *(atoms.info.get(key, 0) for key in CHARGES)]
        _require_neutral(charges, _place(file, k, len(images)))
    return [(atoms, None) for atoms in images]


def _of_sdf(file: Path) -> list[Image]:
    _require(file)
    opened = PACKED.get(file.suffix, open)
    problem = blame(f"{file} cannot be read", *DAMAGE)
    with problem, opened(file, "rb") as packed:
        content = BytesIO(packed.read().rstrip())
    with rdBase.BlockLogs():
        molecules = list(Chem.ForwardSDMolSupplier(content, removeHs=False))
    if not molecules:
        raise UserError(f"{file} holds no molecule; correct it")
    places = [_place(file, k, len(molecules)) for k in range(len(molecules))]
    for place, molecule in zip(places, molecules):
        if molecule is None or not molecule.GetNumAtoms():
            raise UserError(f"{place} is no molecule that RDKit can read; correct it")
    return [_image(molecule, place) for place, molecule in zip(places, molecules)]


def _of_smiles(text: str) -> Image:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    if molecule is None or not molecule.GetNumAtoms():
        raise UserError(f"--smiles '{text}' is no molecule for RDKit; correct it")
    return _image(molecule, f"--smiles '{text}'")


def _place(file: Path, number: int, count: int) -> str:
    """A structure of a file, in messages."""
    return str(file) if count == 1 else f"{file}, structure {number} (from 0 on),"


def _require(file: Path) -> None:
    if file.is_dir():
        raise UserError(f"{file} is a folder; give the files in it")
    if not file.is_file():
        raise UserError(f"{file} does not exist; correct the path")


def _require_neutral(charges: Sequence, where: str) -> None:
    for charge in charges:
        with blame(f"{where} has the charge {charge!r}, which is no number", ValueError, TypeError):
            number = float(charge)
        if not abs(number) < 0.5:  # NaN, too
            raise UserError(
                f"{where} has the charge {number:+.3g}; give neutral molecules, for it would be "
                "ignored"
            )


def _image(molecule: Chem.Mol, where: str) -> Image:
    """With its hydrogens. Positions that it lacks, as in a drawing, are those of RDKit's distance
    geometry."""
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        raise UserError(f"{where} has atoms of no element; give them all")
    _require_neutral([Chem.GetFormalCharge(molecule)], where)
    with rdBase.BlockLogs():
        whole = Chem.AddHs(molecule, addCoords=True)
        if _is_drawn(molecule, whole.GetNumAtoms() - molecule.GetNumAtoms()):
            if rdDistGeom.EmbedMolecule(whole, randomSeed=SEED) != 0:
                raise UserError(f"RDKit finds no positions for {where}; give them in a file")
            _move_apart(whole)
    atoms = Atoms(
        [atom.GetAtomicNum() for atom in whole.GetAtoms()], whole.GetConformer().GetPositions()
    )
    if any(atom.GetIsotope() for atom in whole.GetAtoms()):
        atoms.set_masses([_mass(atom) for atom in whole.GetAtoms()])
    return atoms, whole


def _is_drawn(molecule: Chem.Mol, lacking: int) -> bool:
    """Whether a molecule that lacks so many atoms has no positions, or those of a drawing."""
    if not molecule.GetNumConformers():
        return True
    conformer = molecule.GetConformer()
    flat = bool((conformer.GetPositions()[:, 2] == 0).all())
    return flat and molecule.GetNumAtoms() > 1 and (lacking > 0 or not conformer.Is3D())


def _move_apart(whole: Chem.Mol) -> None:
    """Put molecules that are not bonded to each other side by side."""
    parts = [list(part) for part in Chem.GetMolFrags(whole)]
    if len(parts) == 1:
        return
    positions, end = whole.GetConformer().GetPositions(), 0.0
    for part in parts:
        positions[part, 0] += end - positions[part, 0].min()
        end = positions[part, 0].max() + APART
        positions[part, 1:] -= positions[part, 1:].mean(0)
    whole.GetConformer().SetPositions(positions)


def _mass(atom: Chem.Atom) -> float:
    """Of the isotope that is given, or else of the most common one, which spectra are of."""
    common = Chem.GetPeriodicTable().GetMostCommonIsotopeMass(atom.GetAtomicNum())
    return atom.GetMass() if atom.GetIsotope() else common
