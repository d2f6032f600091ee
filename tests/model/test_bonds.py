"""What is said of bonds before any training, against molecules whose bonds are known."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from conftest import small_model, to_batch

from ocp_physmol.geometry import bonds as bonded_pairs
from ocp_physmol.model.bonds import BROKEN, INTACT, NONMETALS, BondRules
from ocp_physmol.model.config import LONGEST_BOND
from ocp_physmol.model.elements import MASK_TYPE
from ocp_physmol.model.energy import BondReadout, pair_energy


def bonds_of(atoms: Atoms, types=None):
    """`Bonds` of an isolated structure, in double precision."""
    i, j = np.triu_indices(len(atoms), k=1)
    distance = torch.tensor(atoms.get_all_distances()[i, j])
    numbers = torch.tensor(atoms.numbers if types is None else types)
    return BondRules().double()(numbers, torch.tensor(np.stack([i, j])), distance)


def values(atoms: Atoms, elements: str, key: str) -> np.ndarray:
    """A property of all bonds between two elements, as in "CO"."""
    found = bonds_of(atoms)
    pairs = ["".join(sorted(atoms.symbols[p])) for p in found.pair_index.T.numpy()]
    return getattr(found, key).numpy()[[p == "".join(sorted(elements)) for p in pairs]]


@pytest.mark.parametrize(
    "name, elements, order",
    [
        ("C2H6", "CC", 1), ("C2H4", "CC", 2), ("C2H2", "CC", 3), ("C6H6", "CC", 1.5),
        ("CH3OH", "CO", 1), ("H2CO", "CO", 2), ("HCN", "CN", 3), ("N2", "NN", 3), ("CO2", "CO", 2),
        ("H3CNH2", "CN", 1), ("C2H6", "CH", 1), ("H2O", "OH", 1), ("H2", "HH", 1),
    ],
)  # fmt: skip
def test_orders(name, elements, order):
    np.testing.assert_allclose(values(molecule(name), elements, "order"), order, atol=0.12)


def test_the_bonds_are_those_of_the_geometry():
    for name in ("C6H6", "CH3CONH2", "CH3CH2OH", "cyclobutane", "SiH4", "CH3Cl", "C5H5N"):
        atoms = molecule(name)
        found = bonds_of(atoms)
        whole = {tuple(p) for p in found.pair_index.T[found.share > 0.9].tolist()}
        assert whole == bonded_pairs(atoms.numbers, atoms.positions)


def test_orders_add_up_to_the_valences():
    for name in ("C6H6", "C5H5N", "CH3CONH2", "C2H2", "CH3COCH3", "CH3CH2OH", "C3H4_C3v"):
        atoms = molecule(name)
        found, used = bonds_of(atoms), np.zeros(len(atoms))
        for (i, j), order in zip(found.pair_index.T.tolist(), (found.order * found.share).tolist()):
            used[i] += order
            used[j] += order
        np.testing.assert_allclose(used, [NONMETALS[z][0] for z in atoms.numbers], atol=0.3)


def test_depths_add_up_to_a_sum_over_elements():
    """Isomers have the same, so that element references take all of it."""
    for isomers in (["CH3CH2OH", "CH3OCH3"], ["C3H4_C3v", "C3H4_C2v", "C3H4_D2d"]):
        for name in isomers:
            atoms = molecule(name)
            found = bonds_of(atoms)
            depths = float((found.depth * found.share).sum())
            expected = sum(NONMETALS[z][0] * NONMETALS[z][4] for z in atoms.numbers)
            assert depths == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    "name, elements, length",
    [
        ("C2H6", "CC", 1.53), ("C2H4", "CC", 1.33), ("C2H2", "CC", 1.20), ("C6H6", "CC", 1.395),
        ("CH3OH", "CO", 1.42), ("H2CO", "CO", 1.20), ("HCN", "CN", 1.155), ("H3CNH2", "CN", 1.465),
        ("CH4", "CH", 1.09), ("H2O", "OH", 0.96), ("NH3", "NH", 1.015),
    ],
)  # fmt: skip
def test_lengths(name, elements, length):
    found = values(molecule(name), elements, "length")
    np.testing.assert_allclose(found, length, atol=0.05)


def test_depths_and_stiffness_are_in_the_order_of_bond_energies():
    ethane, ethene, ethyne = (molecule(name) for name in ("C2H6", "C2H4", "C2H2"))
    for key in ("depth", "stiffness"):
        single, double, triple = (values(a, "CC", key)[0] for a in (ethane, ethene, ethyne))
        assert single < double < triple
    one = {
        "OH": values(molecule("CH3OH"), "OH", "depth"), "CH": values(ethane, "CH", "depth"),
        "NH": values(molecule("H3CNH2"), "NH", "depth"),
        "CC": values(ethane, "CC", "depth"), "CN": values(molecule("H3CNH2"), "CN", "depth"),
    }  # fmt: skip
    assert sorted(one, key=lambda e: -one[e].mean()) == ["OH", "CH", "NH", "CC", "CN"]
    assert values(ethane, "CC", "depth")[0] == pytest.approx(3.6, abs=0.1)


@pytest.mark.parametrize("name", ["C2H6", "C2H4", "HCN", "H2CO"])
def test_an_untrained_bond_has_the_depth_length_and_stiffness_of_the_rules(name):
    readout, found = BondReadout(8).double(), bonds_of(molecule(name))
    beta = readout.f_bond(found, torch.tensor(molecule(name).numbers))
    d = found.length.clone().requires_grad_()
    energy = pair_energy(d, beta)
    slope = torch.autograd.grad(energy.sum(), d, create_graph=True)[0]
    curvature = torch.autograd.grad(slope.sum(), d)[0]
    torch.testing.assert_close(energy, -found.depth, rtol=1e-3, atol=0)
    torch.testing.assert_close(curvature, found.stiffness, rtol=1e-3, atol=0)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", [-1e4, 1e4])
def test_no_weights_take_the_meaning_from_a_bond(scale):
    model, batch = small_model(readout="bonds"), to_batch(molecule("CH3CH2OH"))
    torch.nn.init.constant_(model.energy.readout.f_bond.coefficients, scale)
    beta, rules = model.bond_parameters(batch).beta, bonds_of(molecule("CH3CH2OH"))
    assert ((beta[:, 4] / rules.length).log().abs() < 0.0601).all()
    assert ((beta[:, 2] / rules.depth).log().abs() < 0.301).all()


def test_every_bond_ends_within_the_cutoff():
    assert 2 * BROKEN * max(single for _, single, *_ in NONMETALS.values()) < LONGEST_BOND
    with pytest.raises(ValueError, match="'bonds' needs a cutoff of at least"):
        small_model(readout="bonds", cutoff=3.0)


def test_metals_and_masked_atoms_form_no_bonds():
    assert len(bonds_of(bulk("Cu", cubic=True)).order) == 0
    types = molecule("C2H6").numbers.copy()
    types[0] = MASK_TYPE
    found = bonds_of(molecule("C2H6"), types)
    assert len(found.order) == 3 and not (found.pair_index == 0).any()


def test_orders_follow_a_hydrogen_that_leaves():
    """Ethyl to ethene: while hydrogen goes, the C-C bond strengthens, and nothing jumps."""
    orders = []
    for stretch in np.linspace(1, 1.6, 121):
        atoms = molecule("C2H6")
        for carbon in (0, 1):
            hydrogen = next(h for h in range(2, 8) if atoms.get_distance(carbon, h) < 1.2)
            atoms.set_distance(carbon, hydrogen, 1.09 * stretch, fix=0)
        orders.append(values(atoms, "CC", "order")[0])
    assert orders[0] == pytest.approx(1, abs=0.1) and orders[-1] == pytest.approx(2, abs=0.1)
    assert np.abs(np.diff(orders)).max() < 0.06
    assert orders[int((INTACT - 1) / 0.6 * 120) - 4] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name, elements, measured", [
    ("C2H6", "CC", 4.5), ("C2H4", "CC", 9.6), ("C2H2", "CC", 15.8), ("CH4", "CH", 5.0),
    ("H2O", "HO", 7.8), ("NH3", "HN", 6.5), ("H2CO", "CO", 12.3), ("N2", "NN", 22.9),
])  # fmt: skip
def test_force_constants_are_those_of_textbooks(name, elements, measured):
    """In mdyn/Angstrom, of harmonic stretches."""
    found = values(molecule(name), elements, "stiffness") / 6.2415
    np.testing.assert_allclose(found, measured, rtol=0.25)
