"""The repulsion of nuclei against the equation, and what it is for: nothing can collapse."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from conftest import small_model, to_batch

from ocp_physmol.model.elements import MASK_TYPE, covalent_radii
from ocp_physmol.model.graph import find_neighbors, measure
from ocp_physmol.model.repulsion import REACH, NuclearRepulsion, screened_coulomb

CUTOFF = 4.0


def repel(*structures, types=None):
    """Energies [B] and forces [N, 3] of the repulsion alone."""
    batch, repulsion = to_batch(*structures), NuclearRepulsion(CUTOFF).double()
    pos = batch.pos.requires_grad_()
    graph = measure(pos, find_neighbors(pos, batch.natoms, CUTOFF, batch.cell, batch.pbc), CUTOFF)
    energy = repulsion(batch.atomic_numbers.long() if types is None else types, graph)
    forces = -torch.autograd.grad(energy.sum(), pos)[0]
    return energy.detach().numpy(), forces.numpy()


def pair(symbols: str, distance: float) -> Atoms:
    return Atoms(symbols, [[0, 0, 0], [0, 0, distance]])


def along(symbols: str, distances) -> tuple[np.ndarray, np.ndarray]:
    """Energies of a pair of atoms, and the forces that push them apart."""
    energy, forces = repel(*(pair(symbols, d) for d in distances))
    return energy, forces[1::2, 2]


@pytest.mark.parametrize("z_i, z_j", [(1, 1), (6, 8), (29, 79)])
def test_universal_potential(z_i, z_j):
    """The equations of the book, with the Bohr radius in Angstrom."""
    d = np.linspace(0.5, 3.0, 26)
    x = d * (z_i**0.23 + z_j**0.23) / (0.8854 * 0.529177)
    screening = (
        0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x)
        + 0.28022 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.20162 * x)
    )  # fmt: skip
    one = torch.ones(len(d), dtype=torch.float64)
    found = screened_coulomb(z_i * one, z_j * one, torch.tensor(d)).numpy()
    np.testing.assert_allclose(found, 14.39964 * z_i * z_j / d * screening, rtol=7e-3)


@pytest.mark.parametrize("symbols", ["H2", "CH", "CO", "CuAu"])
def test_the_closer_the_higher_down_to_overlap(symbols):
    reach = REACH * float(covalent_radii()[Atoms(symbols).numbers].sum())
    energy, push = along(symbols, np.linspace(0.01, 0.999, 60) * reach)
    assert (np.diff(energy) < 0).all() and (push > 0).all()
    assert energy[0] > 10  # eV, even between hydrogens
    energy, push = along(symbols, np.linspace(1 + 1e-6, 2, 11) * reach)
    assert not energy.any() and not push.any()


def test_two_derivatives_are_continuous_where_it_ends():
    reach = REACH * float(covalent_radii()[[6, 8]].double().sum())
    energy, push = along("CO", reach - np.array([1e-2, 5e-3]))
    assert energy[0] / energy[1] == pytest.approx(8, rel=0.05)  # it ends like a cube, its
    assert push[0] / push[1] == pytest.approx(4, rel=0.05)  # derivatives as square and line


def test_bonds_of_real_molecules_feel_next_to_nothing():
    names = [n for n in g2.names if len(g2[n]) > 1]
    energy, forces = repel(*(molecule(name) for name in names))
    assert energy.max() < 0.2 and np.linalg.norm(forces, axis=1).max() < 3
    organic = [n for n in names if set(g2[n].symbols) <= set("CHNO")]
    assert np.linalg.norm(repel(*(molecule(n) for n in organic))[1], axis=1).max() < 0.4


def test_compressed_molecules_are_pushed_apart():
    ethyne = molecule("C2H2")
    energies = []
    for factor in (1.0, 0.8, 0.7, 0.5, 0.3):
        atoms = ethyne.copy()
        atoms.positions *= factor
        energy, forces = repel(atoms)
        energies.append(energy[0])
        assert (forces * atoms.positions).sum() >= 0  # the pressure is outwards
    assert np.diff(energies).min() > 0 and energies[2] > 1


def test_masked_atoms_tell_nothing_of_their_element():
    atoms = pair("CO", 0.5)
    assert repel(atoms)[0] > 10
    for types in ([MASK_TYPE, 8], [6, MASK_TYPE], [MASK_TYPE, MASK_TYPE]):
        energy, forces = repel(atoms, types=torch.tensor(types))
        assert not energy.any() and not forces.any()


def test_the_model_adds_it_to_its_readout():
    structures = [pair("CO", 0.6), molecule("CH3CH2OH")]
    for readout in ("atom", "physics"):
        plain, with_it = (small_model(readout=readout, repulsion=on) for on in (False, True))
        with_it.load_state_dict(plain.state_dict())
        batch = to_batch(*structures)
        with torch.no_grad():
            change = {key: with_it(batch)[key] - plain(batch)[key] for key in ("energy", "forces")}
        energy, forces = repel(*structures)
        np.testing.assert_allclose(change["energy"], energy, atol=1e-6)
        np.testing.assert_allclose(change["forces"], forces, atol=1e-5)
