"""Displacements, and what is said of relaxed structures."""

import numpy as np
import pytest
from ase.build import molecule
from conftest import to_data
from scipy.spatial.transform import Rotation
from springs import Springs

from ocp_physmol.evaluation.deviations import (
    deviations,
    displacement_summary,
    mean_displacement,
)
from ocp_physmol.relaxation.batched import Frame


@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "CO2", "H"])
def test_rigid_motion_is_no_displacement(name):
    reference = molecule(name).positions
    rotation = Rotation.random(random_state=3).as_matrix()
    assert mean_displacement(reference @ rotation.T + [5, -3, 1], reference) < 1e-10


def test_mirror_image_is_a_displacement():
    reference = molecule("CH3CH2OH").positions + np.random.default_rng(0).normal(size=(9, 3)) * 0.2
    assert mean_displacement(reference * [1, 1, -1], reference) > 0.1


def test_what_is_said_of_four_fates():
    """Untouched, stretched, torn apart, and one that the model calls unfinished."""
    structures = [to_data(molecule("H2O"), sid) for sid in range(4)]
    there = structures[0].pos.numpy()
    stretched, torn = there * 1.05, there + 9 * np.eye(3)
    still, pulled = np.zeros((3, 3)), np.eye(3)
    ends = [(there, 0.0, still), (stretched, 0.2, still), (torn, -3.0, still), (there, 0.0, pulled)]
    frames = [Frame(*end) for end in ends]
    found = deviations(Springs(structures), structures, [there] * 4, frames, fmax=0.03)
    assert found["energy_changes_ev"] == pytest.approx([0, 0.2, -3, 0], abs=1e-6)
    assert found["median_energy_change_ev"] == pytest.approx(0.1)  # of 0, 0, 0.2 and 3
    assert found["broken"] == [False, False, True, False]
    assert found["converged"] == [True, True, True, False]
    assert found["displacements"][0] < 1e-6 < found["displacements"][1] < 0.1
    assert found["do_nothing_delta_p_a"] < 1e-6
    fractions = {k.split("_")[0]: v for k, v in found.items() if k.endswith("_fraction")}
    shares = {"converged": 0.75, "far": 0.25, "drifted": 0.25, "broken": 0.25, "exploded": 0.0}
    assert fractions == shares


def test_a_minimum_without_an_energy_is_no_number_less():
    """A calculator may refuse the minimum of the data, and not where a relaxation ended."""
    structures = [to_data(molecule("H2O"), sid) for sid in range(3)]
    there = structures[0].pos.numpy()
    frames = [Frame(there, energy, np.zeros((3, 3))) for energy in (0.1, 0.2, np.nan)]
    found = deviations(Springs(structures), structures, [there] * 3, frames, fmax=0.03)
    assert found["energy_changes_ev"] == pytest.approx([0.1, 0.2, np.inf], abs=1e-6)
    assert found["median_energy_change_ev"] == pytest.approx(0.2, abs=1e-6)


def test_intervals_are_as_wide_as_statistics_says():
    values = np.abs(np.random.default_rng(1).normal(0.1, 0.02, size=400))
    found = displacement_summary(values)
    width = found["delta_p_high_a"] - found["delta_p_low_a"]
    assert width == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert found["delta_p_low_a"] < found["delta_p_a"] < found["delta_p_high_a"]
    median = found["median_delta_p_a"]
    assert found["median_delta_p_low_a"] < median < found["median_delta_p_high_a"]


@pytest.mark.parametrize(
    ("displacements", "mean", "median"),
    [([0.3], 0.3, 0.3), ([0.1, np.inf, np.inf], 0.1, np.inf), ([np.inf], np.inf, np.inf)],
)
def test_what_exploded_is_in_the_median_alone(displacements, mean, median):
    found = displacement_summary(displacements)
    assert found["delta_p_a"] == found["delta_p_low_a"] == found["delta_p_high_a"] == mean
    assert found["median_delta_p_a"] == found["median_delta_p_high_a"] == median
    assert found["far_fraction"] == np.mean(np.array(displacements) > 0.2)
