"""Hot molecules: Langevin dynamics of many at once, and whether each keeps its bonds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from fairchem.core.datasets import data_list_collater
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.geometry import bonded
from ocp_physmol.relaxation.predictor import Predictor

FRICTION = 0.01  # 1/fs
CHECK = 10  # steps between two looks at the distances
AVERAGED = 100.0  # fs; a bond that vibrates is as long as its mean over so many
COLLAPSED = 0.6  # sums of two covalent radii; the shortest bonds, triple ones, are at 0.77
LOST = 100.0  # Angstrom, from where an atom began; slower than that, a molecule diffuses


class Fate(NamedTuple):
    """What became of a molecule."""

    end: str  # "intact", "broken" (other bonds than at the start), "collapsed" or "lost"
    picoseconds: float  # until then


def simulate(
    predictor: Predictor,
    structures: Sequence[Data],
    temperature: float,
    picoseconds: float,
    timestep: float,
    seed: int = 0,
    name: str = "",
) -> list[Fate]:
    """The fates of molecules at a `temperature` (K), with a `timestep` in fs.

    They do not feel each other. Bonds are those that `geometry.bonded` sees in the mean distances
    of AVERAGED femtoseconds, or of one look if that takes longer; a molecule collapses as soon as
    two of its atoms are closer than COLLAPSED, and is lost when its atoms fly off or are nowhere.
    """
    crowd = Crowd(predictor, structures)
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(crowd.atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        crowd.atoms, timestep * units.fs, temperature_K=temperature, friction=FRICTION / units.fs,
        fixcm=False, rng=rng,
    )  # fmt: skip
    start, sums = crowd.bonds(crowd.distances()), np.zeros(len(crowd.radii))
    window = max(1, round(AVERAGED / (timestep * CHECK)))  # looks
    looks = window * int(np.ceil(1000 * picoseconds / (timestep * CHECK * window)))
    for look in tqdm(range(1, looks + 1), f"{name} dynamics", mininterval=1):
        dynamics.run(CHECK)
        now = look * CHECK * timestep / 1000
        distances = crowd.distances()
        crowd.end("lost", crowd.gone(), now)
        crowd.end("collapsed", crowd.any_pair(distances < COLLAPSED * crowd.radii), now)
        sums = sums + distances
        if look % window == 0:
            crowd.end("broken", crowd.any_pair(crowd.bonds(sums / window) != start), now)
            sums = np.zeros_like(sums)
        if len(crowd.fates) == len(structures):
            break
    whole = Fate("intact", picoseconds)
    return [crowd.fates.get(molecule, whole) for molecule in range(len(structures))]


class Crowd:
    """Molecules that move together and do not feel each other; those whose fate is known rest."""

    def __init__(self, predictor: Predictor, structures: Sequence[Data]) -> None:
        natoms = [int(s.natoms) for s in structures]
        self.molecule = np.repeat(np.arange(len(natoms)), natoms)  # of each atom
        pairs = [np.stack(np.triu_indices(n, k=1)) for n in natoms]
        first = np.cumsum([0, *natoms[:-1]])
        self.pairs = np.concatenate([pair + f for pair, f in zip(pairs, first)], axis=1)
        numbers = torch.cat([s.atomic_numbers for s in structures]).long().numpy()
        positions = torch.cat([s.pos for s in structures]).double().numpy()
        self.atoms, self.start = Atoms(numbers, positions), positions.copy()
        self.of_pairs = numbers[self.pairs]
        self.radii = covalent_radii[self.of_pairs].sum(axis=0)
        self.fates: dict[int, Fate] = {}
        self.atoms.calc = _Forces(predictor, list(structures), self)

    def distances(self) -> np.ndarray:
        """Of all pairs of atoms in the same molecule, Angstrom."""
        i, j = self.pairs
        return np.linalg.norm(self.atoms.positions[i] - self.atoms.positions[j], axis=1)

    def bonds(self, distances: np.ndarray) -> np.ndarray:
        """Which of all pairs are bonded at these distances."""
        first, second = self.of_pairs
        return bonded(first, second, distances)

    def any_pair(self, chosen: np.ndarray) -> set[int]:
        """The molecules of the chosen pairs."""
        return set(self.molecule[self.pairs[0, chosen]].tolist())

    def gone(self) -> set[int]:
        """The molecules that have flown off, or are nowhere."""
        far = np.abs(self.atoms.positions - self.start) < LOST  # also false for NaN
        return set(self.molecule[~far.all(axis=1)].tolist())

    def end(self, how: str, molecules: set[int], now: float) -> None:
        """Note the fate of molecules that had none, and put them where they began."""
        for molecule in molecules - self.fates.keys():
            self.fates[molecule] = Fate(how, now)
        still = self.still()
        self.atoms.positions[still] = self.start[still]
        self.atoms.arrays["momenta"][still] = 0.0

    def still(self) -> np.ndarray:
        """Whether each atom [N] is of a molecule that moves no more."""
        return np.isin(self.molecule, list(self.fates))


class _Forces(Calculator):
    """Forces of a model on a `Crowd`, all in one batch."""

    def __init__(self, predictor: Predictor, structures: list[Data], crowd: Crowd) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces"]
        self.predictor, self.crowd = predictor, crowd
        self.batch = data_list_collater(structures, otf_graph=True).to(predictor.device)

    def calculate(self, atoms=None, properties=("forces",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        crowd = self.crowd
        away = np.isin(crowd.molecule, list(crowd.gone()))  # models refuse them
        positions = np.where(away[:, None], crowd.start, atoms.positions)
        batch = self.batch.clone()
        batch.pos = torch.tensor(positions, dtype=torch.float32, device=self.predictor.device)
        out = self.predictor.predict(batch)
        forces = out["forces"].double().cpu().numpy()
        still = away | crowd.still()
        self.results = {
            "energy": float(out["energy"].sum()), "forces": np.where(still[:, None], 0.0, forces)
        }  # fmt: skip
