"""The quickstart from training to report, with seconds for minutes."""

import json

import pytest
from conftest import REPOSITORY

from ocp_physmol.errors import UserError
from ocp_physmol.experiments import quickstart


@pytest.mark.slow
def test_quickstart_writes_what_it_promises(qm9_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    output = tmp_path / "run"
    quickstart.main(["--seconds", "3", "--molecules", "4", "--data", str(qm9_folder),
                     "--output", str(output)])  # fmt: skip
    metrics = json.loads((output / "metrics.json").read_text())
    keys = {"energy_mae_mev", "force_mae_ev_per_a", "delta_p_a", "converged_fraction"}
    assert keys <= metrics.keys() and keys <= metrics["energy_only"].keys()
    seconds = [metrics["train_seconds"], metrics["energy_only"]["train_seconds"]]
    assert all(3 <= s < 6 for s in seconds)
    assert (output / "recovery.png").stat().st_size > 20_000
    printed = capsys.readouterr().out
    assert f"{metrics['energy_mae_mev']:.4g}" in printed and "do nothing" in printed


@pytest.mark.slow
def test_failed_training_is_reported(qm9_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setitem(quickstart.CONFIGS, "PhysMol", "configs/qm9/nowhere.yml")
    with pytest.raises(UserError, match=r"(?s)Training of 'PhysMol' stopped.*nowhere\.yml"):
        quickstart.train_side_by_side(qm9_folder, tmp_path, 60, 0)


def test_only_in_the_repository(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        quickstart.main([])
    assert "run the quickstart in the repository's folder" in capsys.readouterr().err
