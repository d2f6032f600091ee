"""QM9 (section 4.1) as OCP LMDBs: ocp-physmol data qm9 --help"""

import hashlib
import importlib.util
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ase.data
import ase.units
import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.errors import UserError
from ocp_physmol.files import complete_folder

SPLITS = {"train": 0.80, "val": 0.05, "test": 0.15}
BOX = 40.0  # Angstrom; any molecule of QM9 and a cutoff around it fit without seeing an image

# the files of qm9pack 1.0.3
QM9PACK_SHA256 = {
    "qm9_part1.csv": "19f0a5d595462d52cd82eef3370f3e9eb55a1f52cb14985657200349568deff3",
    "qm9_part2.csv": "2bca113fdc0b28a13563c80ed9b240e934f3da6c64c64fe74ddb4f0f36036e61",
    "qm9_part3.csv": "9c5efb5733d2af149db8d95d36ff198b4ffed12d9f7b344220a1e5877d5c6a43",
}


class Molecule(NamedTuple):
    """One entry of QM9 at its equilibrium geometry."""

    index: int  # type: ignore[assignment]  # of the GDB-9 numbering
    numbers: np.ndarray  # [n], atomic numbers
    positions: np.ndarray  # [n, 3], Angstrom
    energy: float  # U0, eV
    frequencies: np.ndarray  # [3 n - 6] or, if linear, [3 n - 5], harmonic, 1/cm, sorted

    @property
    def num_heavy(self) -> int:
        return int((self.numbers > 1).sum())


def read_qm9pack() -> Iterator[Molecule]:
    """The 130,831 molecules in the PyPI package qm9pack, the 3,054 uncharacterised ones left out.

    Raises:
        UserError: if the package is missing or one of its files is not the published one.
    """
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise UserError("the package qm9pack is not installed; pip install qm9pack==1.0.3")
    folder = Path(spec.origin).parent / "data"
    for name, expected in QM9PACK_SHA256.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise UserError(
                f"{path} is missing or damaged; pip install --force-reinstall qm9pack==1.0.3"
            )
        yield from read_csv(path)


def read_csv(path: Path) -> Iterator[Molecule]:
    """Molecules of one CSV file in qm9pack's format."""
    columns = ["Index", "Elements", "XYZ_Ang", "InternalEnergy_0K_au", "Harmonic_Freq_cmi"]
    table = pd.read_csv(path, usecols=columns)
    for index, elements, xyz, u0, frequencies in table[columns].itertuples(index=False):
        positions = np.array(_items(xyz), dtype=np.float64).reshape(-1, 3)
        yield _molecule(index, _items(elements), positions, u0, _items(frequencies))


def _items(text: str) -> list[str]:
    """The items of a (nested) list in Python's notation."""
    return re.sub(r"[\[\]' ]", "", text).split(",")


def read_archive(path: Path, excluded: frozenset[int] = frozenset()) -> Iterator[Molecule]:
    """Molecules of the original dsgdb9nsd.xyz.tar.bz2, without the `excluded` indices.

    Raises:
        UserError: if the archive is truncated or one of its files does not parse.
    """
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if not member.name.endswith(".xyz"):
                    continue
                file = archive.extractfile(member)
                if file is None:
                    raise ValueError(f"{member.name} is no file")
                molecule = _parse_xyz(file.read().decode("ascii"))
                if molecule.index not in excluded:
                    yield molecule
    except (tarfile.TarError, EOFError, OSError, ValueError, IndexError, KeyError) as e:
        raise UserError(
            f"{path} is no complete dsgdb9nsd.xyz.tar.bz2 ({e}); download it again"
        ) from e


def _parse_xyz(text: str) -> Molecule:
    """One file of the archive: atom count, properties, atoms with charges, frequencies, names."""
    lines = text.replace("*^", "e").split("\n")  # some numbers are written 1.*^-6
    properties = lines[1].split()  # "gdb", index, then 15 numbers, the eleventh of them U0
    end = 2 + int(lines[0])
    atoms = [line.split() for line in lines[2:end]]
    positions = [[float(value) for value in atom[1:4]] for atom in atoms]
    return _molecule(
        int(properties[1]),
        [atom[0] for atom in atoms],
        positions,
        float(properties[12]),
        lines[end].split(),
    )


def _molecule(
    index: int, symbols: list[str], positions: ArrayLike, u0: float, frequencies: list[str]
) -> Molecule:
    return Molecule(
        index=int(index),
        numbers=np.array([ase.data.atomic_numbers[s] for s in symbols]),
        positions=np.asarray(positions, dtype=np.float64),
        energy=float(u0) * ase.units.Hartree,
        frequencies=_vibrations(np.array(frequencies, dtype=np.float64), len(symbols)),
    )


def _vibrations(listed: np.ndarray, num_atoms: int) -> np.ndarray:
    """The frequencies of one calculation, sorted.

    About 330 entries list two calculations, one after the other. Their zero-point energy is that of
    the second, so its frequencies are taken.
    """
    for modes in (3 * num_atoms - 6, 3 * num_atoms - 5):
        if len(listed) in (modes, 2 * modes):
            return np.sort(listed[-modes:])
    raise ValueError(f"{len(listed)} frequencies of {num_atoms} atoms")


def to_data(molecule: Molecule) -> Data:
    """An entry with OCP's keys: `y` (U0, eV), `force` (zero: QM9 holds minima), `cell` a box.

    Beside these `frequencies` (1/cm), which batches hold one molecule after the other.
    """
    n = len(molecule.numbers)
    centered = molecule.positions - molecule.positions.mean(axis=0) + BOX / 2
    return Data(
        pos=torch.tensor(centered, dtype=torch.float32),
        atomic_numbers=torch.tensor(molecule.numbers, dtype=torch.long),
        natoms=n,
        cell=BOX * torch.eye(3)[None],
        tags=torch.zeros(n, dtype=torch.long),
        fixed=torch.zeros(n, dtype=torch.long),
        sid=molecule.index,
        fid=0,
        # total energies reach 1e4 eV: only double precision resolves less than a meV of them
        y=torch.tensor([molecule.energy], dtype=torch.float64),
        force=torch.zeros(n, 3),
        frequencies=torch.tensor(molecule.frequencies, dtype=torch.float32),
    )


def convert(
    molecules: Iterator[Molecule],
    output: Path,
    max_heavy_atoms: int | None = None,
    num_molecules: int | None = None,
    seed: int = 0,
    source: str = "",
) -> dict[str, int]:
    """Write the splits to `output`/{train,val,test}/data.lmdb; return the size of each.

    Args:
        max_heavy_atoms: leave out molecules with more atoms than this that are not hydrogen.
        num_molecules: take this many of them at random.
        seed: of the draw and of the split; the same seed gives the same files.
        source: noted in `output`/report.json with all other choices.
    """
    chosen = [
        m
        for m in tqdm(molecules, desc="Reading QM9", unit=" molecules", mininterval=1)
        if max_heavy_atoms is None or m.num_heavy <= max_heavy_atoms
    ]
    if len(chosen) < (num_molecules or 3):
        raise UserError(
            f"only {len(chosen)} molecules of {source} fit, {num_molecules or 3} are needed; "
            "lower --num-molecules or raise --max-heavy-atoms"
        )
    order = np.random.default_rng(seed).permutation(len(chosen))[:num_molecules]
    ends = np.rint(np.cumsum(list(SPLITS.values())) * len(order)).astype(int)
    parts = dict(zip(SPLITS, np.split(order, ends[:-1])))
    counts = {split: len(part) for split, part in parts.items()}
    report = {
        "source": source, "max_heavy_atoms": max_heavy_atoms, "num_molecules": num_molecules,
        "seed": seed, **counts,
    }  # fmt: skip
    with complete_folder(output, report) as folder:
        for split, part in parts.items():
            bar = tqdm(part, desc=f"Writing {split}", unit=" molecules", mininterval=1)
            write_lmdb(folder / split, (to_data(chosen[k]) for k in bar))
    return counts


def make(
    output: Path,
    source: str = "qm9pack",
    exclude: Path | None = None,
    max_heavy_atoms: int | None = None,
    num_molecules: int | None = None,
    seed: int = 0,
) -> dict[str, int]:
    """Write QM9 to `output` and print its sizes; the options are those of the command.

    Raises:
        UserError: if the source is missing or damaged, or `output` holds something else.
    """
    if source == "qm9pack":
        molecules = read_qm9pack()
    elif Path(source).is_file():
        molecules = read_archive(Path(source), _read_excluded(exclude))
    else:
        raise UserError(f"--source {source} does not exist; give 'qm9pack' or the archive's path")
    counts = convert(molecules, output, max_heavy_atoms, num_molecules, seed, source)
    parts = ", ".join(f"{split} {count}" for split, count in counts.items())
    print(f"Wrote {sum(counts.values())} molecules to {output}: {parts}")
    return counts


def _read_excluded(path: Path | None) -> frozenset[int]:
    """Indices in uncharacterized.txt: the first number of each line that begins with one."""
    if path is None:
        return frozenset()
    words = (line.split() for line in path.read_text().splitlines())
    return frozenset(int(w[0]) for w in words if w and w[0].isdigit())


@click.command(context_settings={"show_default": True})
@click.option(
    "--output", type=click.Path(path_type=Path), default="data/qm9", help="folder to write to"
)
@click.option(
    "--source", default="qm9pack",
    help="'qm9pack' (the PyPI package) or the path of dsgdb9nsd.xyz.tar.bz2",
)  # fmt: skip
@click.option(
    "--exclude", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="with an archive: its uncharacterized.txt, the molecules to leave out",
)  # fmt: skip
@click.option("--max-heavy-atoms", type=click.IntRange(1), help="largest molecule to take")
@click.option("--num-molecules", type=click.IntRange(1), help="take this many, at random")
@click.option("--seed", type=click.IntRange(0), default=0, help="of the draw and of the split")
def command(**options: Any) -> None:
    """Turn QM9 into OCP LMDBs: training 80 %, validation 5 %, test 15 %."""
    make(**options)
