"""Structure recovery: the alignment, and relaxations with a real model."""

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ocp_physmol.evaluation.errors import energy_and_force_errors
from ocp_physmol.evaluation.pictures import recovery_figure
from ocp_physmol.evaluation.predictor import load_predictor, open_labelled
from ocp_physmol.evaluation.recovery import Protocol, align, mean_displacement, recover


@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "CO2", "H"])
def test_rigid_motion_is_no_displacement(name):
    reference = molecule(name).positions
    rotation = Rotation.random(random_state=3).as_matrix()
    assert mean_displacement(reference @ rotation.T + [5, -3, 1], reference) < 1e-10


def test_mirror_image_is_a_displacement():
    reference = molecule("CH3CH2OH").positions + np.random.default_rng(0).normal(size=(9, 3)) * 0.2
    assert mean_displacement(reference * [1, 1, -1], reference) > 0.1


def test_alignment_is_the_best_one():
    """Against scipy's, which minimises the same squares."""
    rng = np.random.default_rng(1)
    reference = molecule("CH3CH2OH").positions
    moved = reference + rng.normal(size=reference.shape) * 0.3
    rssd = Rotation.align_vectors(reference - reference.mean(axis=0), moved - moved.mean(axis=0))[1]
    assert np.linalg.norm(align(moved, reference) - reference) == pytest.approx(rssd)


@pytest.fixture(scope="module")
def predictor(trained):
    return load_predictor(trained / "checkpoints/run/best_checkpoint.pt")


@pytest.fixture(scope="module")
def structures(qm9_folder):
    return list(open_labelled(qm9_folder / "test"))


def test_no_steps_leave_everything_as_it_was(predictor, structures):
    result = recover(predictor, structures, Protocol(noise=0.1, steps=0), batch_size=4)
    assert result["delta_p_a"] == pytest.approx(result["do_nothing_delta_p_a"], abs=1e-6)
    assert 0.05 < result["do_nothing_delta_p_a"] < 0.25
    still = recover(predictor, structures, Protocol(noise=0.0, steps=0), batch_size=4)
    assert still["delta_p_a"] < 1e-5


def test_relaxation_goes_downhill_and_reports_what_converged(predictor, structures):
    result = recover(predictor, structures, Protocol(steps=30, fmax=0.5), batch_size=4)
    assert len(result["displacements"]) == len(result["relaxed"]) == len(structures)
    assert result["delta_p_a"] != result["do_nothing_delta_p_a"]
    assert 0 <= result["converged_fraction"] <= 1
    batch_free = recover(predictor, structures, Protocol(steps=30, fmax=0.5), batch_size=1)
    np.testing.assert_allclose(
        batch_free["start_displacements"], result["start_displacements"], atol=1e-5
    )


def test_everything_converges_where_any_force_is_small_enough(predictor, structures):
    result = recover(predictor, structures, Protocol(steps=1, fmax=1e6))
    assert result["converged_fraction"] == 1.0


def test_figure(predictor, structures, tmp_path):
    result = {
        **energy_and_force_errors(predictor, structures),
        **recover(predictor, structures, Protocol(steps=3)),
    }
    row = {
        "title": "GDB 1",
        "numbers": structures[0].atomic_numbers.numpy(),
        "panels": {"reference": structures[0].pos.numpy(), "relaxed": result["relaxed"][0]},
    }
    recovery_figure(tmp_path / "a/figure.png", {"PhysMol": result, "energy only": result}, [row])
    assert (tmp_path / "a/figure.png").stat().st_size > 20_000
