"""The quickstart from training to report, with seconds for minutes."""

import json

import pytest
from conftest import ends


@pytest.mark.slow
def test_quickstart_writes_what_it_promises(qm9_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # in any folder
    ends(0, "quickstart", "--seconds", 3, "--molecules", 4, "--data", qm9_folder,
         "--output", "run")  # fmt: skip
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    keys = {"energy_mae_mev", "force_mae_ev_per_a", "delta_p_a", "converged_fraction"}
    assert keys <= metrics.keys() and keys <= metrics["energy_only"].keys()
    assert min(metrics["train_seconds"], metrics["energy_only"]["train_seconds"]) >= 3
    assert (tmp_path / "run/recovery.png").stat().st_size > 20_000
    assert (tmp_path / "run/physmol/checkpoints/run/best_checkpoint.pt").is_file()
    printed = capsys.readouterr().out
    assert f"{metrics['energy_mae_mev']:.4g}" in printed and "do nothing" in printed


@pytest.mark.slow
def test_failed_training_is_reported(tmp_path, capsys):
    (tmp_path / "report.json").touch()  # but no LMDBs
    ends(2, "quickstart", "--data", tmp_path, "--output", tmp_path / "run")
    message = capsys.readouterr().err
    assert "training of '" in message and "log.txt ends with:\n" in message
    assert f"{tmp_path}/train" in message
