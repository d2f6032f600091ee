"""What the commands for molecules are asked: the options that they share, and what these open."""

from pathlib import Path
from typing import NamedTuple

import click

from ocp_physmol.errors import UserError
from ocp_physmol.molecules.methods import METHODS, MODELS, Method, open_methods
from ocp_physmol.molecules.structures import Structure, read
from ocp_physmol.option_types import COUNT, PATH, POSITIVE


class Request(NamedTuple):
    """The values of `request_options`."""

    methods: tuple[str, ...]
    models: tuple[Path, ...]
    files: tuple[Path, ...]
    smiles: tuple[str, ...]
    fmax: float  # eV/Angstrom
    steps: int
    output: Path

    def folder(self, method: str) -> Path:
        """Where the results of a method go: one of its own, if there are several."""
        several = len(set(self.methods)) > 1
        return self.output / method.replace(":", "-") if several else self.output

    def opened(
        self,
    ) -> tuple[list[Structure], list[tuple[Structure, UserError]], dict[str, Method]]:
        """Structures, those that are unfit, and methods by name; a UserError for what cannot be
        opened."""
        return *read(self.files, self.smiles), open_methods(self.methods, self.models)


def request_options(fmax: float, steps: int, output: str) -> list[click.Parameter]:
    """The fields of `Request` as arguments and options, with these defaults."""
    return [
        click.Argument(["files"], nargs=-1, type=PATH),
        METHODS,
        MODELS,
        click.Option(
            ["--smiles"], multiple=True,
            help="A molecule, placed by RDKit; any number of times.",
        ),
        click.Option(
            ["--fmax"], type=POSITIVE, default=fmax, help="Largest force that may be left, eV/Å."
        ),
        click.Option(["--steps"], type=COUNT, default=steps, help="At most, of each structure."),
        click.Option(
            ["--output"], type=PATH, default=output,
            help="Folder to write to, with a folder in it for each of several methods.",
        ),
    ]  # fmt: skip
