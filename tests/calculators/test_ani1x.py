"""ANI-1x, where torchani is installed: forces are its derivative; other elements are refused."""

import importlib.util

import pytest
from ase.build import molecule

from ocp_physmol.calculators.pool import CalculatorPool, Refusal, Source
from ocp_physmol.errors import UserError

INSTALLED = importlib.util.find_spec("torchani") is not None


@pytest.mark.skipif(not INSTALLED, reason="torchani is not installed")
def test_forces_and_refusals():
    atoms, step = molecule("CH3CH2OH"), 1e-4
    atoms.rattle(0.03, seed=0)
    forward, backward = atoms.positions.copy(), atoms.positions.copy()
    forward[0, 0] += step
    backward[0, 0] -= step
    structures = [
        {"numbers": atoms.numbers, "positions": p} for p in (atoms.positions, forward, backward)
    ]
    chloride = molecule("CH3Cl")
    structures.append({"numbers": chloride.numbers, "positions": chloride.positions})
    with CalculatorPool(Source.named("ani1x"), 1) as pool:
        (_, forces), (up, _), (down, _), refused = pool.evaluate(structures)
    assert forces[0, 0] == pytest.approx((down - up) / (2 * step), abs=1e-5)
    assert isinstance(refused, Refusal) and refused == "ANI-1x does not know Cl"


@pytest.mark.skipif(INSTALLED, reason="torchani is installed")
def test_what_it_needs_is_said():
    with (
        CalculatorPool(Source.named("ani1x"), 1) as pool,
        pytest.raises(UserError, match=r"ani1x:ANI1x cannot be loaded .*; pip install torchani"),
    ):
        next(pool.evaluate([{"numbers": [1], "positions": [[0, 0, 0]]}]))
