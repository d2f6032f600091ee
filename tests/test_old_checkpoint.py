"""A checkpoint of version 0.2 opens in every later one, with the energies and forces it had then.

It was trained for 120 s with `configs/qm9/recommended.yml` and hidden_channels 32, num_layers 2,
num_rbf 16. The file stays as it is; later formats get files of their own.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import REPOSITORY
from fairchem.core import OCPCalculator

CHECKPOINT = REPOSITORY / "tests/data/physmol_0.2.pt"
PINNED = {
    "CH4": [-1101.8242737092078, 2.4315245151519775],
    "H2O": [-2078.452386379242, 7.0491461753845215],
    "CH3CH2OH": [-4216.575951576233, 9.069796562194824],
    "C6H6": [-6316.211325287819, 10.454304695129395],
    "HCN": [-2541.5229019522667, 13.917030334472656],
}


@pytest.fixture(scope="module")
def calculator():
    return OCPCalculator(checkpoint_path=str(CHECKPOINT), cpu=True, seed=0)


def predicted(name: str, calculator) -> list[float]:
    """Energy (eV) and the norm of the forces (eV/Angstrom) of a displaced molecule."""
    atoms = molecule(name)
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator
    return [atoms.get_potential_energy(), float(np.linalg.norm(atoms.get_forces()))]


@pytest.mark.parametrize("name", PINNED)
def test_energies_and_forces_are_those_of_then(name, calculator):
    assert predicted(name, calculator) == pytest.approx(PINNED[name], abs=2e-3)


def test_it_holds_nothing_but_tensors_and_plain_values():
    torch.load(CHECKPOINT, weights_only=True)


@pytest.mark.slow
def test_it_opens_in_a_process_that_has_imported_nothing_else():
    code = (
        "import ocp_physmol.plugin; from fairchem.core import OCPCalculator; "
        f"OCPCalculator(checkpoint_path={str(CHECKPOINT)!r}, cpu=True, seed=0)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd="/")
