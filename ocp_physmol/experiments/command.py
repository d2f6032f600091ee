"""Trainings of the same length, judged alike: ocp-physmol experiments --help"""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.molecule_sets import MOLECULES
from ocp_physmol.evaluation.vibrations import require_frequencies
from ocp_physmol.experiments.experiment_files import Run, read_experiment
from ocp_physmol.experiments.launch import Chain, launch, ocp_physmol
from ocp_physmol.experiments.provenance import provenance
from ocp_physmol.experiments.quickstart import make_data
from ocp_physmol.experiments.records import read_record
from ocp_physmol.experiments.tables import TABLE1, plain, table
from ocp_physmol.files import write_json
from ocp_physmol.option_types import COUNT, PATH, SECONDS


@click.command("experiments", context_settings={"show_default": True})
@click.argument("experiment", type=PATH)
@click.option("--data", type=PATH, default="data/quickstart", help="Splits; made if not there.")
@click.option("--runs", type=PATH, default="runs/experiments", help="For checkpoints and logs.")
@click.option("--records", type=PATH, default="records", help="Folder for records.")
@click.option("--seconds", type=SECONDS, help="Of each training, not as the file says.")
@click.option("--only", multiple=True, metavar="NAME", help="A run to do, any number of times.")
@click.option("--jobs", type=COUNT, default=1, help="Runs at the same time.")
@click.option("--molecules", type=COUNT, default=MOLECULES, help="To relax in judging.")
@click.option("--again", is_flag=True, help="Do anew what is finished, or was trained otherwise.")
def command(
    experiment: Path,
    data: Path,
    runs: Path,
    records: Path,
    seconds: float | None,
    only: Sequence[str],
    jobs: int,
    molecules: int,
    again: bool,
) -> None:
    """Train and judge every run that the file EXPERIMENT lists.

    The measurements of a run are written to records/EXPERIMENT/RUN.json. Started again, the command
    goes on where it was.

    \b
    ocp-physmol experiments configs/qm9/experiments/table1.yml --jobs 2
    """
    title, listed = read_experiment(experiment, data, seconds)
    for name in only:
        if name not in listed:
            names = ", ".join(f"'{n}'" for n in listed)
            raise UserError(f"--only '{name}': {experiment} has no such run; it has {names}")
    make_data(data)
    require_frequencies(data / "test")
    options = {"seconds": (seconds, None), "molecules": (molecules, MOLECULES), "jobs": (jobs, 1)}
    changed = [f"--{name} {v:g}" for name, (v, default) in options.items() if v != default]
    shared = {"experiment": experiment.stem, "title": title, **provenance(jobs)}
    chains, paths = {}, {}
    for name, run in listed.items():
        folder = runs / experiment.stem / run.slug
        paths[name] = records / experiment.stem / f"{run.slug}.json"
        if (only and name not in only) or (paths[name].is_file() and not again):
            continue
        if again:
            shutil.rmtree(folder, ignore_errors=True)
        same = shlex.join(["ocp-physmol", "experiments", str(experiment), "--only", name])
        described = {**shared, "command": " ".join([same, *changed, "--again"])}
        judging = ("--output", paths[name], "--data", data, "--molecules", molecules)
        chains[name] = _chain(run, folder, described, judging)
    failed = launch(chains, jobs, "Experiment", go_on=True) if chains else {}
    done = [read_record(path) for path in paths.values() if path.is_file()]
    if done:
        shown = plain(table(done, TABLE1.values()))
        click.echo(f"\n{title}\n\n{shown}\n\nRecords: {records}")
    if failed:
        reasons = "; ".join(f"'{name}' ({end.strip()})" for name, end in failed.items())
        raise UserError(
            f"{len(failed)} of {len(chains)} runs failed: {reasons}; their logs are "
            f"{runs / experiment.stem}/*/log.txt, and the same command goes on with what is "
            "unfinished"
        )


def _chain(run: Run, folder: Path, described: dict, judging: Sequence[object]) -> Chain:
    """Write all of the record that is known before training, and return the commands of a run."""
    config = folder / "config.yml"
    if config.is_file() and config.read_text() != run.as_yaml():
        raise UserError(
            f"{config} is not the config that '{run.name}' now has; add --again to train it anew, "
            "or name another folder with --runs"
        )
    description = {
        "name": run.name,
        "place": run.place,
        "note": run.entry.note,
        "paper": run.entry.paper,
        "config": {"path": run.entry.config, "complete": run.config},
        "seed": run.entry.seed,
        "seconds": run.seconds,
        **described,
    }
    write_json(folder / "run.json", description, indent=1)
    return run.chain(folder, run.entry.seed, judging=ocp_physmol("judge", folder, *judging))
