"""The config of a training on one's own files: a shipped one with their folders and the budget."""

import argparse
from pathlib import Path

import yaml
from fairchem.core.common.flags import flags

from ocp_physmol.errors import UserError
from ocp_physmol.experiments.launch import LAST
from ocp_physmol.fairchem_compat.warnings_filter import without_fairchems_warnings
from ocp_physmol.files import complete_or_absent
from ocp_physmol.run import cli, schema
from ocp_physmol.run.check_config import check_config
from ocp_physmol.run.config_file import read_config

BASES = {
    "physmol": "configs/s2ef/own.yml",
    "painn": "configs/s2ef/own_painn.yml",
    "schnet": "configs/s2ef/own_schnet.yml",
}
MOST_TO_VALIDATE = 1000  # frames; more would take longer than they tell
UNLIMITED = 10**9  # epochs


def read_base(
    model: str, output: Path, seconds: float | None, epochs: int | None, overrides: list[str]
) -> tuple[argparse.Namespace, dict]:
    """The command line of `main.py` for a training into `output`, and its config.

    `model` is one of BASES. Overrides that are not of the form --section.key=value are a UserError.
    """
    for text in overrides:  # main.py's own options would be lost
        if "." not in text.partition("=")[0]:
            raise UserError(
                f"unknown option '{text}'; a config key is overridden by --section.key=value, and "
                "`ocp-physmol train --config-yml FILE` has all options of a training"
            )
    budget = [f"--optim.max_seconds={seconds}", f"--optim.max_epochs={epochs or UNLIMITED}"]
    command_line = ["--mode", "train", "--config-yml", BASES[model]]
    command_line += [f"--run-dir={output}", "--cpu"]  # its name may begin with a dash
    args = flags.get_parser().parse_args(command_line)
    cli.check_arguments(args, [*budget, *overrides])
    return args, read_config(args, [*budget, *overrides])


def write_config(args: argparse.Namespace, config: dict, output: Path, report: dict) -> Path:
    """Write `output`/config.yml, complete and without includes, and return its path.

    `report` is that of the data in `output`/data. A config that no training can start with, or go
    on with where there is one, is a UserError.
    """
    for split in ("train", "val"):  # fairchem would predict a test split with each best model
        config["dataset"][split]["src"] = str((output / "data" / split).resolve())
    val = config["dataset"]["val"]
    chosen = val.keys() & {"sample_n", "first_n", "no_shuffle"}
    if report["splits"]["val"]["frames"] > MOST_TO_VALIDATE and not chosen:
        val["sample_n"] = MOST_TO_VALIDATE
    with without_fairchems_warnings():
        check_config(args, config)
    own = {key: config[key] for key in schema.Config.model_fields if key in config}
    units = "energies in eV, forces in eV/Angstrom"
    about = f"# {args.config_yml} for the data of {report['source']}; {units}"
    path = output / "config.yml"
    trained = (output / LAST).is_file() and path.is_file()
    if trained and yaml.safe_load(path.read_text(encoding="utf-8"))["model"] != own["model"]:
        raise UserError(
            f"{output} holds a training of another model, that of {path}; give the same options "
            "--model and --model.*, or choose another --output"
        )
    with complete_or_absent(path) as partial:
        partial.write_text(f"{about}\n{yaml.safe_dump(own, sort_keys=False)}", encoding="utf-8")
    return path
