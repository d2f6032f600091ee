"""Eq. 1-6 against small evaluations in numpy that share no code with the model."""

from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.data import covalent_radii as ase_radii
from conftest import slab, small_model, to_batch

from ocp_physmol.model.elements import (
    MASK_TYPE,
    covalent_radii,
    electronegativities,
    periods_and_groups,
)
from ocp_physmol.model.embedding import similar_for_similar_elements
from ocp_physmol.model.energy import pair_energy
from ocp_physmol.model.radial import RadialBasis, cosine_envelope

CUTOFF = 4.0


def array(tensor):
    return tensor.detach().numpy()


def silu(x):
    return x / (1 + np.exp(-x))


def linear(module, x):
    bias = 0 if module.bias is None else array(module.bias)
    return x @ array(module.weight).T + bias


def layer_norm(module, x):
    centered = x - x.mean(-1, keepdims=True)
    scaled = centered / np.sqrt(x.var(-1, keepdims=True) + module.eps)
    return scaled * array(module.weight) + array(module.bias)


def envelope(d):
    return 0.5 * (np.cos(np.pi * d / CUTOFF) + 1) if d <= CUTOFF else 0.0


def psi(model, z, d):
    """Eq. 2 for one pair."""
    mu, sqrt_beta = (
        array(model.energy.radial_basis.mu)[z],
        array(model.energy.radial_basis.sqrt_beta)[z],
    )
    return envelope(d) * np.exp(-(sqrt_beta**2) * (np.exp(-d) - mu) ** 2)


def distances(atoms):
    return atoms.get_all_distances()


def embed(model, atoms):
    """Eq. 1 and 4, atom by atom."""
    module, d, z = model.energy.embedding, distances(atoms), atoms.numbers
    table = array(module.type_embedding.weight)
    own = np.array([[*table[k], float(electronegativities()[k])] for k in z])
    x = []
    for i in range(len(atoms)):
        around = np.zeros(own.shape[1])
        for j in range(len(atoms)):
            if i != j and d[i, j] < CUTOFF:
                projected = linear(module.radial_projection, psi(model, z[i], d[i, j]))
                around += linear(module.neighbor_projection, own[j] * projected)
        x.append(linear(module.combine, np.concatenate([own[i], around])))
    return np.array(x)


def block(module, x, vectors, model, atoms, use_cls, use_adjacency):
    """Section 3.3 for one structure; with [CLS] its token is the last row of x and vectors."""
    att, n, z, d = module.attention, len(atoms), atoms.numbers, distances(atoms)
    width, heads, channels = att.query.out_features, att.num_heads, vectors.shape[2]
    sizes = np.cumsum([width, width, channels])
    h = layer_norm(module.attention_norm, x)
    query = linear(att.query, h)
    key, value, along, carried = np.split(linear(att.key_value, h), sizes, axis=1)
    out, new = np.zeros((len(x), width)), vectors.copy()
    for i in range(len(x)):
        for j in range(len(x)):
            is_cls = i >= n or j >= n
            direction = np.zeros(3)
            if is_cls:
                filters, phi, bonded = array(att.cls_distance), 1.0, 1.0
            elif d[i, j] < CUTOFF:
                filters = silu(linear(att.distance, psi(model, z[i], d[i, j])))
                phi = envelope(d[i, j])
                length = d[i, j] / (ase_radii[z[i]] + ase_radii[z[j]])
                bonded = 1 / (1 + np.exp(-(1.3 - length) / 0.05))
                if i != j:
                    direction = (atoms.positions[j] - atoms.positions[i]) / d[i, j]
            else:
                continue
            d_key, d_value, d_along, d_carried = np.split(filters, sizes)
            for head in range(heads):
                own = np.split(np.arange(width), heads)[head]
                weight = silu((query[i] * key[j] * d_key)[own].sum()) * phi
                if use_adjacency:
                    weight *= silu(linear(att.adjacency, np.array([bonded])))[head]
                out[i, own] += weight * (value[j] * d_value)[own]
                own = np.split(np.arange(channels), heads)[head]
                new[i][:, own] += weight * np.outer(direction, (along[j] * d_along)[own])
                new[i][:, own] += weight * vectors[j][:, own] * (carried[j] * d_carried)[own]
    if channels:
        left, right = np.split(linear(att.products.left_right, new), 2, axis=-1)
        product = (left * right).sum(1)
        out = np.hstack([out, product / (1 + product**2) ** 0.25])
    x = x + linear(att.output, out)
    norm, first, _, second = module.feed_forward
    return x + linear(second, silu(linear(first, layer_norm(norm, x)))), new


def lennard_jones_and_coulomb(d, beta):
    b0, b1, b2, b3, b4 = beta
    return -b1 * b0 / d + b2 * ((b4 / d) ** (2 * b3) - 2 * (b4 / d) ** b3)


def bond_energy(readout, atoms):
    """Eq. 6 over bonds, from rules that tests/model/test_bonds.py examines."""
    i, j = np.triu_indices(len(atoms), k=1)
    pairs, d = torch.tensor(np.stack([i, j])), torch.tensor(distances(atoms)[i, j])
    bonds, f = readout.rules(torch.tensor(atoms.numbers), pairs, d), readout.f_bond
    total = 0.0
    for (i, j), d, share, order, length, depth, stiffness in zip(
        bonds[0].T, *map(array, bonds[1:7])
    ):
        coefficients = (
            array(f.coefficients)[atoms.numbers[i]] + array(f.coefficients)[atoms.numbers[j]]
        )
        free = coefficients[0] + coefficients[1] * (order - 1) + coefficients[2] * (order - 1) ** 2
        change = np.exp([0.3, 0.3, 0.06] * np.tanh(free))
        power = change[1] * length * np.sqrt(stiffness / (2 * depth))
        beta = [0, 0, change[0] * depth, power, change[2] * length]
        total += share * lennard_jones_and_coulomb(d, beta)
    return total


def energy(model, atoms, readout, use_cls, use_adjacency, vector_channels, repulsion):
    """The whole forward pass, Eq. 1-6; no atoms here are so close that nuclei repel."""
    x = embed(model, atoms)
    if use_cls:
        x = np.vstack([x, array(model.energy.attention.cls_token.embedding)])
    vectors = np.zeros((len(x), 3, vector_channels))
    for module in model.energy.attention.blocks:
        x, vectors = block(module, x, vectors, model, atoms, use_cls, use_adjacency)
    if readout == "cls":
        return linear(model.energy.readout.f_mol, x[-1])[0]
    total = linear(model.energy.readout.f_atom, x[: len(atoms)]).sum()
    if readout == "bonds":
        total += bond_energy(model.energy.readout, atoms)
    if readout == "physics":
        bond, d, z = model.energy.readout.f_bond, distances(atoms), atoms.numbers
        for i in range(len(atoms)):
            for j in range(i + 1, len(atoms)):
                if d[i, j] < CUTOFF:
                    hidden = silu(linear(bond.embed, x[i]) + linear(bond.embed, x[j]))
                    free = 5 * np.tanh(linear(bond.regress, hidden) / 5)
                    positive = np.log1p(np.exp(free[1:] + array(bond.offset)))
                    radii = ase_radii[z[i]] + ase_radii[z[j]]
                    beta = [free[0], *positive[:2], 6 * positive[2], radii * positive[3]]
                    total += envelope(d[i, j]) * lennard_jones_and_coulomb(d[i, j], beta)
    return total


@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "NaCl", "H"])
def test_energy_is_that_of_the_equations(variant, name):
    model, atoms = small_model(**variant), molecule(name)
    switches = {"use_cls": False, "use_adjacency": False, "repulsion": False}
    options = {**switches, "vector_channels": 0, **variant}
    with torch.no_grad():
        predicted = float(model(to_batch(atoms))["energy"])
    # the smooth caps on the exponent and on 1/d still reach down here, by less than 1e-5
    assert predicted == pytest.approx(energy(model, atoms, **options), rel=1e-5, abs=1e-6)


def test_envelope_is_one_at_zero_and_flat_zero_at_the_cutoff():
    d = torch.tensor([0.0, CUTOFF / 2, CUTOFF, CUTOFF + 1], dtype=torch.float64, requires_grad=True)
    value = cosine_envelope(d, CUTOFF)
    (slope,) = torch.autograd.grad(value.sum(), d)
    np.testing.assert_allclose(array(value), [1, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(array(slope)[[0, 2, 3]], 0, atol=1e-12)


def test_radial_basis_belongs_to_the_type_of_the_center(monkeypatch):
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, dtype=torch.float64))
    basis = RadialBasis(8, CUTOFF)
    with torch.no_grad():
        basis.mu_change[6] += 0.1
    center, d = torch.tensor([6, 1]), torch.tensor([1.5, 1.5]).double()
    carbon, hydrogen = basis(center, d, cosine_envelope(d, CUTOFF))
    assert not torch.allclose(carbon, hydrogen)
    distance = np.linspace(0.1 * CUTOFF, CUTOFF, 8)
    mu, width = np.exp(-distance), np.exp(-distance) * (distance[1] - distance[0])
    expected = envelope(1.5) * np.exp(-((np.exp(-1.5) - mu) ** 2) / (2 * width**2))
    np.testing.assert_allclose(array(hydrogen), expected, rtol=1e-6)


def test_pair_energy_has_its_minimum_at_beta_4():
    beta = torch.tensor([[0.0, 1.0, 0.7, 6.0, 1.5]]).double()
    d = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    value = pair_energy(d, beta)
    (slope,) = torch.autograd.grad(value.sum(), d)
    assert float(value) == pytest.approx(-0.7) and abs(float(slope)) < 1e-6


def test_like_charges_attract_when_beta_0_is_positive_and_repel_when_negative():
    """Eq. 5 has a minus sign before the Coulomb term."""
    d, beta = torch.tensor([2.0]).double(), torch.tensor([[0.5, 2.0, 0.0, 6.0, 1.0]]).double()
    assert float(pair_energy(d, beta)) == pytest.approx(-0.5)
    beta[:, 0] *= -1
    assert float(pair_energy(d, beta)) == pytest.approx(0.5)


def test_each_periodic_image_is_one_bond():
    model = small_model(readout="physics", cutoff=3.0)
    bonds = model.bond_parameters(to_batch(Atoms("He", cell=[2.2] * 3, pbc=True)))
    assert len(bonds.beta) == 3  # six neighbours, every bond counted once


def test_tables_of_elements():
    chi, radii = electronegativities(), covalent_radii()
    assert chi.shape == radii.shape == (119,)
    assert [float(chi[z]) for z in (1, 6, 8, 9)] == pytest.approx([2.20, 2.55, 3.44, 3.98])
    assert float(chi[2]) == 0 and float(chi[MASK_TYPE]) == 0
    assert (radii > 0.25).all() and float(radii[6]) == pytest.approx(0.76)
    places = periods_and_groups()
    assert places[[1, 6, 29, 58, 86]].tolist() == [[1, 1], [2, 14], [4, 11], [6, 3], [6, 18]]


def test_neighbours_in_the_periodic_table_start_alike():
    torch.manual_seed(0)
    embedding = similar_for_similar_elements(20_000)
    assert embedding.shape == (119, 20_000)
    torch.testing.assert_close(embedding.square().mean(1), torch.ones(119), atol=0.05, rtol=0)
    alike = embedding @ embedding.T / 20_000
    nitrogen = [float(alike[7, z]) for z in (7, 6, 15, 5, 1, MASK_TYPE)]  # N; C, P, B, H
    expected = [1, np.exp(-0.5 / 1.8**2), np.exp(-0.5), np.exp(-2 / 1.8**2), 0, 0]
    assert nitrogen == pytest.approx(expected, abs=0.05)


def test_bond_parameters_start_as_documented():
    from ocp_physmol.model.physmol import PhysMol

    batch = to_batch(slab()).apply(lambda t: t.float() if t.is_floating_point() else t)
    bonds = PhysMol().bond_parameters(batch)
    b0, _, b2, b3, b4 = bonds.beta.T
    i, j = bonds.pair_index
    radii = covalent_radii()[to_batch(slab()).atomic_numbers]
    assert (b0 == 0).all()
    torch.testing.assert_close(b2, torch.full_like(b2, 0.5))
    torch.testing.assert_close(b3, torch.full_like(b3, 6.0))
    torch.testing.assert_close(b4, radii[i] + radii[j])
