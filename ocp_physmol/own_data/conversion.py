"""The folder of a training on one's own files: its data are made once, and recognised again."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from ocp_physmol.datasets.ase_files import convert, differing_file
from ocp_physmol.errors import UserError
from ocp_physmol.files import REPORT


def make_data(sources: Sequence[Path], output: Path, seed: int) -> dict:
    """Fill `output`/data, unless it holds these files' data; return the report of `convert`.

    A UserError if `output` holds anything else, or data of other files or of another seed.
    """
    written = output / "data" / REPORT
    if not written.is_file():
        if output.exists() and not output.is_dir():
            raise UserError(f"{output} is a file; choose another --output")
        if output.exists() and any(path.name[0] != "." for path in output.iterdir()):
            raise UserError(
                f"{output} exists and holds no training of ours; choose another --output"
            )
        return convert(sources, output / "data", seed=seed)
    report = json.loads(written.read_text())
    cure = "choose another --output, or remove this one to begin anew"
    if differing := differing_file(report, sources):
        raise UserError(f"{output} holds a training on other data ({differing} differs); {cure}")
    if report["seed"] != seed:
        raise UserError(f"{output} holds a training with --seed {report['seed']}; {cure}")
    click.echo(f"{output} holds the data of these files; going on with its training.")
    return report
