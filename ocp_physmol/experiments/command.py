"""Trainings of the same length, judged alike: ocp-physmol experiments --help"""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.molecule_sets import MOLECULES
from ocp_physmol.experiments.experiment_files import Experiment, Run, read_experiment
from ocp_physmol.experiments.launch import Chain, launch
from ocp_physmol.experiments.provenance import provenance
from ocp_physmol.experiments.records import compact, read_record
from ocp_physmol.experiments.surface_table import table_of
from ocp_physmol.experiments.tables import plain
from ocp_physmol.experiments.tasks import task_of
from ocp_physmol.files import write_json
from ocp_physmol.option_types import COUNT, PATH, SECONDS


@click.command("experiments", context_settings={"show_default": True})
@click.argument("experiment", type=PATH)
@click.option(
    "--data", type=PATH, show_default="data/quickstart, or data/surfaces",
    help="Splits; made if not there.",
)  # fmt: skip
@click.option("--source", type=PATH, help="Relaxations on surfaces, to make splits of.")
@click.option("--runs", type=PATH, default="runs/experiments", help="For checkpoints and logs.")
@click.option("--records", type=PATH, default="records", help="Folder for records.")
@click.option("--seconds", type=SECONDS, help="Of each training, not as the file says.")
@click.option(
    "--only", multiple=True, metavar="NAME",
    help="A run, or a model with all of its runs; any number of times.",
)  # fmt: skip
@click.option("--jobs", type=COUNT, default=1, help="Runs at the same time.")
@click.option("--molecules", type=COUNT, show_default=str(MOLECULES), help="To relax in judging.")
@click.option("--again", is_flag=True, help="Do anew what is finished, or was trained otherwise.")
def command(
    experiment: Path,
    data: Path | None,
    source: Path | None,
    runs: Path,
    records: Path,
    seconds: float | None,
    only: Sequence[str],
    jobs: int,
    molecules: int | None,
    again: bool,
) -> None:
    """Train and judge every run that the file EXPERIMENT lists.

    The measurements of a run are written to records/EXPERIMENT/RUN.json. Started again, the command
    goes on where it was.

    \b
    ocp-physmol experiments configs/qm9/experiments/table1.yml --jobs 2
    ocp-physmol experiments configs/s2ef/experiments/surfaces.yml --source FOLDER
    """
    content, listed = read_experiment(experiment, data, seconds)
    chosen = _chosen(experiment, listed, only)
    task = task_of(content, data, source, molecules)
    task.prepare(run for name, run in listed.items() if name in chosen)
    options = {"seconds": (seconds, None), "molecules": (molecules, None), "jobs": (jobs, 1)}
    changed = [f"--{name} {v:.12g}" for name, (v, default) in options.items() if v != default]
    if data is not None:
        changed.append(shlex.join(["--data", str(data)]))
    if source is not None:
        changed.append("--source FOLDER")
    shared = {"experiment": experiment.stem, "title": content.title, **provenance(jobs)}
    chains, paths = {}, {}
    for name, run in listed.items():
        folder = runs / experiment.stem / run.slug
        paths[name] = records / experiment.stem / f"{run.slug}.json"
        if name not in chosen:
            continue
        if paths[name].is_file() and not again:
            _require_same(paths[name], run)
            continue
        if again:
            shutil.rmtree(folder, ignore_errors=True)
        same = shlex.join(["ocp-physmol", "experiments", str(experiment), "--only", name])
        described = {**shared, "command": " ".join([same, *changed, "--again"])}
        judging = task.judging(run, folder, paths[name])
        chains[name] = _chain(content, run, folder, described, judging)
    failed = launch(chains, jobs, "Experiment", go_on=True) if chains else {}
    done = [read_record(path) for path in paths.values() if path.is_file()]
    if done:
        shown = plain(table_of(done))
        click.echo(f"\n{content.title}\n\n{shown}\n\nRecords: {records}")
    if failed:
        reasons = "; ".join(f"'{name}' ({end.strip()})" for name, end in failed.items())
        raise UserError(
            f"{len(failed)} of {len(chains)} runs failed: {reasons}; their logs are "
            f"{runs / experiment.stem}/*/log.txt, and the same command goes on with what is "
            "unfinished"
        )


def _chosen(experiment: Path, listed: dict[str, Run], only: Sequence[str]) -> set[str]:
    """The names of the runs to do; a UserError for a name of neither a run nor a model."""
    by_model: dict[str, set[str]] = {}
    for run in listed.values():
        by_model.setdefault(run.model, set()).add(run.name)
    for name in only:
        if name not in listed and name not in by_model:
            names = ", ".join(f"'{n}'" for n in by_model)
            raise UserError(f"--only '{name}': {experiment} has no such run; it has {names}")
    return set().union(*(by_model.get(name, {name}) for name in only)) if only else set(listed)


def _require_same(path: Path, run: Run) -> None:
    """Raise a UserError if a record is of another config, time or seed than a run now has."""
    record, now = read_record(path), compact({"config": run.config, "seconds": run.seconds})
    former = {"config": record["config"]["complete"], "seconds": record["seconds"]["budget"]}
    differing = [key for key in now if former[key] != now[key]]
    if record["seed"] != run.seed:
        differing.append("seed")
    if differing:
        raise UserError(
            f"{path} is of another {differing[0]} than '{run.name}' now has; add --again to train "
            "it anew, or name another folder with --records"
        )


def _chain(
    experiment: Experiment, run: Run, folder: Path, described: dict, judging: list[str]
) -> Chain:
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
        "seed": run.seed,
        "seconds": run.seconds,
        **described,
    }
    if experiment.surfaces:
        description.update(model=run.model, part=run.part, parts=experiment.surfaces.parts)
    write_json(folder / "run.json", description, indent=1)
    return run.chain(folder, run.seed, judging=judging)
