"""Molecules of files and of SMILES."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import ase.io
from ase import Atoms
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

from ocp_physmol.errors import UserError, blame

SDF = (".sdf", ".mol")  # read by RDKit, which keeps their bonds
PACKED = (".gz", ".bz2", ".xz")  # which ASE unpacks
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
    return file.suffix.lower() in SDF


def _stem(file: Path) -> str:
    return Path(file.stem).stem if file.suffix in PACKED else file.stem


def _as_name(smiles: str) -> str:
    return "".join(c if c.isalnum() or c in "-+()=" else "_" for c in smiles)[:LONGEST]


def _unique(names: Sequence[str]) -> list[str]:
    """The names, and for those that are there before, NAME-2, NAME-3, ..."""
    taken: list[str] = []
    for name in names:
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken.append(free)
    return taken


Image = tuple[Atoms, Chem.Mol | None]


def _of_ase(file: Path) -> list[Image]:
    _require(file)
    with blame(f"{file} cannot be read", Exception):  # each format has errors of its own
        images = ase.io.read(file, index=":", do_not_split_by_at_sign=True)
    if not images or not all(len(atoms) for atoms in images):
        raise UserError(f"{file} holds a structure without atoms; correct it")
    for atoms in images:
        _require_neutral(round(atoms.get_initial_charges().sum()), str(file))
    return [(atoms, None) for atoms in images]


def _of_sdf(file: Path) -> list[Image]:
    _require(file)
    molecules: list[Chem.Mol | None] = []
    with rdBase.BlockLogs(), suppress(OSError):  # of an empty file
        molecules = list(Chem.SDMolSupplier(str(file), removeHs=False))
    whole = [m for m in molecules if m is not None and m.GetNumAtoms()]
    if not whole or len(whole) < len(molecules):
        raise UserError(f"{file} holds a molecule that RDKit cannot read; correct it")
    return [_image(molecule, str(file)) for molecule in whole]


def _of_smiles(text: str) -> Image:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    if molecule is None or not molecule.GetNumAtoms():
        raise UserError(f"--smiles '{text}' is no molecule for RDKit; correct it")
    return _image(molecule, f"--smiles '{text}'")


def _require(file: Path) -> None:
    if not file.is_file():
        raise UserError(f"{file} does not exist; correct the path")


def _require_neutral(charge: int, where: str) -> None:
    if charge:
        raise UserError(
            f"{where} has the charge {charge:+d}; give neutral molecules, for it would be ignored"
        )


def _image(molecule: Chem.Mol, where: str) -> Image:
    """With its hydrogens. Positions that it lacks, as in a drawing, are those of RDKit's distance
    geometry."""
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        raise UserError(f"{where} has atoms of no element; give them all")
    _require_neutral(Chem.GetFormalCharge(molecule), where)
    with rdBase.BlockLogs():
        whole = Chem.AddHs(molecule, addCoords=True)
        lacks_atoms = whole.GetNumAtoms() > molecule.GetNumAtoms()
        to_place = not molecule.GetNumConformers() or (lacks_atoms and _is_flat(molecule))
        if to_place and rdDistGeom.EmbedMolecule(whole, randomSeed=SEED) != 0:
            raise UserError(f"RDKit finds no positions for {where}; give them in a file")
    atoms = Atoms(
        [atom.GetAtomicNum() for atom in whole.GetAtoms()], whole.GetConformer().GetPositions()
    )
    if any(atom.GetIsotope() for atom in whole.GetAtoms()):
        atoms.set_masses([atom.GetMass() for atom in whole.GetAtoms()])
    return atoms, whole


def _is_flat(molecule: Chem.Mol) -> bool:
    return bool((molecule.GetConformer().GetPositions()[:, 2] == 0).all())
