"""Every key of a config with values that it cannot have: its full path, the value, the cure."""

import math
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from fairchem.core.common.utils import setup_imports
from refusals import CONFIG, read, refusal

from ocp_physmol.errors import UserError
from ocp_physmol.run.check_config import check_config
from ocp_physmol.run.config_file import find_config
from ocp_physmol.run.schema import Config

MAPPING = "it must be a mapping of keys to values"

SECTIONS = ("dataset", "model", "evaluation_metrics", "optim", "task")
NESTED = ("dataset.train", "dataset.train.key_mapping", "dataset.train.transforms",
          "dataset.train.transforms.normalizer", "optim.optimizer_params", "task.relax_opt",
          "outputs.energy", "evaluation_metrics.metrics")  # fmt: skip


@pytest.mark.parametrize("value", ["5", "True", "'text'", "[]", "1.5", "nan"])
@pytest.mark.parametrize("section", [*SECTIONS, *NESTED, "outputs"])
def test_no_mapping(section, value):
    shown = value if value != "nan" else "'nan'"
    assert f"{section}: {shown} is not possible; {MAPPING}" in refusal(f"{section}={value}")


@pytest.mark.parametrize("section", [*SECTIONS, "outputs"])
def test_null_for_a_mapping(section):
    required = f"{section} is missing; for example {{"
    sentence = required if section != "task" else f"task: None is not possible; {MAPPING}"
    assert sentence in refusal(f"{section}=None")


@pytest.mark.parametrize("value", ["5", "'energy'", "{}"])
def test_losses_are_a_list(value):
    message = refusal(f"loss_functions={value}")
    assert f"loss_functions: {value} is not possible; it must be a valid list" in message
    assert "loss_functions is missing; for example [" in refusal("loss_functions=None")


VALUES = {
    "loss_functions=[]": "loss_functions: [] is not possible; it must have at least 1 item after "
    "validation, not 0",
    "loss_functions=[5]": f"loss_functions[0]: 5 is not possible; {MAPPING}",
    "loss_functions=[{'energy': 5}]": f"loss_functions[0].energy: 5 is not possible; {MAPPING}",
    "loss_functions=[{'energy': {}}]": "loss_functions[0].energy.fn is missing; for example mae",
    "loss_functions=[{'energy': {'fn': 3, 'coefficient': 1}}]":
    "loss_functions[0].energy.fn: 3 is not possible; it must be a valid string",
    "loss_functions=[{'energy': {'fn': 'mae'}}]": "loss_functions[0].energy.coefficient is "
    "missing; for example 1.0",
    "loss_functions=[{'energy': {'fn': 'mae', 'coefficient': -1}}]":
    "loss_functions[0].energy.coefficient: -1 is not possible; it must be greater than or equal "
    "to 0",
    "loss_functions=[{'energy': {'fn': 'mae', 'coefficient': 1e999}}]": "coefficient: inf is not",
    "loss_functions=[{'energy': {'fn': 'mae', 'coefficient': 1, 'reduction': 'most'}}]":
    "loss_functions[0].energy.reduction: 'most' is not possible; it must be 'mean', 'sum' or None",
    "loss_functions=[{'energy': {'fn': 'mae', 'coefficient': 1, 'noise': 1}}]":
    "loss_functions.energy.noise is an unknown key; known are coefficient, fn, reduction",
    "loss_functions=[{'energy': {'fn': 'mae', 'coefficient': 1}},"
    "{'energy': {'fn': 'mse', 'coefficient': 1}}]": "loss_functions has 2 entries 'energy'",
    "loss_functions=[{'bound': {'fn': 'bound', 'coefficient': 1, 'noise': -1}}]":
    "loss_functions.bound.noise: -1 is not possible; it must be greater than or equal to 0",
    "loss_functions=[{'bound': {'fn': 'bound', 'coefficient': 1, 'noise': '1'}}]":
    "loss_functions.bound.noise: '1' is not possible; it must be a valid number",
    "loss_functions=[{'m': {'fn': 'masked_atoms', 'coefficient': 1, 'mask_ratio': 2}}]":
    "loss_functions.m.mask_ratio: 2 is not possible; it must be less than or equal to 1",
    "seed=-1": "seed: -1 is not possible; it must be greater than or equal to 0",
    "print_every=0": "print_every: 0 is not possible; it must be greater than or equal to 1",
    "gp_gpus=0": "gp_gpus: 0 is not possible",
    "trainer=3": "trainer: 3 is not possible; it must be a valid string",
    "logger=None": "logger: None is not possible; it must be a valid string or a mapping of keys "
    "to values",
    "logger=tensorbord": "logger has the unknown name 'tensorbord'; did you mean 'tensorboard'?",
    "logger={'project': 'x'}": "logger.name is missing; a name that fairchem knows, or an import "
    "path",
    "slurm=5": f"slurm: 5 is not possible; {MAPPING}",
    "hide_eval_progressbar=yes": "hide_eval_progressbar: 'yes' is not possible; it must be a "
    "valid boolean",
    "model.name=3": "model.name: 3 is not possible; it must be a valid string",
    "model.num_layers=0": "model.num_layers: 0 is not possible; it must be greater than or equal "
    "to 1",
    "model.num_layers=2.5": "model.num_layers: 2.5 is not possible; it must be a valid integer",
    "model.num_layers=True": "model.num_layers: True is not possible; it must be a valid integer",
    "model.cutoff=0": "model.cutoff: 0 is not possible; it must be greater than 0",
    "model.cutoff=1e999": "model.cutoff: inf is not possible; it must be a finite number",
    "model.readout=sum": "model.readout: 'sum' is not possible; it must be 'atom', 'bonds', "
    "'cls' or 'physics'",
    "model.otf_graph=False": "model.otf_graph: False is not possible; it must be True",
    "model.use_cls=1": "model.use_cls: 1 is not possible; it must be a valid boolean",
    "dataset.trian.src=x": "dataset.trian: 'trian' is not possible; it must be 'train', 'val', "
    "'test' or 'relax'",
    "dataset.train.src=5": "dataset.train.src: 5 is not possible; it must be a valid string or a "
    "valid list",
    "dataset.val.src=None": "dataset.val.src is missing; for example data/qm9/train",
    "dataset.val.src=[]": "dataset.val.src: [] is not possible; it must be a valid string or it "
    "must have at least 1 item",
    "dataset.train.format=5": "dataset.train.format: 5 is not possible; it must be a valid string",
    "dataset.train.first_n=0": "dataset.train.first_n: 0 is not possible; it must be",
    "dataset.val.first=3": "dataset.val.first is an unknown key; did you mean 'first_n'?",
    "dataset.train.key_mapping.y=5": "dataset.train.key_mapping.y: 5 is not possible; it must be",
    "dataset.train.transforms.normalizer.energy.stdev=0":
    "dataset.train.transforms.normalizer.energy.stdev: 0 is not possible; it must be greater "
    "than 0",
    "dataset.train.transforms.normalizer.energy.std=1":
    "dataset.train.transforms.normalizer.energy.std is an unknown key; did you mean 'stdev'?",
    "dataset.train.transforms.element_references.fit.batch_size=0":
    "element_references.fit.batch_size: 0 is not possible",
    "outputs.energy.level=molecule": "outputs.energy.level: 'molecule' is not possible; it must "
    "be 'system' or 'atom'",
    "outputs.energy.prediction_dtype=float64": "outputs.energy.prediction_dtype: 'float64' is not",
    "evaluation_metrics.metrics.energy=mae": "evaluation_metrics.metrics.energy: 'mae' is not "
    "possible; it must be a valid list",
    "evaluation_metrics.metrics.energy=['maee']": "evaluation_metrics.metrics.energy has the "
    "unknown metric 'maee'; did you mean 'mae'?",
    "evaluation_metrics.primary_metric=energy_mse": "evaluation_metrics.primary_metric has the "
    "unknown metric 'energy_mse'; did you mean 'energy_mae'?",
    "evaluation_metrics={'metrics': {'energy': ['mae', 'mse']}, 'primary_metric': 'energy_mse'}":
    "evaluation_metrics.primary_metric energy_mse is an error",
    "optim.batch_size=1.5": "optim.batch_size: 1.5 is not possible; it must be a valid integer",
    "optim.batch_size=None": "optim.batch_size is missing; for example 32",
    "optim.batch_size='8'": "optim.batch_size: '8' is not possible; it must be a valid integer",
    "optim.batch_size=[8]": "optim.batch_size: [8] is not possible; it must be a valid integer",
    "optim.num_workers=-1": "optim.num_workers: -1 is not possible; it must be greater than or "
    "equal to 0",
    "optim.lr_initial=-1": "optim.lr_initial: -1 is not possible; it must be greater than or "
    "equal to 0",
    "optim.lr_initial=nan": "optim.lr_initial: 'nan' is not possible; it must be a valid number",
    "optim.lr_initial='1e-3'": "; it must be a valid number; YAML takes this for text",
    "optim.max_epochs=0": "optim.max_epochs: 0 is not possible; it must be greater than or equal "
    "to 1",
    "optim.max_seconds=0": "optim.max_seconds: 0 is not possible; it must be greater than 0",
    "optim.eval_every=0": "optim.eval_every: 0 is not possible; it must be greater than or equal "
    "to 1",
    "optim.ema_decay=2": "optim.ema_decay: 2 is not possible; it must be less than 1",
    "optim.ema_decay=1": "optim.ema_decay: 1 is not possible; it must be less than 1",
    "optim.optimizer=LBFGS": "optim: LBFGS.step() missing 1 required positional argument",
    "optim.clip_grad_norm=-1": "optim.clip_grad_norm: -1 is not possible",
    "optim.load_balancing=atom": "optim.load_balancing: 'atom' is not possible; it must be "
    "'atoms', 'neighbors' or None",
    "optim.optimizer=3": "optim.optimizer: 3 is not possible; it must be a valid string",
    "optim.optimizer_params.weight_decy=1": "optim.optimizer_params.weight_decy is an unknown "
    "key; did you mean 'weight_decay'?",
    "optim.optimizer_params.weight_decay=-1": "optim: Invalid weight_decay value: -1",
    "optim.optimizer_params.betas=[2, 2]": "optim: Invalid beta parameter at index 0: 2",
    "optim.scheduler=3": "optim.scheduler: torch.optim.lr_scheduler has no 3",
    "task.eval_relaxations=True": "task.eval_relaxations: True is not possible; it must be False",
    "task.relax_cell=True": "task.relax_cell: True is not possible; it must be False",
    "task.prediction_dtype=float64": "task.prediction_dtype: 'float64' is not possible; it must "
    "be",
    "task.relaxation_steps=-1": "task.relaxation_steps: -1 is not possible; it must be greater "
    "than or equal to 0",
    "task.relaxation_fmax=small": "task.relaxation_fmax: 'small' is not possible",
    "task.relax_opt.memory=few": "task.relax_opt.memory: 'few' is not possible; it must be a "
    "valid integer",
    "task.relax_opt.memmory=3": "task.relax_opt.memmory is an unknown key; did you mean 'memory'?",
}  # fmt: skip


def test_all_structures_are_relaxed():
    message = refusal("dataset.relax.src=data/is2re", "dataset.relax.sample_n=3")
    assert "dataset.relax.sample_n: all structures are relaxed; leave it out" in message


@pytest.mark.parametrize("override", VALUES)
def test_impossible_values(override):
    assert VALUES[override] in refusal(override)


def test_weights_that_nothing_trains_are_refused():
    energy = "loss_functions=[{'energy': {'fn': 'mae', 'coefficient': 1}}]"
    assert "model.use_masking adds weights" in refusal("model.use_masking=True", energy)


SCHNET = {
    "model.hidden_channels=wide": "model.hidden_channels: 'wide' is not possible; it must be a",
    "model.cutof=5": "model.cutof is an unknown key; did you mean 'cutoff'?",
    "model.energy_model=5": f"model.energy_model: 5 is not possible; {MAPPING}",
    "model.energy_model.num_filters=many": "model.energy_model.num_filters: 'many' is not possible",
}


@pytest.mark.parametrize("override", SCHNET)
def test_options_of_fairchems_models(override):
    """Their constructors say which there are and of what type."""
    inner = "energy_model" in override
    config = "configs/qm9/schnet.yml" if inner else "configs/is2re/schnet.yml"
    assert SCHNET[override] in refusal(override, config=config)


def test_every_shipped_config_has_values_that_its_keys_may_have():
    """Their data are not here, which is all that is wrong with them."""
    for path in sorted(REPOSITORY.glob("configs/*/*.yml")):
        content = yaml.safe_load(path.read_text())
        if "base" not in path.stem and content.keys() & Config.model_fields.keys():
            message = refusal("dataset.train.src=nowhere", config=path.relative_to(REPOSITORY))
            assert "dataset.train.src: nowhere does not exist" in message, path


EMPTY = {
    "outputs": "outputs: {} is not possible; it must have at least 1 item",
    "model": "model.name is missing; a name that fairchem knows, or an import path",
    "dataset": "dataset.train.src is missing; for example data/qm9/train",
    "evaluation_metrics": "evaluation_metrics.primary_metric is missing; for example energy_mae",
    "optim": "optim.batch_size is missing; for example 32",
}


@pytest.mark.parametrize("section", EMPTY)
def test_empty_and_missing_sections(section):
    args, config = read(CONFIG)
    config[section] = {}
    with pytest.raises(UserError) as error:
        check_config(args, config)
    assert EMPTY[section] in str(error.value)
    del config[section]
    with pytest.raises(UserError, match=f"{section} is missing; for example"):
        check_config(args, config)


CATALYSTS = [
    path.relative_to(REPOSITORY)
    for task in ("s2ef", "is2re")
    for path in sorted(REPOSITORY.glob(f"configs/{task}/*.yml"))
    if not path.match("*base.yml")
]


@pytest.mark.parametrize("config", CATALYSTS, ids=str)
def test_shipped_configs_fit_the_data(config, emt_folder):
    """Whatever the size of the model, all keys are known and all labels found."""
    data = emt_folder / config.parent.name
    sources = [f"dataset.train.src={data / 'train'}", f"dataset.val.src={data / 'val_id'}"]
    if config.stem == "relaxation":
        sources.append(f"dataset.relax.src={emt_folder / 'is2re/val_id'}")
        sources.append("task.relax_opt.traj_dir=trajectories")
    args, content = read(config, *sources)
    if config.stem == "relaxation":
        args.mode = content["mode"] = "run-relaxations"
    check_config(args, content)


def test_shipped_configs_are_found_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("qm9/recommended.yml", "configs/qm9/recommended.yml"):
        assert find_config(Path(name)).samefile(REPOSITORY / "configs/qm9/recommended.yml")
    assert find_config(Path("nowhere.yml")) == Path("nowhere.yml")
    (tmp_path / "configs/qm9").mkdir(parents=True)
    own = tmp_path / "configs/qm9/recommended.yml"
    own.touch()
    assert find_config(Path("configs/qm9/recommended.yml")).samefile(own)
    assert not find_config(Path("qm9/recommended.yml")).samefile(own)


def test_checks_change_nothing(qm9_folder):
    splits = [f"dataset.{split}.src={qm9_folder / split}" for split in ("train", "val", "test")]
    args, config = read(CONFIG, *splits)
    setup_imports(config)
    before = yaml.dump(config)
    completed = check_config(args, config)
    assert yaml.dump(config) == before
    assert completed["model"]["use_masking"] is True


def test_keys_that_fairchem_reads_are_allowed(qm9_folder):
    splits = [f"dataset.{split}.src={qm9_folder / split}" for split in ("train", "val", "test")]
    more = ["task.prediction_dtype=float32", "task.dataset=lmdb", "dataset.val.first_n=1",
            "dataset.val.no_shuffle=None", "optim.load_balancing=atoms", "logger={'name': "
            "'wandb', 'project': 'x', 'watch': 100}", "slurm={'exclusive': True}",
            "outputs.energy.property=energy"]  # fmt: skip
    args, config = read(CONFIG, *splits, *more)
    assert check_config(args, config)["task"]["dataset"] == "lmdb"


def test_numbers_are_finite_also_where_no_schema_reaches():
    args, config = read(CONFIG)
    config["slurm"] = {"mem": [1, math.inf]}
    with pytest.raises(UserError, match=r"slurm\.mem\.1: inf is not possible; it must be a finite"):
        check_config(args, config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.cutoff=1e30",
            "model.cutoff: 1e+30 is not possible; it must be less than or equal to 40",
        ),
        ("model.num_layers=100000", "num_layers: 100000 is not possible; it must be at most 1000"),
        ("model.hidden_channels=1000000000000", "it must be at most 1e+06"),
    ],
)
def test_models_that_would_never_be_built(override, message):
    assert message in refusal(override)


def test_sizes_in_lists_of_models_inside():
    lists = "model.energy_model.lmax_list=[1000000]"
    message = refusal(lists, config="configs/s2ef/small_equiformer_v2.yml")
    assert "energy_model.lmax_list.0: 1000000 is not possible; it must be at most 1000" in message
