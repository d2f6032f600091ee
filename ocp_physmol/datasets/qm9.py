"""QM9 (section 4.1) as OCP LMDBs: ocp-physmol data qm9 --help"""

import importlib.util
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

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
from ocp_physmol.errors import UserError, blame
from ocp_physmol.files import checksum, complete_folder
from ocp_physmol.option_types import COUNT, PATH, SEED

SPLITS = {"train": 0.80, "val": 0.05, "test": 0.15}
LARGEST = 1 << 16  # bytes of a file in the archive; a molecule of QM9 has 4 kB at most
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


def read(source: str, exclude: Path | None = None) -> Iterator[Molecule]:
    """Molecules of qm9pack, a CSV file like it, or the archive. UserError if missing or damaged."""
    if exclude and (source == "qm9pack" or source.endswith(".csv")):
        raise UserError(f"--exclude {exclude} is for the archive alone; leave it out")
    if source == "qm9pack":
        return read_qm9pack()
    if not Path(source).is_file():
        raise UserError(f"--source {source} does not exist; give 'qm9pack' or the archive's path")
    if source.endswith(".csv"):
        return read_csv(Path(source))
    return read_archive(Path(source), exclude)


def read_qm9pack() -> Iterator[Molecule]:
    """The 130,831 molecules in the PyPI package qm9pack, without the 3,054 uncharacterised ones."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise UserError("the package qm9pack is not installed; pip install qm9pack==1.0.3")
    for name, expected in QM9PACK_SHA256.items():
        path = Path(spec.origin).parent / "data" / name
        if not path.is_file() or checksum(path) != expected:
            raise UserError(
                f"{path} is missing or damaged; pip install --force-reinstall qm9pack==1.0.3"
            )
        yield from read_csv(path)


def read_csv(path: Path) -> Iterator[Molecule]:
    """Molecules of one CSV file in qm9pack's format; a UserError if it is another or damaged."""
    columns = ["Index", "Elements", "XYZ_Ang", "InternalEnergy_0K_au", "Harmonic_Freq_cmi"]
    with blame(f"{path} is no complete CSV file of QM9", ValueError, TypeError, KeyError):
        table = pd.read_csv(path, usecols=columns)[columns]
        for index, symbols, positions, u0, frequencies in table.itertuples(index=False):
            yield _molecule(index, _items(symbols), _items(positions), u0, _items(frequencies))


def _items(text: str) -> list[str]:
    """The items of a (nested) list in Python's notation."""
    return re.sub(r"[\[\]' ]", "", text).split(",")


def read_archive(path: Path, exclude: Path | None = None) -> Iterator[Molecule]:
    """Molecules of dsgdb9nsd.xyz.tar.bz2, without the indices in `exclude`, uncharacterized.txt."""
    excluded: set[int] = set()
    if exclude:
        listed = re.findall(r"^\s*(\d+)(?!\S)", exclude.read_text(), re.MULTILINE)
        if not listed:
            raise UserError(f"--exclude {exclude} lists no molecule; give uncharacterized.txt")
        excluded = set(map(int, listed))
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if member.name.endswith(".xyz") and (file := archive.extractfile(member)):
                    molecule = _parse_xyz(file.read(LARGEST).decode("ascii"))
                    if molecule.index not in excluded:
                        yield molecule
    except (tarfile.TarError, EOFError, OSError, ValueError, IndexError, KeyError) as e:
        raise UserError(f"{path} is no complete archive of QM9 ({e}); download it again") from e


def _parse_xyz(text: str) -> Molecule:
    """One file of the archive: atom count, properties, atoms with charges, frequencies, names."""
    lines = text.replace("*^", "e").split("\n")  # some numbers are written 1.*^-6
    properties = lines[1].split()  # "gdb", index, then 15 numbers, the eleventh of them U0
    end = 2 + int(lines[0])
    atoms = np.array([line.split() for line in lines[2:end]])
    index, u0, frequencies = int(properties[1]), float(properties[12]), lines[end].split()
    return _molecule(index, atoms[:, 0], atoms[:, 1:4], u0, frequencies)


def _molecule(
    index: int | str,
    symbols: Iterable[str],
    positions: ArrayLike,
    u0: float,
    frequencies: ArrayLike,
) -> Molecule:
    """From text or numbers in QM9's units; a ValueError if they are none.

    About 330 entries list the frequencies of two calculations, one after the other. Their
    zero-point energy is that of the second, so its frequencies are taken.
    """
    numbers = np.array([ase.data.atomic_numbers[symbol] for symbol in symbols])
    positions = np.array(positions, dtype=np.float64).reshape(-1, 3)
    listed = np.array(frequencies, dtype=np.float64)
    if not all(np.isfinite(values).all() for values in (positions, listed, u0)):
        raise ValueError(f"molecule {index} holds NaN or infinity")
    for modes in (3 * len(numbers) - 6, 3 * len(numbers) - 5):
        if len(listed) in (modes, 2 * modes):
            energy, vibrations = u0 * ase.units.Hartree, np.sort(listed[-modes:])
            return Molecule(int(index), numbers, positions, energy, vibrations)
    raise ValueError(f"molecule {index} has {len(listed)} frequencies of {len(numbers)} atoms")


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


@click.option("--output", type=PATH, default="data/qm9", help="folder")
@click.option(
    "--source", default="qm9pack",
    help="'qm9pack' (the PyPI package), or the path of dsgdb9nsd.xyz.tar.bz2 or of a CSV file "
    "like the package's",
)  # fmt: skip
@click.option(
    "--exclude", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="with an archive: its uncharacterized.txt, the molecules to leave out",
)  # fmt: skip
@click.option("--max-heavy-atoms", type=COUNT, help="largest molecule to take")
@click.option("--num-molecules", type=click.IntRange(min=3), help="take this many, at random")
@click.option("--seed", type=SEED, default=0, help="of the draw and of the split")
def make(
    output: Path,
    source: str = "qm9pack",
    exclude: Path | None = None,
    max_heavy_atoms: int | None = None,
    num_molecules: int | None = None,
    seed: int = 0,
) -> dict[str, int]:
    """Turn QM9 into OCP LMDBs: training 80 %, validation 5 %, test 15 %."""
    limit = max_heavy_atoms or np.inf
    bar = tqdm(read(source, exclude), "Reading QM9", unit=" molecules", mininterval=1)
    chosen = [molecule for molecule in bar if (molecule.numbers > 1).sum() <= limit]
    (index, times), *_ = Counter(molecule.index for molecule in chosen).most_common(1) or [(0, 0)]
    if times > 1:
        raise UserError(
            f"{source} holds {times} molecules with the index {index}; remove all but one"
        )
    if len(chosen) < (num_molecules or 3):
        raise UserError(
            f"only {len(chosen)} molecules of {source} fit, {num_molecules or 3} are needed; "
            "lower --num-molecules or raise --max-heavy-atoms"
        )
    order = np.random.default_rng(seed).permutation(len(chosen))[:num_molecules]
    ends = np.rint(np.cumsum(list(SPLITS.values())) * len(order)).astype(int)
    val, test = np.diff(ends).clip(min=1)  # no split is empty
    parts = dict(zip(SPLITS, np.split(order, [len(order) - val - test, len(order) - test])))
    counts = {split: len(part) for split, part in parts.items()}
    report = {
        "source": source, "max_heavy_atoms": max_heavy_atoms, "num_molecules": num_molecules,
        "seed": seed, **counts,
    }  # fmt: skip
    with complete_folder(output, report) as folder:
        for split, part in parts.items():
            drawn = tqdm(part, f"Writing {split}", unit=" molecules", mininterval=1)
            write_lmdb(folder / split, (to_data(chosen[k]) for k in drawn))
    sizes = ", ".join(f"{split} {count}" for split, count in counts.items())
    print(f"Wrote {len(order)} molecules to {output}: {sizes}")
    return counts


command = click.command(context_settings={"show_default": True})(make)
