"""The config of a training on one's own files: own.yml with their folders and the budget."""

import argparse
from pathlib import Path

import yaml
from fairchem.core.common.flags import flags

from ocp_physmol.fairchem_compat.warnings_filter import without_fairchems_warnings
from ocp_physmol.run import cli, schema
from ocp_physmol.run.check_config import check_config
from ocp_physmol.run.config_file import read_config

BASE = "configs/s2ef/own.yml"
MOST_TO_VALIDATE = 1000  # frames; more would take longer than they tell
UNLIMITED = 10**9  # epochs


def read_base(
    output: Path, seconds: float | None, epochs: int | None, overrides: list[str]
) -> tuple[argparse.Namespace, dict]:
    """The command line of `main.py` for a training into `output`, and its config.

    `overrides` are of the form --section.key=value; anything else is a UserError.
    """
    budget = [f"--optim.max_seconds={seconds}", f"--optim.max_epochs={epochs or UNLIMITED}"]
    command_line = ["--mode", "train", "--config-yml", BASE, "--run-dir", str(output), "--cpu"]
    args, unknown = flags.get_parser().parse_known_args([*command_line, *budget, *overrides])
    cli.check_arguments(args, unknown)
    return args, read_config(args, unknown)


def write_config(args: argparse.Namespace, config: dict, output: Path, report: dict) -> Path:
    """Write `output`/config.yml, complete and without includes, and return its path.

    `report` is that of the data in `output`/data. A config that no training can start with is a
    UserError.
    """
    for split in ("train", "val"):  # fairchem would predict a test split with each best model
        config["dataset"][split]["src"] = str((output / "data" / split).resolve())
    if report["splits"]["val"]["frames"] > MOST_TO_VALIDATE:
        config["dataset"]["val"]["sample_n"] = MOST_TO_VALIDATE
    with without_fairchems_warnings():
        check_config(args, config)
    own = {key: config[key] for key in schema.Config.model_fields if key in config}
    about = f"# {BASE} for the data of {report['source']}; energies in eV, forces in eV/Angstrom"
    path = output / "config.yml"
    path.write_text(f"{about}\n{yaml.safe_dump(own, sort_keys=False)}", encoding="utf-8")
    return path
