"""Wrong input to main.py: one sentence that names the file, the key and the cure, and status 2."""

import os
import shutil
from pathlib import Path

import lmdb
import pytest
import torch
from conftest import REPOSITORY, run_main, small_run

from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.errors import UserError
from ocp_physmol.relaxation.predictor import open_labelled
from ocp_physmol.run import cli
from ocp_physmol.run.config_file import find_config
from ocp_physmol.run.runner import Runner

CONFIG = "configs/qm9/quickstart.yml"


@pytest.fixture
def fails(capsys, monkeypatch, qm9_folder):
    """Run the command line in this process; return its message after it has failed politely."""
    monkeypatch.chdir(REPOSITORY)

    def run(*arguments, config=CONFIG, mode="train"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["--mode", mode, "--config-yml", str(config), "--cpu",
                      *small_run(qm9_folder), *map(str, arguments)])  # fmt: skip
        assert stop.value.code == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith("error: ")
        return message

    return run


BAD_OPTIONS = {
    "--model.hiden_channels=3":
    "model.hiden_channels is an unknown key; did you mean 'hidden_channels'?",
    "--model.num_heads=5": "model.num_heads: 5 is not possible; it must be a divisor",
    "--model.name=physmo": "model.name has the unknown name 'physmo'; did you mean 'physmol'?",
    "--model.name=nowhere.Model": "model.name: nowhere.Model cannot be imported",
    "--trainer=physmo": "trainer has the unknown name 'physmo'; did you mean 'physmol'?",
    "--trainer=ocp": "needs trainer: physmol",
    "--modle.name=physmol": "modle is an unknown key; did you mean 'model'?",
    "--optim.lr_inital=1": "optim.lr_inital is an unknown key; did you mean 'lr_initial'?",
    "--optim.batch_size=0":
    "optim.batch_size: 0 is not possible; it must be greater than or equal to 1",
    "--optim.lr_initial=fast": "optim.lr_initial: 'fast' is not possible",
    "--optim.optimizer=Adm": "torch.optim has no Adm",
    "--optim.scheduler=LambdaLR": "optim.scheduler LambdaLR cannot be named; leave it out",
    "--optim.scheduler=Cosine": "torch.optim.lr_scheduler has no Cosine",
    "--dataset.train.src=nowhere": "dataset.train.src: nowhere does not exist; make the data",
    "--dataset.train.format=lmbd": "did you mean 'lmdb'?",
    "--dataset.train.key_mapping.y=total": "has no 'energy'; check the dataset's key_mapping",
    "--evaluation_metrics.primary_metric=None": "evaluation_metrics.primary_metric is missing",
    "--loss_functions=[{'bound': {'fn': 'bound', 'coefficient': 1}}]": "bound.noise is missing",
    "--loss_functions=[{'energy': {'fn': 'maee', 'coefficient': 1}}]": "did you mean 'mae'?",
    "--loss_functions=[{'dipole': {'fn': 'mae', 'coefficient': 1}}]": "neither in 'outputs' nor",
    "--loss_functions=[{'energy': {'fn': 'mae', 'coefficient': 0}}]": "no active term",
    "--dataset.train.transforms.normalizer={'energy': {'mean': 0, 'stdev': 2}}": "the same stdev",
    "--dataset.train.first_n=1000": ": Cannot take 1000 data points",
    "--num-gpus=0": "--num-gpus 0 is not possible",
    "--world_size=5": "world_size: 5 is not possible; it follows from --num-nodes and",
    "--distributed_backend=x": "distributed_backend: 'x' is not possible; it must be 'gloo'",
    "--num-gpus=--": "--num-gpus has no value; give one",
    "--num-nodes=2": "--num-nodes needs a cluster; add --submit",
    "--sweep-yml=nowhere.yml": "--sweep-yml nowhere.yml cannot be read",
    "--task.relaxation_step=3": "task.relaxation_step is an unknown key; did you mean",
    "--seed": "expected one argument",
    "--verbose": "unknown option '--verbose'",
    "--checkpoint=nowhere.pt": "checkpoint nowhere.pt does not exist; correct the path",
    "--checkpoint=setup.py": "checkpoint setup.py cannot be read",
}  # fmt: skip


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_bad_options_are_explained(option, fails):
    if option == "--seed":  # argparse's own message
        with pytest.raises(SystemExit):
            cli.main(["--config-yml", CONFIG, option])
        return
    message = fails(option)
    assert BAD_OPTIONS[option] in message
    if option.startswith(("--model", "--optim", "--dataset", "--loss", "--trainer")):
        assert f"config {CONFIG}" in message


def test_gpus_that_are_not_there(fails, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SystemExit):
        cli.main(["--mode", "train", "--config-yml", CONFIG])
    assert "0 GPUs are here; add --cpu" in capsys.readouterr().err


def test_a_run_on_the_processor_sees_no_gpu(monkeypatch):
    """fairchem asks for the GPU of each rank where there is any, also with --cpu."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = []

    def call(self, config):
        found.append(os.environ["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr("fairchem.core._cli.Runner.__call__", call)
    given = {"submit": False, "mode": "validate", "timestamp_id": None, "run_dir": "."}
    for cpu in (False, True):
        Runner()({**given, "cpu": cpu})
    assert found == ["0", ""]


def test_prediction_wants_a_checkpoint(fails):
    assert "needs a trained model; give --checkpoint" in fails(mode="predict")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "No such file"),
        ("model: [", "cannot be read"),
        ("model: {name: a, name: b}", "Duplicate Key"),
        ("includes: [nowhere.yml]", "Cannot find include YML nowhere.yml"),
        ("model: {name: physmol}", "outputs is missing; for example {energy"),
        ("", "has no keys"),
        ("5", "has no keys"),
        ("[model, optim]", "has no keys"),
    ],
)
def test_bad_config_files(content, message, fails, tmp_path):
    config = tmp_path / "my.yml"
    if content is not None:
        config.write_text(content)
    error = fails(config=config)
    assert message in error and str(config) in error


def test_checkpoint_of_another_architecture(fails, trained):
    checkpoint = trained / "checkpoints/run/best_checkpoint.pt"
    error = fails("--checkpoint", checkpoint, "--model.hidden_channels=32", mode="predict")
    assert f"{checkpoint} belongs to another architecture" in error


def test_checkpoint_of_the_same_shapes_with_another_meaning(fails, trained):
    checkpoint = trained / "checkpoints/run/checkpoint.pt"
    error = fails("--checkpoint", checkpoint, "--model.num_heads=4")
    assert "was trained with model.num_heads 8, not 4" in error


def test_checkpoint_of_another_optimizer(fails, trained):
    checkpoint = trained / "checkpoints/run/checkpoint.pt"
    error = fails("--checkpoint", checkpoint, "--optim.optimizer=SGD")
    assert f"optim.optimizer: {checkpoint} has the state of AdamW, not of SGD; set it to" in error


def test_a_pipe_is_no_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for path in (Path("pipe"), tmp_path / "pipe"):
        with pytest.raises(UserError, match="pipe is a pipe; give a file"):
            find_config(path)


def damaged(folder, target, change):
    """A copy of the data whose training entries have gone through `change(index, data)`."""
    shutil.copytree(folder, target)
    entries = list(open_labelled(folder / "train"))
    shutil.rmtree(target / "train")
    for index, data in enumerate(entries):
        data["y"], data["force"] = data.energy, data.forces
        del data["energy"], data["forces"]
        change(index, data)
    write_lmdb(target / "train", entries)
    return f"--dataset.train.src={target / 'train'}"


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_bad_entry_in_the_middle_stops_the_run(ranks, qm9_folder, tmp_path):
    def break_one(index, data):
        if index == 20:
            data.y[0] = float("nan")

    source = damaged(qm9_folder, tmp_path / "data", break_one)
    result = run_main(
        "--mode", "train", "--config-yml", CONFIG, "--cpu", "--run-dir", tmp_path,
        "--num-gpus", ranks, *small_run(qm9_folder), source,
    )  # fmt: skip
    assert result.returncode == 2
    sentence = f"error: {tmp_path / 'data/train/data.lmdb'}, entry 20: 'energy' holds NaN"
    assert sentence in result.stdout
    own = [line for line in result.stdout.splitlines() if "Traceback" in line]
    assert not own


def test_truncated_data(fails, qm9_folder, tmp_path):
    shutil.copytree(qm9_folder, tmp_path / "data")
    path = tmp_path / "data/train/data.lmdb"
    path.write_bytes(path.read_bytes()[:20_000])
    message = fails(f"--dataset.train.src={tmp_path / 'data/train'}")
    assert str(path) in message and "truncated" in message


def test_empty_data(fails, tmp_path):
    (tmp_path / "train").mkdir()
    with lmdb.open(str(tmp_path / "train/data.lmdb"), subdir=False):
        pass
    assert "is empty" in fails(f"--dataset.train.src={tmp_path / 'train'}")


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0 and "--config-yml" in capsys.readouterr().out


def test_no_two_runs_have_one_name(tmp_path):
    """Also where they start in the same second: the second would take over the first's folder."""
    names = [cli.reserve(str(tmp_path), "mine") for _ in range(3)]
    assert names == ["mine", "mine-2", "mine-3"]
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == set(names)


def test_a_run_folder_that_cannot_be_written_to(fails, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written to" in fails("--run-dir", tmp_path / "file")


@pytest.mark.parametrize("options, name", [((), "-mine"), (("--timestamp-id", "x"), "x")])
def test_runs_of_a_sweep_do_not_share_a_folder(options, name, qm9_folder, tmp_path, monkeypatch):
    """Given their common name they go on where they were."""
    monkeypatch.chdir(REPOSITORY)
    submitted = []
    monkeypatch.setattr(cli, "submit", lambda args, configs: submitted.extend(configs))
    path = tmp_path / "sweep.yml"
    path.write_text("model: {num_heads: [4, 8]}")
    cli.main(["--mode", "train", "--config-yml", CONFIG, "--cpu", "--submit", "--sweep-yml",
              str(path), "--identifier", "mine", "--run-dir", str(tmp_path), *options,
              *small_run(qm9_folder)])  # fmt: skip
    assert [c["model"]["num_heads"] for c in submitted] == [4, 8]
    for number, config in enumerate(submitted):
        assert config["timestamp_id"].endswith(f"{name}_run{number}")
        assert config["identifier"] == f"mine_run{number}"


def test_submission_without_slurm(fails, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no sbatch on this machine" in fails("--submit", "--run-dir", tmp_path)


WRAPPED = {
    "--model.energy_model.hiden_channels=3": "model.energy_model.hiden_channels is an "
    "unknown key; did you mean 'hidden_channels'?",
    "--model.energy_model.name=schne": "model.energy_model.name has the unknown name 'schne'",
    "--model.energy_model=schnet": "model.energy_model: 'schnet' is not possible; it "
    "must be a mapping of keys to values",
    "--model.energy_model.regress_forces=True": "model.energy_model.regress_forces must be false",
    "--model.energy_model.use_pbc=False": "model.energy_model.use_pbc must be true",
    "--model.energy_models=3": "did you mean 'energy_model'?",
    "--model={'name': 'schnet'}": "wrap it: model: {name: conservative, energy_model: {name: sch",
    "--loss_functions=[{'energy': {'fn': 'mae', 'coefficient': 1}}, {'masked_atoms': {'fn': "
    "'masked_atoms', 'coefficient': 1, 'mask_ratio': 0.3}}]": "only physmol does, so leave it out",
}


@pytest.mark.parametrize("option", WRAPPED)
def test_bad_options_of_a_model_inside_another(option, qm9_folder, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    own = [o for o in small_run(qm9_folder) if not o.startswith("--model")]
    with pytest.raises(SystemExit) as stop:
        cli.main(["--mode", "train", "--config-yml", "configs/qm9/schnet_physics.yml", "--cpu",
                  *own, option])  # fmt: skip
    assert stop.value.code == 2
    assert WRAPPED[option] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("config", ["schnet_physics", "recommended"])
def test_data_with_relaxed_positions(config, qm9_folder, tmp_path):
    """Minima beside the positions, as IS2RE has them: any model may be trained on them, but
    restoring forces are for molecules that are at their minima already."""

    def relax(index, data):
        data.pos_relaxed = data.pos.clone()

    source = damaged(qm9_folder, tmp_path / "data", relax)
    own = [o for o in small_run(qm9_folder) if not o.startswith("--model")]
    result = run_main("--mode", "train", "--config-yml", f"configs/qm9/{config}.yml", "--cpu",
                      "--run-dir", tmp_path, *own, source)  # fmt: skip
    if config == "schnet_physics":
        assert result.returncode == 0, result.stdout[-3000:]
        return
    message = "loss_functions.restoring_force is for free molecules at their minima"
    assert result.returncode == 2 and f"error: {message}" in result.stdout
