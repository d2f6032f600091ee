"""Sweep files, and their runs on this machine."""

import os
import re

import pytest
import torch
from conftest import REPOSITORY, losses_by_step, run_main, small_run

from ocp_physmol.errors import UserError
from ocp_physmol.run import cli, slurm
from ocp_physmol.run.sweep import sweep

CONFIG = "configs/qm9/quickstart.yml"
BASE = {
    "identifier": "mine",
    "model": {"name": "physmol", "num_layers": 3},
    "loss_functions": [{"energy": {"coefficient": 1}}, {"bound": {"coefficient": 1}}],
}


@pytest.fixture
def swept(tmp_path):
    """The runs of a sweep file with this content."""

    def read(content):
        path = tmp_path / "sweep.yml"
        path.write_text(content)
        return sweep(BASE, path)

    return read


def test_a_grid_has_all_combinations(swept):
    configs = swept("model: {num_layers: [1, 2], use_cls: [true]}\noptim: {batch_size: [8, 16]}")
    found = [(c["model"]["num_layers"], c["optim"]["batch_size"]) for c in configs.values()]
    assert found == [(1, 8), (1, 16), (2, 8), (2, 16)]
    assert list(configs) == ["run0", "run1", "run2", "run3"]
    assert configs["run3"]["identifier"] == "mine_run3"
    assert all(c["model"]["use_cls"] and c["model"]["name"] == "physmol" for c in configs.values())


def test_rows_are_merged_and_lists_replaced(swept):
    configs = swept(
        "runs:\n"
        "  as it is: {}\n"
        "  '[CLS], no bound!':\n"
        "    model: {use_cls: true}\n"
        "    loss_functions: [{energy: {coefficient: 2}}]\n"
        "  3: {optim: {batch_size: 8}}\n"
    )
    assert list(configs) == ["as_it_is", "CLS_no_bound", "3"]
    as_it_is, changed, new_section = configs.values()
    assert as_it_is == {**BASE, "identifier": "mine_as_it_is"}
    assert changed["model"] == {"name": "physmol", "num_layers": 3, "use_cls": True}
    assert changed["loss_functions"] == [{"energy": {"coefficient": 2}}]
    assert new_section["optim"] == {"batch_size": 8}
    assert "use_cls" not in BASE["model"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("optim: [", "cannot be read"),
        ("optim: {lr_initial: 0.1}", "optim.lr_initial must hold a list of values"),
        ("[1, 2]", "the file must hold a list of values, or keys that do"),
        ("runs: [1, 2]", "runs: [1, 2] is not possible; it must be a mapping of keys to values"),
        ("runs: {}", "runs: {} is not possible; it must have at least 1 item"),
        ("runs: {a: 3}", "runs.a: 3 is not possible; it must be a mapping of keys to values"),
        ("runs: {a: }", "runs.a: None is not possible; it must be a mapping of keys to values"),
        ("runs: {a b: {}, a/b: {}}", "row 'a/b' shares the folder 'a_b' with another row"),
        ("runs: {..: {}}", "row '..' has no letters; give it another name"),
        ("runs: {a: {}, a: {}}", "Duplicate Key"),
        ("runs: {a: {}}\nmodel: {num_layers: [1]}", "model is an unknown key; known are runs"),
    ],
)
def test_bad_files(content, message, swept, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        swept(content)
    assert str(tmp_path / "sweep.yml") in str(error.value)


@pytest.mark.parametrize(
    "content, name", [("model: {num_heads: [4, 5]}", "run1"),
                      ("runs: {four: {}, five heads: {model: {num_heads: 5}}}", "five_heads")],
)  # fmt: skip
def test_every_run_is_checked_before_the_first(
    content, name, qm9_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(REPOSITORY)
    path = tmp_path / "sweep.yml"
    path.write_text(content)
    with pytest.raises(SystemExit):
        cli.main(["--mode", "train", "--config-yml", CONFIG, "--cpu", "--sweep-yml", str(path),
                  "--run-dir", str(tmp_path), "--timestamp-id", "x",
                  *small_run(qm9_folder)])  # fmt: skip
    error = capsys.readouterr().err
    assert f"--sweep-yml {path}, {name}: config {CONFIG}: model.num_heads: 5" in error
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_runs_follow_each_other_here_whatever_becomes_of_them(ranks, qm9_folder, tmp_path):
    """The first run diverges; when the sweep is started again, only it has something to do."""
    path = tmp_path / "sweep.yml"
    path.write_text("runs: {diverges: {optim: {lr_initial: 1.0e+30}}, as it is: {}}")
    command = [
        "--mode", "train", "--config-yml", CONFIG, "--cpu", "--run-dir", tmp_path, "--sweep-yml",
        path, "--timestamp-id", "mine", "--print-every", 1, "--num-gpus", ranks,
        *small_run(qm9_folder), f"--optim.batch_size={8 // ranks}", "--optim.max_epochs=1",
    ]  # fmt: skip
    result = run_main(*command, timeout=600)
    assert result.returncode == 2
    assert re.search(r"error: step \d: .* not finite.*; lower optim.lr_initial", result.stdout)
    assert "error: 1 of 2 runs failed: diverges; their own messages are above" in result.stdout
    assert sorted(losses_by_step(result.stdout.split("Run as_it_is")[1])) == [1, 2, 3, 4]
    state = torch.load(tmp_path / "checkpoints/mine_as_it_is/checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    if ranks == 1:
        again = run_main(*command, timeout=600).stdout
        assert "1 of 2 runs failed: diverges" in again
        assert not losses_by_step(again.split("Run as_it_is")[1])


def test_a_pipe_is_refused(tmp_path):
    """Whoever reads it would wait for ever."""
    os.mkfifo(tmp_path / "sweep.yml")
    with pytest.raises(UserError, match=r"sweep\.yml is a pipe; give a file"):
        sweep({"identifier": ""}, tmp_path / "sweep.yml")


@pytest.mark.parametrize(("key", "change"), [
    ("optim.num_workers", {"optim": {"num_workers": 2}}),
    ("slurm", {"slurm": {"constraint": "a100"}}),
])  # fmt: skip
def test_runs_of_other_resources_are_no_array(key, change, monkeypatch):
    monkeypatch.setattr(slurm.shutil, "which", lambda name: "sbatch")
    runs = [{"optim": {"num_workers": 1}}, {"optim": {"num_workers": 1}, **change}]
    with pytest.raises(UserError, match=f"{key} differs between the runs of the sweep"):
        slurm.submit(None, runs)
