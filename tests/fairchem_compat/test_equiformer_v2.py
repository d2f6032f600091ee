"""EquiformerV2 whose energy can be differentiated by angles, beside fairchem's own."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from conftest import slab, to_batch
from fairchem.core.common.utils import setup_imports

from ocp_physmol.fairchem_compat.conservative import ConservativeModel

setup_imports()

OWN = "ocp_physmol.fairchem_compat.equiformer_v2.DifferentiableEquiformerV2"
SIZES = {
    "sphere_channels": 8, "attn_hidden_channels": 8, "num_heads": 2, "attn_alpha_channels": 4,
    "attn_value_channels": 4, "ffn_hidden_channels": 8, "edge_channels": 8, "lmax_list": [2],
    "mmax_list": [2], "num_layers": 2, "max_radius": 1.3, "alpha_drop": 0.0, "drop_path_rate": 0.0,
    "enforce_max_neighbors_strictly": False, "use_grid_mlp": True, "norm_type": "layer_norm_sh",
    "avg_num_nodes": 1.0, "avg_degree": 2.0,
}  # fmt: skip
ANGLE = 1.9  # radians
PLANE = np.array([[1, 0, 0], [0, 0.6, 0.8]])  # in which the molecule lies


def model(name: str, **options) -> ConservativeModel:
    torch.manual_seed(0)
    return ConservativeModel({"name": name, **SIZES, **options}).eval()


def evaluated(model, atoms) -> dict:
    """Energy and forces, with the same random rotations about the edges each time."""
    batch = to_batch(atoms)
    batch.pos, batch.cell = batch.pos.float(), batch.cell.float()
    torch.manual_seed(1)
    return model(batch)


def bent(angle: float) -> Atoms:
    """Water, whose hydrogen atoms are beyond the cutoff of each other."""
    bonds = np.array([[0, 0], [1, 0], [math.cos(angle), math.sin(angle)]])
    return Atoms("OH2", 4 + bonds @ PLANE, cell=[9, 9, 9], pbc=True)


def slope(model) -> float:
    """The energy's central difference by the angle, eV/radian."""
    lower, upper = (float(evaluated(model, bent(ANGLE + s))["energy"]) for s in (-0.02, 0.02))
    return (upper - lower) / 0.04


def torque(model) -> float:
    """The force on the last atom along its way when the angle grows, eV/Angstrom."""
    forces = evaluated(model, bent(ANGLE))["forces"].detach().numpy()
    return float(forces[2] @ (np.array([-math.sin(ANGLE), math.cos(ANGLE)]) @ PLANE))


def test_forces_know_the_angle():
    own = model(OWN)
    assert abs(slope(own)) > 0.1 and torque(own) == pytest.approx(-slope(own), rel=0.02)


def test_those_of_fairchems_own_do_not():
    theirs = model("equiformer_v2")
    assert slope(theirs) == pytest.approx(slope(model(OWN)), rel=1e-3)  # the same energy
    assert abs(torque(theirs)) < 1e-3 * abs(slope(theirs))


def test_edges_along_the_axis_of_the_rotations_can_be_trained_on():
    atoms = slab()
    atoms.cell[1] = [0, 3.9, 0]  # each atom's image lies along y
    trained = model(OWN, max_radius=4.0).train()
    evaluated(trained, atoms)["forces"].norm(dim=-1).sum().backward()
    gradients = [p.grad for p in trained.parameters() if p.grad is not None]
    assert len(gradients) > 10 and all(torch.isfinite(g).all() for g in gradients)
    assert any((g != 0).any() for g in gradients)
