"""A config with changed keys, and the sentence with which it is refused."""

import argparse

import pytest
from conftest import REPOSITORY
from fairchem.core.common.flags import flags

from ocp_physmol.errors import UserError
from ocp_physmol.run.check_config import check_config
from ocp_physmol.run.config_file import read_config

CONFIG = "configs/qm9/quickstart.yml"


def read(config: str, *overrides: str) -> tuple[argparse.Namespace, dict]:
    args = ["--mode", "train", "--config-yml", str(REPOSITORY / config), "--cpu"]
    args, _ = flags.get_parser().parse_known_args(args)
    return args, read_config(args, [f"--{override}" for override in overrides])


def refusal(*overrides: str, config: str = CONFIG) -> str:
    args, content = read(config, *overrides)
    with pytest.raises(UserError) as error:
        check_config(args, content)
    message = str(error.value)
    assert message.startswith(f"config {REPOSITORY / config}: ") and "\n" not in message
    return message
