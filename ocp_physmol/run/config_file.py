"""Configs as files: the shipped ones are found from anywhere."""

import argparse
from pathlib import Path

import yaml
from fairchem.core.common.utils import build_config

from ocp_physmol.errors import UserError

UNREADABLE = (OSError, yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError)
SHIPPED = Path(__file__).parents[1] / "configs"


def find_config(path: Path) -> Path:
    """The file itself, or else the shipped config of that name, as qm9/physmol.yml."""
    if path.is_fifo() and path.parts[1:2] not in (("dev",), ("proc",)):  # it may have no other end
        raise UserError(f"{path} is a pipe; give a file")
    shipped = SHIPPED / (path.relative_to("configs") if path.parts[:1] == ("configs",) else path)
    return shipped if not path.exists() and shipped.is_file() else path


def read_config(args: argparse.Namespace, overrides: list[str]) -> dict:
    """The configuration with its includes and overrides; a UserError if it cannot be read."""
    args.config_yml = find_config(args.config_yml)
    try:
        return build_config(args, overrides)
    except UNREADABLE as e:
        problem = " ".join(str(e).split())
        if isinstance(e, TypeError) or problem.startswith("Expecting dict"):
            problem = "it, a file that it includes or a section that is overridden has no keys"
        raise UserError(f"config {args.config_yml} cannot be read: {problem}") from e
