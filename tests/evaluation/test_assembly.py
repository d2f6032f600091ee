"""Molecules are cut where they should be, and put together by a model that can."""

import json

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import ends, to_data
from springs import Springs

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.assembly import Protocol, assemble, choose_groups, pull
from ocp_physmol.geometry import bonds
from ocp_physmol.relaxation.predictor import open_labelled


@pytest.fixture(scope="module")
def structures(qm9_folder):
    return list(open_labelled(qm9_folder / "train"))


def test_exactly_the_chosen_bonds_are_cut(structures):
    counts = set()
    for structure in structures:
        numbers, positions = structure.atomic_numbers.numpy(), structure.pos.numpy()
        groups = choose_groups(structure)
        counts.add(len(groups))
        moved = pull(positions, groups, 0.7)
        lost = {tuple(sorted(group.bond)) for group in groups}
        assert bonds(numbers, positions) - bonds(numbers, moved) == lost
        for group in groups:
            rest, first = positions[list(group.bond)]
            shifts = (moved - positions)[list(group.atoms)]
            np.testing.assert_allclose(shifts, np.tile(shifts[0], (len(shifts), 1)), atol=1e-5)
            assert shifts[0] @ (first - rest) / np.linalg.norm(first - rest) == pytest.approx(
                0.7, 1e-5
            )
    assert {1, 2} <= counts


def test_groups_depend_on_the_molecule_and_the_seed_alone(structures):
    assert [choose_groups(s) for s in structures] == [choose_groups(s.clone()) for s in structures]
    other = [choose_groups(s, seed=1) for s in structures]
    assert other != [choose_groups(s) for s in structures]


def test_springs_put_everything_together(structures):
    result = assemble(Springs(structures), structures, Protocol(), name="springs")
    assert result["success_fraction"] > 0.9  # a few end as a mirror image or in a knot
    assert result["do_nothing_success_fraction"] == 0
    assert result["median_delta_p_a"] < 0.01 < 0.1 < result["do_nothing_delta_p_a"]
    assert result["num_molecules"] + result["num_skipped"] == len(structures)
    lists = ("success", "sids", "groups", "cut", "assembled", "displacements")
    assert {len(result[key]) for key in lists} == {result["num_molecules"]}


class Indifferent(Springs):
    """Feels no force anywhere."""

    def predict(self, batch):
        out = super().predict(batch)
        return {"energy": 0 * out["energy"], "forces": torch.zeros_like(out["forces"])}


def test_nothing_comes_of_a_model_without_forces(structures):
    result = assemble(Indifferent(structures), structures, Protocol())
    assert result["success_fraction"] == 0 and result["converged_fraction"] == 1
    assert result["delta_p_a"] == pytest.approx(result["do_nothing_delta_p_a"], abs=1e-5)
    assert result["median_energy_change_ev"] == 0


def test_what_cannot_be_cut_is_skipped():
    uncuttable = [to_data(molecule(name), sid) for sid, name in enumerate(("CO2", "O", "N2"))]
    water = to_data(molecule("H2O"), 3)
    result = assemble(Springs([water]), [*uncuttable, water], Protocol())
    assert (result["num_molecules"], result["num_skipped"], result["sids"]) == (1, 3, [3])
    with pytest.raises(UserError, match="no molecule has a single bond"):
        assemble(Springs(uncuttable), uncuttable, Protocol())


def test_command(trained, qm9_folder, tmp_path, capsys):
    checkpoint = trained / "checkpoints/run/best_checkpoint.pt"
    drawn = open_labelled(qm9_folder / "train")[0].sid
    ends(0, "assemble", "--checkpoint", f"some model={checkpoint}", "--data", qm9_folder / "test",
        "--steps", 3, "--draw", drawn, "--draw-from", qm9_folder / "train",
        "--output", tmp_path)  # fmt: skip
    printed = capsys.readouterr().out
    assert "at most 3 steps of at most 0.12 Å to 0.03 eV/Å" in printed and "some model" in printed
    record = json.loads((tmp_path / "assembly.json").read_text())
    assert record["protocol"]["distance"] == 0.7 and record["protocol"]["steps"] == 3
    assert len(record["results"]["some model"]["assembled"]) == 6
    for name in ("distributions.png", "molecules.png"):
        assert (tmp_path / name).stat().st_size > 10_000
