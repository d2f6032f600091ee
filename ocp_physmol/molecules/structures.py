"""Molecules of files and of SMILES."""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

from ocp_physmol.errors import UserError, blame
from ocp_physmol.geometry import is_neutral, stated_charges

SDF = (".sdf", ".mol")  # read by RDKit, which keeps their bonds
PACKED: dict[str, Callable] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DAMAGE = (OSError, EOFError, lzma.LZMAError, zlib.error)  # of packed files
# what the comment of an XYZ file says of a charge: its name and value, or charge and multiplicity
STATED = re.compile(r"charge['\"]?\s*[:=]\s*([+-]?[\d.]+)|^\s*([+-]?\d+)\s+\d+\s*$", re.IGNORECASE)
APART = 3.0  # Angstrom, between molecules of one SMILES
ATTEMPTS = 50  # to embed a molecule with all that RDKit knows
SEED = 0  # of the embedding: the same molecule begins at the same place
LONGEST = 60  # characters of SMILES in a name


class Structure(NamedTuple):
    """A molecule of a file, or of SMILES."""

    name: str  # no other has it
    atoms: Atoms
    label: str  # of what it is from, a file or SMILES; no other file has it
    file: Path | None
    bonds: Chem.Mol | None  # what RDKit knows of it


def read(
    files: Sequence[Path], smiles: Sequence[str]
) -> tuple[list[Structure], list[tuple[Structure, UserError]]]:
    """All structures of files, and those that RDKit embeds for SMILES; and those that are unfit.

    What has a charge is unfit, or atoms of no element, or no place that RDKit finds; of these the
    atoms are left out.

    Raises:
        UserError: for files that cannot be read or hold nothing, SMILES that are none, and where no
            structure is fit.
    """
    labels = _unique([*map(_stem, files), *map(_of_text, smiles)])
    found: list[tuple[str, str, Path | None, Image | UserError]] = []
    for file, label in zip(files, labels):
        images = _of_sdf(file) if is_sdf(file) else _of_ase(file)
        for k, image in enumerate(images):
            title = "" if isinstance(image, UserError) else _title(image[1])
            name = label if len(images) == 1 else title or f"{label}-{k}"
            found.append((name, label, file, image))
    for text, label in zip(smiles, labels[len(files) :]):
        found.append((label, label, None, _of_smiles(text)))
    if not found:
        raise UserError("there is nothing to do; give files of molecules, or --smiles")
    fit, unfit = [], []
    names = _unique([name for name, *_ in found])
    for name, (_, label, origin, image) in zip(names, found):
        if isinstance(image, UserError):
            unfit.append((Structure(name, Atoms(), label, origin, None), image))
        else:
            fit.append(Structure(name, image[0], label, origin, image[1]))
    if not fit:
        raise unfit[0][1]
    return fit, unfit


def is_sdf(file: Path) -> bool:
    return unpacked(file).suffix.lower() in SDF


def unpacked(file: Path) -> Path:
    """The name of a file without .gz and the like."""
    return file.with_suffix("") if file.suffix in PACKED else file


def _stem(file: Path) -> str:
    return unpacked(file).stem


def _as_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-+()=" else "_" for c in text)[:LONGEST]


def _of_text(smiles: str) -> str:
    """A name of a file that other SMILES do not have."""
    name = _as_name(smiles)
    return name if name == smiles else f"{name}-{sha256(smiles.encode()).hexdigest()[:4]}"


def _title(bonds: Chem.Mol | None) -> str:
    """Of a record of SDF."""
    if bonds is None or not bonds.HasProp("_Name"):
        return ""
    return _as_name(bonds.GetProp("_Name").strip())


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


def _of_ase(file: Path) -> list[Image | UserError]:
    _require(file)
    with blame(f"{file} cannot be read", Exception):  # each format has errors of its own
        try:
            images = ase.io.read(file, index=":", do_not_split_by_at_sign=True)
        except UnknownFileTypeError as e:
            cure = "convert it to XYZ or SDF, or give SMILES with --smiles"
            raise ValueError(f"ASE knows no such format; {cure}") from e
        except KeyError as e:
            raise ValueError(f"{e} is no symbol of an element; isotopes are for SDF") from e
    if not images or not all(len(atoms) for atoms in images):
        raise UserError(f"{file} holds a structure without atoms; correct it")
    found: list[Image | UserError] = []
    for k, atoms in enumerate(images):
        charges = [*stated_charges(atoms), *(_in_comment(file) if k == 0 else [])]
        problem = _charged(charges, _place(file, k, len(images)))
        found.append(problem or (atoms, None))
    return found


def _in_comment(file: Path) -> list[str]:
    """The charge in the comment of an XYZ file, as several programs write it."""
    if unpacked(file).suffix.lower() not in (".xyz", ".extxyz"):
        return []
    with PACKED.get(file.suffix, open)(file, "rt", errors="replace") as content:
        content.readline()
        found = STATED.search(content.readline().rstrip("\n"))
    return [found[1] or found[2]] if found else []


def _of_sdf(file: Path) -> list[Image | UserError]:
    _require(file)
    opened = PACKED.get(file.suffix, open)
    problem = blame(f"{file} cannot be read", *DAMAGE)
    with problem, opened(file, "rb") as packed:
        content = BytesIO(packed.read().rstrip())
    with rdBase.BlockLogs():
        molecules = list(Chem.ForwardSDMolSupplier(content, removeHs=False))
    if not molecules:
        raise UserError(f"{file} holds no molecule; correct it")
    return [_image(m, _place(file, k, len(molecules))) for k, m in enumerate(molecules)]


def _of_smiles(text: str) -> Image | UserError:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    if molecule is None or not molecule.GetNumAtoms():
        raise UserError(f"--smiles '{text}' is no molecule for RDKit; correct it")
    image = _image(molecule, f"--smiles '{text}'")
    if not isinstance(image, UserError):
        image[0].info["smiles"] = text
    return image


def _place(file: Path, number: int, count: int) -> str:
    """A structure of a file, in messages."""
    return str(file) if count == 1 else f"{file}, structure {number} (from 0 on),"


def _require(file: Path) -> None:
    if file.is_dir():
        raise UserError(f"{file} is a folder; give the files in it")
    if not file.is_file():
        raise UserError(f"{file} does not exist; correct the path")


def _charged(charges: Sequence, where: str) -> UserError | None:
    """What is wrong with a charge; None without one."""
    for charge in charges:
        if not is_neutral(charge):
            cure = "give neutral molecules, for it would be ignored"
            return UserError(f"{where} has the charge {charge}; {cure}")
    return None


def _image(molecule: Chem.Mol | None, where: str) -> Image | UserError:
    """With its hydrogens. Positions that it lacks, as in a drawing, are those of RDKit's distance
    geometry. Or what is wrong with a molecule."""
    if molecule is None or not molecule.GetNumAtoms():
        return UserError(f"{where} is no molecule that RDKit can read; correct it")
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        return UserError(f"{where} has atoms of no element; give them all")
    if problem := _charged([Chem.GetFormalCharge(molecule)], where):
        return problem
    with rdBase.BlockLogs():
        whole = Chem.AddHs(molecule, addCoords=True)
        if _is_drawn(molecule, whole.GetNumAtoms() - molecule.GetNumAtoms()):
            if not _is_embedded(whole):
                return UserError(f"RDKit finds no positions for {where}; give them in a file")
            _move_apart(whole)
    atoms = Atoms(
        [atom.GetAtomicNum() for atom in whole.GetAtoms()], whole.GetConformer().GetPositions()
    )
    if any(atom.GetIsotope() for atom in whole.GetAtoms()):
        atoms.set_masses([_mass(atom) for atom in whole.GetAtoms()])
    return atoms, whole


def _is_embedded(whole: Chem.Mol) -> bool:
    """Give a molecule positions, of cages without RDKit's knowledge of torsions and rings."""
    if rdDistGeom.EmbedMolecule(whole, maxAttempts=ATTEMPTS, randomSeed=SEED) == 0:
        return True
    status = rdDistGeom.EmbedMolecule(
        whole,
        randomSeed=SEED,
        useRandomCoords=True,
        useBasicKnowledge=False,
        useExpTorsionAnglePrefs=False,
    )
    return status == 0


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
