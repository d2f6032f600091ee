"""What waiting for an answer takes: python benchmarks/latency.py --help

The import in a new process, one gradient of one molecule, and relaxations of many molecules.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tblite.ase import TBLite  # before torch, which brings an older libgomp

# isort: split
import click

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from fairchem.core import OCPCalculator
from tabulate import tabulate
from tqdm import tqdm

from ocp_physmol.calculators.mmff94 import MMFF94
from ocp_physmol.errors import exit_on_user_error
from ocp_physmol.molecules.methods import Method, open_methods
from ocp_physmol.molecules.relaxation import relax
from ocp_physmol.option_types import COUNT, PATH
from ocp_physmol.potential.calculator import PhysMolCalculator
from ocp_physmol.potential.export import export
from ocp_physmol.relaxation import batched
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

IMPORTS = {
    "PhysMolCalculator": "from ocp_physmol import PhysMolCalculator",
    "GFN2-xTB": "from tblite.ase import TBLite",
    "MMFF94": "from rdkit.Chem import rdForceFieldHelpers",
    "OCPCalculator": "import ocp_physmol.plugin; from fairchem.core import OCPCalculator",
}
NOISE = 0.1  # Angstrom, before relaxations
FMAX, STEPS = 0.01, 500


def seconds_of(function: Callable, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def importing(statement: str, rounds: int) -> float:
    """Seconds of an import, without those of Python itself; the fastest of several."""
    times = [
        [seconds_of(subprocess.check_call, [sys.executable, "-c", code])
         for code in ("import numpy, ase", f"import numpy, ase; {statement}")]
        for _ in range(rounds)
    ]  # fmt: skip
    bare, whole = np.min(times, axis=0)
    return whole - bare


def milliseconds(calculator: Calculator, structures: list[Atoms], rounds: int) -> float:
    """The median over rounds and the structures that it takes, which have moved since."""
    times, random = [], np.random.default_rng(0)
    for number in range(rounds + 1):  # the first is not counted
        for atoms in structures:
            moved = atoms.copy()
            moved.positions += 0.01 * random.standard_normal(moved.positions.shape)
            started = time.perf_counter()
            with suppress(CalculatorSetupError):  # MMFF94's, for bonds that it does not know
                calculator.calculate(moved, ["energy", "forces"], all_changes)
                if number > 0:
                    times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def relaxing(ways: dict[str, Method], predictor: Predictor, entries: list) -> dict[str, float]:
    """Seconds of relaxations of all molecules at once."""
    random = np.random.default_rng(0)
    starts = [
        e.pos.numpy() + NOISE * random.standard_normal(e.pos.shape).astype("f4") for e in entries
    ]
    molecules = [Atoms(e.atomic_numbers.int().numpy(), at) for e, at in zip(entries, starts)]
    descent = batched.Descent(steps=STEPS, fmax=FMAX)
    found = {
        "fairchem's, with the checkpoint": seconds_of(
            batched.relax, predictor, entries, starts, descent, 128, "fairchem's"
        )
    }
    for name, method in ways.items():
        method.answer(molecules[:64])  # starts its processes, loads what is compiled
        found[name] = seconds_of(relax, method, molecules, FMAX, STEPS, name)
    return found


@click.command(context_settings={"show_default": True})
@click.option("--checkpoint", type=PATH, required=True, help="Of a model with the readout atom.")
@click.option("--data", type=PATH, required=True, help="An LMDB of molecules.")
@click.option("--molecules", type=COUNT, default=50, help="Taken evenly from it, for gradients.")
@click.option("--rounds", type=COUNT, default=5)
@click.option("--relaxations", type=COUNT, default=100, help="Molecules that are relaxed.")
def main(checkpoint: Path, data: Path, molecules: int, rounds: int, relaxations: int) -> None:
    """On one core with OMP_NUM_THREADS=1."""
    rows = [[name, importing(code, rounds)] for name, code in IMPORTS.items()]
    print(tabulate(rows, ["import", "s"], floatfmt=".2f"))

    dataset = open_labelled(data)
    chosen = [batched.to_atoms(e) for e in evenly(dataset, molecules)]
    for atoms in chosen:
        atoms.pbc = False
    with tempfile.TemporaryDirectory() as folder:
        export(checkpoint, Path(folder, "model"))
        ours = PhysMolCalculator(Path(folder, "model"))
        three = PhysMolCalculator([Path(folder, "model")] * 3)
    calculators = {
        "OCPCalculator": OCPCalculator(checkpoint_path=str(checkpoint), seed=0),
        "PhysMolCalculator": ours,
        "PhysMolCalculator, three models": three,
        "GFN2-xTB": TBLite(method="GFN2-xTB", verbosity=0, cache_api=False),
        "MMFF94": MMFF94(),
    }
    print(f"{len(chosen)} molecules, {np.mean([len(a) for a in chosen]):.0f} atoms on average")
    rows = [
        [name, milliseconds(calculator, chosen, rounds)]
        for name, calculator in tqdm(calculators.items(), desc="Gradients")
    ]
    print(tabulate(rows, ["a gradient", "ms"], floatfmt=".2f"))

    entries = evenly(dataset, relaxations)
    ways = {
        "PhysMolCalculator": ours,
        "three models": three,
        **open_methods(["gfn2", "mmff94"], []),
    }
    found = relaxing(ways, Predictor.open(checkpoint), entries)
    print(tabulate(list(found.items()), [f"{len(entries)} relaxations", "s"], floatfmt=".1f"))


def evenly(dataset, count: int) -> list:
    places = np.linspace(0, len(dataset) - 1, min(count, len(dataset)), dtype=int)
    return [dataset[int(k)] for k in places]


if __name__ == "__main__":
    with exit_on_user_error():
        main()
