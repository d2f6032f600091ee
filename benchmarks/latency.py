"""One gradient of one molecule: python benchmarks/latency.py --help"""

import statistics
import tempfile
import time
from pathlib import Path

from tblite.ase import TBLite  # before torch, which brings an older libgomp

# isort: split
import click

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from fairchem.core import OCPCalculator
from tqdm import tqdm

from ocp_physmol.option_types import COUNT, PATH
from ocp_physmol.potential.calculator import PhysMolCalculator
from ocp_physmol.potential.export import export
from ocp_physmol.relaxation.batched import to_atoms
from ocp_physmol.relaxation.predictor import open_labelled


def milliseconds(calculator, structures: list[Atoms], rounds: int) -> float:
    """The median over structures and rounds, of a structure that has moved since."""
    times, random = [], np.random.default_rng(0)
    for _ in range(rounds + 1):  # the first is not counted
        for atoms in structures:
            moved = atoms.copy()
            moved.positions += 0.01 * random.standard_normal(moved.positions.shape)
            started = time.perf_counter()
            calculator.calculate(moved, ["energy", "forces"], all_changes)
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[len(structures) :])


@click.command(context_settings={"show_default": True})
@click.option("--checkpoint", type=PATH, required=True, help="Of a model with the readout atom.")
@click.option("--data", type=PATH, required=True, help="An LMDB of molecules.")
@click.option("--molecules", type=COUNT, default=50, help="Taken evenly from it.")
@click.option("--rounds", type=COUNT, default=5)
def main(checkpoint: Path, data: Path, molecules: int, rounds: int) -> None:
    """Milliseconds of a gradient by each way to compute one; on one core with OMP_NUM_THREADS=1."""
    entries = open_labelled(data)
    count = min(molecules, len(entries))
    chosen = [to_atoms(entries[k]) for k in np.linspace(0, len(entries) - 1, count, dtype=int)]
    with tempfile.TemporaryDirectory() as folder:
        export(checkpoint, Path(folder, "model"))
        ours = PhysMolCalculator(Path(folder, "model"))
        three = PhysMolCalculator([Path(folder, "model")] * 3)
    ways = {
        "OCPCalculator": OCPCalculator(checkpoint_path=str(checkpoint), seed=0),
        "PhysMolCalculator": ours,
        "PhysMolCalculator, three models": three,
        "GFN2-xTB": TBLite(method="GFN2-xTB", verbosity=0, cache_api=False),
    }
    for atoms in chosen:
        atoms.pbc = False
    print(f"{len(chosen)} molecules, {np.mean([len(a) for a in chosen]):.0f} atoms on average")
    for name, calculator in tqdm(ways.items(), desc="Timing"):
        tqdm.write(f"{name}: {milliseconds(calculator, chosen, rounds):.2f} ms")


if __name__ == "__main__":
    main()
