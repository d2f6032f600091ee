"""Trainings of the same length, judged alike: ocp-physmol experiments --help"""

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.vibrations import require_frequencies
from ocp_physmol.experiments.experiment_files import Run, read_experiment
from ocp_physmol.experiments.launch import Chain, launch, ocp_physmol
from ocp_physmol.experiments.options import COUNT, FOLDER, MOLECULES, SECONDS
from ocp_physmol.experiments.provenance import provenance
from ocp_physmol.experiments.quickstart import make_data
from ocp_physmol.experiments.records import read_record
from ocp_physmol.experiments.tables import TABLE1, plain, table
from ocp_physmol.files import write_json


@dataclass(frozen=True)
class Options:
    """The options of the command that its runs depend on."""

    experiment: Path
    data: Path
    runs: Path
    records: Path
    seconds: float | None
    jobs: int
    molecules: int
    again: bool

    def record(self, run: Run) -> Path:
        """The file with the measurements of a run."""
        return self.records / self.experiment.stem / f"{run.slug}.json"


@click.command("experiments", context_settings={"show_default": True})
@click.argument("experiment", type=FOLDER)
@click.option("--data", type=FOLDER, default="data/quickstart", help="Made if it is not there.")
@click.option("--runs", type=FOLDER, default="runs/experiments", help="For checkpoints and logs.")
@click.option("--records", type=FOLDER, default="records", help="Folder for records.")
@click.option("--seconds", type=SECONDS, help="Of each training, not as the file says.")
@click.option("--only", multiple=True, metavar="NAME", help="A run to do, any number of times.")
@click.option("--jobs", type=COUNT, default=1, help="Runs at the same time.")
@click.option("--molecules", type=COUNT, default=MOLECULES, help="To relax in judging.")
@click.option("--again", is_flag=True, help="Do anew what is finished, or was trained otherwise.")
def command(only: Sequence[str], **given: Any) -> None:
    """Train and judge every run that the file EXPERIMENT lists.

    The measurements of a run are written to records/EXPERIMENT/RUN.json. Started again, the command
    goes on where it was.

    \b
    ocp-physmol experiments configs/qm9/experiments/table1.yml --jobs 2
    """
    options = Options(**given)
    title, runs = read_experiment(options.experiment, options.data, options.seconds)
    for name in only:
        if name not in runs:
            raise UserError(
                f"--only '{name}': {options.experiment} has no such run; it has "
                + ", ".join(f"'{n}'" for n in runs)
            )
    make_data(options.data)
    require_frequencies(options.data / "test")
    chains = {
        name: _chain(run, title, options)
        for name, run in runs.items()
        if (not only or name in only) and (options.again or not options.record(run).is_file())
    }
    failed = launch(chains, options.jobs, "Experiment", go_on=True) if chains else {}
    paths = [options.record(run) for run in runs.values()]
    done = [read_record(path) for path in paths if path.is_file()]
    if done:
        shown = plain(table(done, TABLE1.values()))
        click.echo(f"\n{title}\n\n{shown}\n\nRecords: {options.records}")
    if failed:
        reasons = "; ".join(f"'{name}' ({end.strip()})" for name, end in failed.items())
        raise UserError(
            f"{len(failed)} of {len(chains)} runs failed: {reasons}; their logs are "
            f"{options.runs / options.experiment.stem}/*/log.txt, and the same command goes on "
            "with what is unfinished"
        )


def _chain(run: Run, title: str, options: Options) -> Chain:
    """Write the description of a run, and return the commands that train and judge it."""
    folder = options.runs / options.experiment.stem / run.slug
    if options.again:
        shutil.rmtree(folder, ignore_errors=True)
    config = folder / "config.yml"
    if config.is_file() and config.read_text() != run.as_yaml():
        raise UserError(
            f"{config} is not the config that '{run.name}' now has; add --again to train it anew, "
            "or name another folder with --runs"
        )
    write_json(folder / "run.json", _description(run, title, options), indent=1)
    judging = ("--output", options.record(run), "--data", options.data,
               "--molecules", options.molecules)  # fmt: skip
    commands = {
        "training": run.training(folder, run.entry.seed),
        "judging": ocp_physmol("judge", folder, *judging),
    }
    return Chain(commands, folder / "log.txt")


def _description(run: Run, title: str, options: Options) -> dict:
    """The part of a record that is known before training."""
    again = ["ocp-physmol", "experiments", str(options.experiment), "--only", run.name]
    for name, default in (("seconds", None), ("molecules", MOLECULES), ("jobs", 1)):
        value = getattr(options, name)
        if value != default:
            again += [f"--{name}", f"{value:g}"]
    return {
        "name": run.name,
        "experiment": options.experiment.stem,
        "title": title,
        "place": run.place,
        "note": run.entry.note,
        "paper": run.entry.paper,
        "config": {"path": run.entry.config, "complete": run.config},
        "command": shlex.join([*again, "--again"]),
        "seed": run.entry.seed,
        "seconds": run.seconds,
        **provenance(options.jobs),
    }
