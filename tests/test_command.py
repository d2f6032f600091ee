"""The one command: what --help lists, and how its subcommands end."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY, ends

from ocp_physmol.__main__ import COMMANDS, DATA
from ocp_physmol.run import cli

NAMES = [name for task in COMMANDS.values() for name in task]


def test_help_lists_every_subcommand_under_its_task(capsys):
    ends(0, "--help")
    lines = capsys.readouterr().out.splitlines()
    for task, entries in COMMANDS.items():
        assert f"{task}:" in lines
        for name, (_, line) in entries.items():
            assert any(x.split(maxsplit=1) == [name, line] for x in lines)
    assert not any(line.split()[:1] == ["judge"] for line in lines)


@pytest.mark.parametrize("name", [*NAMES, "judge", *(f"data {name}" for name in DATA["Make data"])])
def test_every_subcommand_explains_itself(name, capsys):
    ends(0, *name.split(), "--help")
    assert "sage: " in capsys.readouterr().out


def test_training_takes_all_options_of_main_py(monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "main", calls.append)
    given = ["--config-yml", "x.yml", "--num-gpus", "4", "--optim.batch_size=8", "--submit"]
    ends(0, "train", *given)
    ends(0, "relax", *given)
    assert calls == [["--mode", "train", *given], ["--mode", "run-relaxations", *given]]


def test_an_unknown_subcommand(capsys):
    ends(2, "traim")
    assert "No such command 'traim'" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["train", "validate", "predict", "relax"])
def test_a_users_error_is_one_sentence(mode, capsys):
    ends(2, mode, "--config-yml", "nowhere.yml", "--checkpoint", "nowhere.pt", "--cpu")
    assert capsys.readouterr().err.startswith("error: config nowhere.yml cannot be read")


@pytest.mark.slow
def test_the_package_is_the_command(tmp_path):
    """Also in a folder that is not the repository."""
    result = subprocess.run(
        [sys.executable, "-m", "ocp_physmol", "leaderboard", "--help"], cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0 and "check" in result.stdout
