"""Structure recovery with springs, and with a real model."""

import json

import numpy as np
import pytest
from conftest import REPOSITORY, ends
from springs import Springs

from ocp_physmol.evaluation.recovery import Protocol, recover
from ocp_physmol.evaluation.structure_tasks import named_paths
from ocp_physmol.relaxation.predictor import Predictor, open_labelled


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained / "checkpoints/run/best_checkpoint.pt"


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return Predictor.open(checkpoint)


@pytest.fixture(scope="module")
def structures(qm9_folder):
    return list(open_labelled(qm9_folder / "test"))


def test_springs_recover_everything(structures):
    result = recover(Springs(structures), structures, Protocol(noise=0.1, fmax=1e-3))
    assert result["converged_fraction"] == 1 and result["broken_fraction"] == 0
    assert result["delta_p_a"] < 0.01 < 0.1 < result["do_nothing_delta_p_a"]
    assert all(0 <= change < 1e-4 for change in result["energy_changes_ev"])
    assert result["sids"] == [s.sid for s in structures]
    for positions, structure in zip(result["relaxed"], structures):
        np.testing.assert_allclose(positions, structure.pos.numpy(), atol=0.05)


def test_minima_stay_without_noise(structures):
    result = recover(Springs(structures), structures, Protocol(noise=0.0))
    assert result["delta_p_a"] < 1e-5 and result["do_nothing_delta_p_a"] < 1e-5
    assert result["converged_fraction"] == 1 and result["median_energy_change_ev"] < 1e-6


def test_no_steps_leave_everything_as_it_was(predictor, structures):
    result = recover(predictor, structures, Protocol(noise=0.1, steps=0), batch_size=4)
    assert result["delta_p_a"] == pytest.approx(result["do_nothing_delta_p_a"], abs=1e-6)
    assert 0.05 < result["do_nothing_delta_p_a"] < 0.25
    still = recover(predictor, structures, Protocol(noise=0.0, steps=0), batch_size=4)
    assert still["delta_p_a"] < 1e-5 and still["median_energy_change_ev"] < 1e-3


def test_relaxation_moves_and_starts_do_not_depend_on_batches(predictor, structures):
    result = recover(predictor, structures, Protocol(steps=30, fmax=0.5), batch_size=4)
    assert len(result["displacements"]) == len(result["relaxed"]) == len(structures)
    assert result["delta_p_a"] != result["do_nothing_delta_p_a"]
    batch_free = recover(predictor, structures, Protocol(steps=30, fmax=0.5), batch_size=1)
    assert batch_free["start_displacements"] == result["start_displacements"]


def test_everything_converges_where_any_force_is_small_enough(predictor, structures):
    result = recover(predictor, structures, Protocol(steps=1, fmax=1e6))
    assert result["converged_fraction"] == 1.0


def test_command(checkpoint, qm9_folder, tmp_path, capsys):
    ends(0, "recover", "--checkpoint", checkpoint, "--checkpoint", f"again={checkpoint}",
        "--data", qm9_folder / "test", "--noise", 0, "--noise", 0.1, "--molecules", 4,
        "--steps", 3, "--output", tmp_path)  # fmt: skip
    printed = capsys.readouterr().out
    assert "noise of 0.1 Å" in printed and "ΔP, do nothing" in printed and "again" in printed
    noise = json.loads((tmp_path / "recovery.json").read_text())["noise"]
    assert noise["0.1"]["protocol"]["noise"] == 0.1 and list(noise) == ["0.0", "0.1"]
    first, second = noise["0.1"]["results"].values()
    assert first["displacements"] == second["displacements"] and len(first["sids"]) == 4
    for name in ("distributions_0.1.png", "molecules_0.0.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_names_and_paths_of_checkpoints(tmp_path):
    """A path that is there is one, whatever its folders are called."""
    path = tmp_path / "lr=0.1/checkpoints/run/best_checkpoint.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    found = named_paths(None, None, [str(path), f"mine={tmp_path / 'a.pt'}"])
    assert found == {"lr=0.1": path, "mine": tmp_path / "a.pt"}


@pytest.mark.parametrize("wrong, message", [
    (["--checkpoint", "nowhere.pt"], "checkpoint nowhere.pt does not exist"),
    (["--checkpoint", "a=x.pt", "--checkpoint", "a=y.pt"], "x.pt and y.pt are both called 'a'"),
    (["--checkpoint", "a.pt", "--draw", "7777777"], "has no structure with the sid 7777777"),
])  # fmt: skip
def test_refusals(qm9_folder, tmp_path, capsys, wrong, message):
    data = ("--data", qm9_folder / "test", "--output", tmp_path)
    ends(2, "recover", *data, *wrong)
    assert message in capsys.readouterr().err


def test_help_tells_the_defaults(capsys):
    ends(0, "recover", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "At most. [default: 200;" in text and "None" not in text
    assert str(REPOSITORY) not in text
