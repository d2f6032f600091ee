"""What differs between experiments on molecules and on surfaces: data and judging."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ocp_physmol.datasets import surfaces
from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.molecule_sets import MOLECULES
from ocp_physmol.evaluation.vibrations import require_frequencies
from ocp_physmol.experiments.experiment_files import Experiment, Run, Surfaces
from ocp_physmol.experiments.launch import ocp_physmol
from ocp_physmol.experiments.quickstart import make_data


class Task(Protocol):
    """Where the trainings of an experiment have their data from, and how they are judged."""

    def prepare(self, runs: Iterable[Run]) -> None:
        """Make the data that are missing for the runs; a UserError if that is not possible."""

    def judging(self, run: Run, folder: Path, record: Path) -> list[str]:
        """The command that judges the model trained in `folder` and writes the record."""


@dataclass(frozen=True)
class OnMolecules:
    """Molecules of QM9."""

    data: Path
    molecules: int  # to relax
    max_heavy_atoms: int

    def prepare(self, runs: Iterable[Run]) -> None:
        make_data(self.data, runs, self.max_heavy_atoms)
        require_frequencies(self.data / "test")

    def judging(self, run: Run, folder: Path, record: Path) -> list[str]:
        options = ("--output", record, "--data", self.data, "--molecules", self.molecules)
        return ocp_physmol("judge", folder, *options)


@dataclass(frozen=True)
class OnSurfaces:
    """Relaxations of adsorbates on surfaces."""

    data: Path
    source: Path | None  # the relaxations, from which the data are made
    options: Surfaces

    def prepare(self, runs: Iterable[Run]) -> None:
        splitting = self.options.model_dump(include=set(surfaces.Splitting.model_fields))
        surfaces.make(self.source, self.data, surfaces.Splitting(**splitting))

    def judging(self, run: Run, folder: Path, record: Path) -> list[str]:
        part = surfaces.part_folder(self.data, run.part)
        options = ("--steps", self.options.steps, "--fmax", self.options.fmax)
        return ocp_physmol("judge-surfaces", folder, "--output", record, "--data", part, *options)


def task_of(
    experiment: Experiment, data: Path | None, source: Path | None, molecules: int | None
) -> Task:
    """The task of an experiment; a UserError for an option that belongs to the other one."""
    folder = data or experiment.default_data
    if experiment.surfaces:
        if molecules is not None:
            raise UserError("--molecules: this experiment has surfaces; leave the option out")
        return OnSurfaces(folder, source, experiment.surfaces)
    if source is not None:
        raise UserError("--source: this experiment has molecules; leave the option out")
    return OnMolecules(folder, molecules or MOLECULES, experiment.max_heavy_atoms)
