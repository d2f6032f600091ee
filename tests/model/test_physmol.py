"""Physics of the whole model: symmetries, forces, continuity, finiteness, in double precision."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from conftest import VARIANTS, slab, small_model, tiny_crystal, to_batch
from scipy.spatial.transform import Rotation

from ocp_physmol.model.copies import Copy
from ocp_physmol.model.energy import of_layer
from ocp_physmol.model.graph import find_neighbors, measure

CUTOFF = 4.0  # of small_model


def predict(model, *structures):
    with torch.no_grad():
        out = model(to_batch(*structures))
    return out["energy"], out["forces"]


# ---- invariance


def test_rotation_and_translation(variant, structures):
    model = small_model(**variant)
    energy, forces = predict(model, *structures)
    rotation = Rotation.random(random_state=0).as_matrix()
    moved = []
    for atoms in structures:
        atoms = atoms.copy()
        atoms.set_cell(atoms.cell.array @ rotation.T)
        atoms.positions = atoms.positions @ rotation.T + [1.0, -2.0, 30.0]
        moved.append(atoms)
    moved_energy, moved_forces = predict(model, *moved)
    torch.testing.assert_close(moved_energy, energy, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        moved_forces, forces @ torch.tensor(rotation.T), rtol=1e-8, atol=1e-8
    )


def test_order_of_atoms(variant):
    model = small_model(**variant)
    atoms = slab()
    order = np.random.default_rng(0).permutation(len(atoms))
    energy, forces = predict(model, atoms)
    shuffled_energy, shuffled_forces = predict(model, atoms[order])
    torch.testing.assert_close(shuffled_energy, energy, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shuffled_forces, forces[order], rtol=1e-8, atol=1e-8)


def test_periodic_image_of_an_atom(variant):
    model = small_model(**variant)
    atoms, moved = slab(), slab()
    moved.positions[3] += 2 * moved.cell[0] - moved.cell[1]
    for one, other in zip(predict(model, atoms), predict(model, moved)):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_composition_of_the_batch(variant, structures):
    model = small_model(**variant)
    energy, forces = predict(model, *structures)
    alone = [predict(model, atoms) for atoms in structures]
    torch.testing.assert_close(energy, torch.cat([e for e, _ in alone]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(forces, torch.cat([f for _, f in alone]), rtol=1e-8, atol=1e-8)


def test_choice_of_the_cell(variant):
    """A skewed cell of the same lattice is the same crystal."""
    model = small_model(**variant)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.05, seed=0)
    other = atoms.copy()
    other.set_cell([atoms.cell[0], atoms.cell[1] + 2 * atoms.cell[0], atoms.cell[2]])
    for one, two in zip(predict(model, atoms), predict(model, other)):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


# ---- forces


def test_forces_are_the_derivative_of_the_energy(variant, structures):
    model = small_model(**variant)
    batch = to_batch(*structures)
    with torch.no_grad():
        forces = model(batch)["forces"]
    step, pos = 1e-5, batch.pos.clone()
    for atom in range(len(pos)):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                batch.pos = pos.clone()
                batch.pos[atom, axis] += sign * step
                with torch.no_grad():
                    energies.append(model(batch)["energy"].sum())
            numeric = (energies[1] - energies[0]) / (2 * step)
            assert abs(numeric - forces[atom, axis]) < 1e-6 * max(1, abs(numeric))


def test_forces_of_a_molecule_add_up_to_nothing(variant):
    _, forces = predict(small_model(**variant), molecule("CH3CH2OH"))
    torch.testing.assert_close(forces.sum(0), torch.zeros(3).double(), atol=1e-10, rtol=0)


def test_only_training_keeps_the_graph_of_the_forces():
    model, batch = small_model(), to_batch(molecule("H2O"))
    assert model(batch)["forces"].requires_grad
    with torch.no_grad():
        assert not any(value.requires_grad for value in model(batch).values())


# ---- continuity


def along(model, distances, make):
    """Energies and forces of `make(d)`, in one batch."""
    energy, forces = predict(model, *(make(d) for d in distances))
    return energy.numpy(), forces.reshape(len(distances), -1, 3).numpy()


def test_continuous_where_an_atom_crosses_the_cutoff(variant):
    def make(d):
        return Atoms("COH", [[0, 0, 0], [1.2, 0, 0], [0, 0, d]])

    model = small_model(**variant)
    distances = CUTOFF + np.array([-1e-3, -1e-5, 1e-5, 1e-3])
    energy, forces = along(model, distances, make)
    # zero with zero slope: what is left 1e-3 A inside the cutoff is of second order
    assert np.ptp(energy) < 1e-4 * max(1, abs(energy).max())
    assert np.ptp(forces, axis=0).max() < 1e-2 * max(1, abs(forces).max())
    assert np.ptp(energy[1:3]) < 1e-8 * max(1, abs(energy).max())
    assert np.ptp(forces[1:3], axis=0).max() < 1e-4 * max(1, abs(forces).max())


def test_continuous_while_a_bond_breaks(variant):
    """Forces along the path integrate to the difference of energies: no jump anywhere."""
    distances = np.linspace(0.5, CUTOFF + 0.5, 2001)
    model = small_model(**variant)
    energy, forces = along(model, distances, lambda d: Atoms("CO", [[0, 0, 0], [0, 0, d]]))
    pull = forces[:, 1, 2]
    work = np.cumsum((pull[1:] + pull[:-1]) / 2 * np.diff(distances))
    np.testing.assert_allclose(energy[0] - energy[1:], work, atol=2e-3 * np.ptp(energy))


# ---- extensivity


@pytest.mark.parametrize("readout", ["atom", "bonds", "physics"])
def test_doubled_cell_has_twice_the_energy(readout):
    model = small_model(readout=readout)
    atoms = slab()
    single, double = predict(model, atoms, atoms.repeat((2, 1, 1)))[0]
    torch.testing.assert_close(double, 2 * single, rtol=1e-9, atol=1e-9)


def test_distant_molecules_do_not_feel_each_other():
    model = small_model()
    far = molecule("CH4")
    far.positions += 50
    one, other, both = predict(model, molecule("H2O"), molecule("CH4"), molecule("H2O") + far)[0]
    torch.testing.assert_close(both, one + other, rtol=1e-9, atol=1e-9)


# ---- finite everywhere


@pytest.mark.parametrize("distance", [0.0, 1e-8, 1e-3, 0.05, 0.3])
def test_finite_for_overlapping_atoms(variant, distance):
    atoms = Atoms("COH", [[0, 0, 0], [distance, 0, 0], [0, 0, 1.0]])
    model = small_model(**variant).float().train()
    batch = to_batch(atoms)
    batch.pos, batch.cell = batch.pos.float(), batch.cell.float()
    out = model(batch)
    (out["energy"].sum() + out["forces"].square().sum()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    for value in [out["energy"], out["forces"], *gradients]:
        assert torch.isfinite(value).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Atoms("U"),
        lambda: Atoms("Og2", [[0, 0, 0], [0, 0, 2.0]]),
        lambda: bulk("Cu", cubic=True).repeat(5),
        tiny_crystal,
        lambda: bulk("He", "fcc", a=1.5),  # dozens of images of itself
    ],
    ids=["one atom", "heaviest element", "500 atoms", "one atom a cell", "many images"],
)
def test_finite_for_structures_of_any_size(variant, make):
    for value in predict(small_model(**variant), make()):
        assert torch.isfinite(value).all()


def test_autocast_leaves_the_digits_of_an_energy():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(8, 1), torch.randn(20, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        energies = of_layer(layer, x.bfloat16())
    assert torch.equal(energies, layer(x.bfloat16().float())[:, 0])


def test_autocast_leaves_the_neighbours(structures):
    batch = to_batch(*structures).apply(lambda t: t.float() if t.is_floating_point() else t)

    def found():
        near = find_neighbors(batch.pos, batch.natoms, 4.0, batch.cell, batch.pbc)
        return measure(batch.pos, near, 4.0)

    exact = found()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = found()
    for key, value in vars(exact).items():
        assert not isinstance(value, torch.Tensor) or torch.equal(vars(again)[key], value)
    assert len(exact.pair_distance) > 0


def test_autocast_loses_little(variant, structures):
    """Half precision where torch thinks it safe; sums and pair energies stay in single."""
    model = small_model(use_masking=True, **variant).float().train()
    batch = to_batch(*structures).apply(lambda t: t.float() if t.is_floating_point() else t)
    masked = torch.ones(len(batch.pos), dtype=torch.bool)
    copies = [
        Copy("moved", ("energy",), pos=batch.pos + 0.1),
        Copy("hidden", ("masked_logits",), masked=masked),
    ]
    exact = model(batch, copies=copies)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(batch, copies=copies)
        (out["energy"].sum() + out["forces"].square().sum()).backward()
    assert out["energy"].dtype == out["forces"].dtype == torch.float32
    scale = 1 + exact["energy"].abs().max()
    assert float((out["energy"] - exact["energy"]).abs().max()) < 0.05 * float(scale)
    for values in (out, out.pop("moved"), out.pop("hidden")):
        assert all(torch.isfinite(value).all() for value in values.values())


# ---- outputs and configuration


def test_bond_parameters_on_request():
    model, batch = small_model(), to_batch(molecule("H2O"))
    bonds = model.bond_parameters(batch)
    assert bonds.beta.shape == (3, 5) and bonds.pair_index.shape == (2, 3)
    assert (bonds.beta[:, 1:] > 0).all()
    torch.testing.assert_close(bonds.energy, model(batch)["energy"].detach())
    with pytest.raises(ValueError, match="readout 'atom' has no pair energy"):
        small_model(readout="atom").bond_parameters(batch)


@pytest.mark.parametrize("scale", [-1e4, 1e4])
def test_no_weights_make_bond_parameters_vanish_or_explode(scale):
    model = small_model().float()
    torch.nn.init.constant_(model.energy.readout.f_bond.regress.bias, scale)
    batch = to_batch(molecule("CH3CH2OH"), slab())
    batch = batch.apply(lambda t: t.float() if t.is_floating_point() else t)
    out, beta = model(batch), model.bond_parameters(batch).beta
    assert (beta[:, 1:] > 1e-4).all() and (beta < 50).all()
    assert torch.isfinite(out["energy"]).all() and torch.isfinite(out["forces"]).all()


@pytest.mark.parametrize(
    "key, value",
    [
        ("hidden_channels", 0), ("num_layers", 2.5), ("num_heads", 3), ("num_rbf", "many"),
        ("cutoff", -1.0), ("cutoff", float("nan")), ("readout", "sum"), ("readout", "cls"),
        ("use_adjacency", "no"), ("otf_graph", False),
    ],
)  # fmt: skip
def test_impossible_options_are_named(key, value):
    with pytest.raises(ValueError, match=rf"(use_cls|{key})\n"):
        small_model(**{key: value})


def test_unknown_element_is_named():
    with pytest.raises(ValueError, match="atomic number 0 is no element"):
        small_model()(to_batch(Atoms("XH", [[0, 0, 0], [0, 0, 1.0]])))


def test_variants_hold_every_readout_and_switch():
    values = {(key, value) for options in VARIANTS.values() for key, value in options.items()}
    assert values >= {("readout", r) for r in ("atom", "bonds", "cls", "physics")}
    assert values >= {("use_cls", True), ("use_adjacency", True), ("repulsion", True)}
