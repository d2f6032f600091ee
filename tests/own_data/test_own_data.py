"""`ocp-physmol train FILE...`: from files to a model and its judgement, and what it answers."""

import json

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.io import read, write
from conftest import ends
from fairchem.core import OCPCalculator
from fairchem.core.common.flags import flags
from frames import crystals, ethanol

from ocp_physmol.checkpoint import read_checkpoint
from ocp_physmol.errors import UserError
from ocp_physmol.experiments.launch import LAST
from ocp_physmol.own_data import configuration
from ocp_physmol.own_data.conversion import make_data
from ocp_physmol.own_data.judgement import ROWS
from ocp_physmol.own_data.reference import Reference
from ocp_physmol.relaxation.predictor import open_labelled
from ocp_physmol.run.check_config import check_config
from ocp_physmol.run.config_file import read_config

SMALL = ("--cpu", "--model.hidden_channels=16", "--model.attention_channels=8",
         "--model.num_layers=1", "--model.num_rbf=8", "--optim.batch_size=4")  # fmt: skip


@pytest.mark.slow
def test_a_file_becomes_a_model_that_predicts(tmp_path, monkeypatch, warm_launch, capfd):
    """Better than no model after a minute's fraction, and further when the command is repeated."""
    monkeypatch.chdir(tmp_path)
    file, output = ethanol(tmp_path / "mine.xyz", 60), tmp_path / "runs/mine"
    ends(0, "train", file, "--epochs", 12, *SMALL)
    printed = capfd.readouterr().out
    results = json.loads((output / "results.json").read_text())
    model, nothing = results["model"], results["one energy per element, no force"]
    assert results["train_steps"] == 12 * 12 and results["frames"] == 6
    assert all(label in printed for label in ROWS.values())
    assert model["force_mae_mev_per_a"] < 0.8 * nothing["force_mae_mev_per_a"]
    assert (output / "parity.png").stat().st_size > 10_000
    best = output / "checkpoints/run/best_checkpoint.pt"
    assert str(best.relative_to(tmp_path)) in printed
    assert "--config-yml=runs/mine/config.yml" in printed

    # the numbers are those of the calculator that the command names
    held_out = list(open_labelled(output / "data/test"))
    calculator, errors = OCPCalculator(checkpoint_path=str(best), cpu=True, seed=0), []
    for atoms in read(file, ":"):
        energy = atoms.get_potential_energy()
        if any(energy == float(frame.energy) for frame in held_out):
            atoms.calc = calculator
            errors.append(abs(atoms.get_potential_energy() - energy))
    assert 1000 * np.mean(errors) == pytest.approx(model["energy_mae_mev"], abs=0.5)

    before = read_checkpoint(output / "checkpoints/run/checkpoint.pt")
    ends(0, "train", file, "--epochs", 14, *SMALL)
    after = read_checkpoint(output / "checkpoints/run/checkpoint.pt")
    assert (before["step"], after["step"]) == (144, 168)
    assert after["ema"]["num_updates"] == 168
    assert "going on with its training" in capfd.readouterr().out
    content = yaml.safe_load((output / "config.yml").read_text())
    assert content["optim"]["max_epochs"] == 14 and content["model"]["hidden_channels"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("model", ["painn", "schnet"])
def test_another_model_on_the_same_files(model, tmp_path, monkeypatch, warm_launch, capfd):
    monkeypatch.chdir(tmp_path)
    file, size = ethanol(tmp_path / "mine.xyz", 60), "--model.energy_model.hidden_channels=16"
    ends(0, "train", file, "--model", model, "--epochs", 4, "--cpu", "--optim.batch_size=4", size)
    results = json.loads((tmp_path / f"runs/mine_{model}/results.json").read_text())
    least = results["one energy per element, no force"]["force_mae_mev_per_a"]
    assert results["model"]["force_mae_mev_per_a"] < least
    ends(2, "train", file, "--output", f"runs/mine_{model}", "--cpu")
    assert "holds a training of another model" in capfd.readouterr().err


def test_help_tells_both_roads(capsys):
    ends(0, "train", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "FILE..." in text and "--time" in text and "train --config-yml FILE" in text
    ends(0, "train", "--config-yml", "x.yml", "--help")
    assert "--sweep-yml" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (["nowhere.xyz"], "nowhere.xyz does not exist; give a folder or a file"),
    (["one.xyz"], "1 usable frames are too few for 3 splits; give more data"),
    (["bare.xyz"], "bare.xyz holds no usable frame; most often (1 times): no energy; first: bare"),
    (["noise.xyz"], "noise.xyz holds no usable frame; most often (1 times): cannot be read"),
    (["good.xyz", "--output", "full"], "full exists and holds no training of ours; choose"),
    (["good.xyz", "--output", "one.xyz"], "one.xyz is a file; choose another --output"),
    (["good.xyz", "--time", "soon"], "'soon' is no time; give one as 90s, 10m or 1.5h"),
    (["good.xyz", "--tiem", "9m"], "unknown option '--tiem'"),
    (["good.xyz", "--checkpoint=a.pt"], "unknown option '--checkpoint=a.pt'; a config key is"),
    (["good.xyz", "--optim.eval_every=9"], "leave one out, or add --optim.evaluations=None"),
    (["good.xyz", "--optim.batch_sise=9"], "optim.batch_sise is an unknown key; did you mean"),
    (["good.xyz", "--model.num_heads=5"], "own.yml: model.num_heads: 5 is not possible"),
    (["--cpu"], "Missing argument 'FILE...'"),
])  # fmt: skip
def test_wrong_input_is_one_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ethanol(tmp_path / "good.xyz")
    ethanol(tmp_path / "one.xyz", 1)
    ethanol(tmp_path / "full/of.xyz")
    write("bare.xyz", molecule("N2"))
    (tmp_path / "noise.xyz").write_bytes(bytes(range(256)))
    ends(2, "train", *arguments)
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "runs").exists() or not list(tmp_path.glob("runs/*/checkpoints"))
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["of.xyz"]


def test_a_folder_of_other_data_is_refused(tmp_path, monkeypatch, capsys):
    """The checksum of a file, the number of files and the seed of the splits are compared."""
    file, output = ethanol(tmp_path / "mine.xyz"), tmp_path / "out"
    report = make_data([file], output, seed=0)
    assert make_data([file], output, seed=0) == report
    ends(2, "train", file, "--output", output, "--seed", 1)
    assert "holds a training with --seed 0; choose another --output" in capsys.readouterr().err
    other = ethanol(tmp_path / "other.xyz")
    ends(2, "train", file, other, "--output", output)
    assert "holds a training on other data (other.xyz differs)" in capsys.readouterr().err
    ethanol(file, first_seed=100)
    ends(2, "train", file, "--output", output)
    assert "holds a training on other data (mine.xyz differs)" in capsys.readouterr().err


def test_the_config_has_the_budget_and_no_more_to_validate_than_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration, "MOST_TO_VALIDATE", 1)
    report = make_data([ethanol(tmp_path / "mine.xyz")], tmp_path / "out", seed=0)
    assert report["splits"]["val"]["frames"] == 2
    given = configuration.read_base(
        "physmol", tmp_path / "out", None, 7, ["--optim.lr_initial=0.1"]
    )
    path = configuration.write_config(*given, tmp_path / "out", report)
    content = yaml.safe_load(path.read_text())
    assert content["dataset"]["val"]["sample_n"] == 1
    given[1]["dataset"]["val"] |= {"sample_n": 2}  # the user's own number stays
    path = configuration.write_config(*given, tmp_path / "out", report)
    assert yaml.safe_load(path.read_text())["dataset"]["val"]["sample_n"] == 2
    optim = content["optim"]
    assert (optim["max_seconds"], optim["max_epochs"], optim["lr_initial"]) == (None, 7, 0.1)
    args, _ = flags.get_parser().parse_known_args(
        ["--mode", "train", "--config-yml", str(path), "--cpu"]
    )
    check_config(args, read_config(args, []))  # the file alone is enough


def test_a_folder_with_another_model_keeps_its_config(tmp_path):
    output = tmp_path / "out"
    report = make_data([ethanol(tmp_path / "mine.xyz")], output, seed=0)

    def base(seconds: float, *overrides: str):
        return configuration.read_base("physmol", output, seconds, None, list(overrides))

    narrow = base(60, "--model.hidden_channels=16")
    path = configuration.write_config(*narrow, output, report)
    (output / LAST).parent.mkdir(parents=True)
    (output / LAST).touch()
    before = path.read_text()
    longer = base(90, "--model.hidden_channels=16")
    assert configuration.write_config(*longer, output, report) == path
    assert path.read_text() == before.replace("max_seconds: 60", "max_seconds: 90")
    with pytest.raises(UserError, match="holds a training of another model"):
        configuration.write_config(*base(90), output, report)
    assert "hidden_channels: 16" in path.read_text()


def test_energies_without_a_model(tmp_path):
    """One molecule: its mean. Cells that change are found, those of molecules are none."""
    make_data([ethanol(tmp_path / "mine.xyz")], tmp_path / "molecules", seed=0)
    frames = open_labelled(tmp_path / "molecules/data/train")
    reference = Reference.of(frames)
    mean = torch.cat([frame.energy for frame in frames]).mean().item()
    assert reference.energies(frames) == pytest.approx(mean) and not reference.cells_vary
    make_data([crystals(tmp_path / "pressed.traj")], tmp_path / "crystals", seed=0)
    others = open_labelled(tmp_path / "crystals/data/train")
    assert Reference.of(others).cells_vary
    assert reference.unknown(frames) == ([], 0)
    assert reference.unknown([*frames, *others]) == (["Cu"], len(others))
