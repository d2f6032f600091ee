"""Trainings of the same length, judged alike. An experiment file lists them:

    python -m ocp_physmol.experiments.command configs/qm9/experiments/table1.yml --jobs 2

trains every run of the file (see ocp_physmol/experiments/experiment_files.py) and writes what is
measured of it to records/EXPERIMENT/RUN.json. Started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

import yaml

from ocp_physmol.arguments import positive
from ocp_physmol.datasets import qm9
from ocp_physmol.errors import UserError, exit_on_user_error
from ocp_physmol.evaluation.vibrations import require_frequencies
from ocp_physmol.experiments.experiment_files import Run, read_experiment
from ocp_physmol.experiments.processes import main_py
from ocp_physmol.experiments.provenance import provenance, threads
from ocp_physmol.experiments.queued import Chain, run_queue
from ocp_physmol.experiments.quickstart import MAX_HEAVY_ATOMS
from ocp_physmol.experiments.records import read_record
from ocp_physmol.experiments.tables import TABLE1, plain, table

MODULE = "ocp_physmol.experiments"
MOLECULES = 256  # the paper's 128 smallest and 128 random ones


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Command line of experiments."""
    args = _parser().parse_args(arguments)
    if not Path("main.py").is_file():
        raise UserError("there is no main.py here; run experiments in the repository's folder")
    title, runs = read_experiment(args.experiment, args.data, args.seconds)
    wanted = _chosen(runs, args)
    if not (args.data / "report.json").is_file():
        qm9.make(args.data, max_heavy_atoms=MAX_HEAVY_ATOMS)
    require_frequencies(args.data / "test")
    records = {n: args.records / args.experiment.stem / f"{r.slug}.json" for n, r in runs.items()}
    chains = {
        name: _chain(run, title, records[name], args)
        for name, run in wanted.items()
        if args.again or not records[name].is_file()
    }
    failed = run_queue(chains, args.jobs, threads(args.jobs)) if chains else {}
    done = [read_record(path) for path in records.values() if path.is_file()]
    if done:
        print(f"\n{title}\n\n{plain(table(done, TABLE1))}\n\nRecords: {args.records}")
    if failed:
        reasons = "; ".join(f"'{name}' ({end.strip()})" for name, end in failed.items())
        raise UserError(
            f"{len(failed)} of {len(chains)} runs failed: {reasons}; their logs are "
            f"{_folder(args, '*')}/log.txt, and the same command goes on with what is unfinished"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}.command",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", type=Path, help="file, see configs/qm9/experiments")
    parser.add_argument(
        "--data", type=Path, default=Path("data/quickstart"),
        help="folder of the splits, made if it is not there (data/quickstart)",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/experiments"),
        help="folder for checkpoints and logs (runs/experiments)",
    )  # fmt: skip
    parser.add_argument(
        "--records", type=Path, default=Path("records"), help="folder for records (records)"
    )
    parser.add_argument("--seconds", type=float, help="of each training, not as the file says")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="runs to do (all)")
    parser.add_argument("--jobs", type=positive, default=1, help="runs at the same time (1)")
    parser.add_argument(
        "--molecules", type=positive, default=MOLECULES,
        help=f"to relax in judging ({MOLECULES})",
    )  # fmt: skip
    parser.add_argument(
        "--again", action="store_true", help="do anew what is finished, or was trained otherwise"
    )
    return parser


def _chosen(runs: dict[str, Run], args) -> dict[str, Run]:
    """The runs that --only names, or all."""
    for name in args.only or ():
        if name not in runs:
            raise UserError(
                f"--only '{name}': {args.experiment} has no such run; it has "
                + ", ".join(f"'{n}'" for n in runs)
            )
    return {name: run for name, run in runs.items() if not args.only or name in args.only}


def _folder(args, slug: str) -> Path:
    return args.runs / args.experiment.stem / slug


def _chain(run: Run, title: str, record: Path, args) -> Chain:
    """Write down what the run is, and return the commands that do it."""
    folder = _folder(args, run.slug)
    if args.again:
        shutil.rmtree(folder, ignore_errors=True)
    config = folder / "config.yml"
    content = yaml.safe_dump(run.config, sort_keys=False)
    if config.is_file() and config.read_text() != content:
        raise UserError(
            f"{config} is not the config that '{run.name}' now has; add --again to train it anew, "
            "or name another folder with --runs"
        )
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(content)
    description = json.dumps(_description(run, title, args), indent=1)
    (folder / "run.json").write_text(description + "\n")
    judge = [
        sys.executable, "-m", f"{MODULE}.judge", folder, "--output", record,
        "--data", args.data, "--molecules", args.molecules,
    ]  # fmt: skip
    commands = {
        "training": main_py("train", str(config), folder, "--seed", run.seed),
        "judging": [*map(str, judge)],
    }
    return Chain(commands, folder / "log.txt")


def _description(run: Run, title: str, args) -> dict:
    """All of a record that is known before training."""
    again = ["python", "-m", f"{MODULE}.command", str(args.experiment), "--only", run.name]
    if args.seconds:
        again += ["--seconds", f"{args.seconds:g}"]
    if args.molecules != MOLECULES:
        again += ["--molecules", str(args.molecules)]
    if args.jobs > 1:
        again += ["--jobs", str(args.jobs)]
    return {
        "name": run.name,
        "experiment": args.experiment.stem,
        "title": title,
        "place": run.place,
        "note": run.note,
        "paper": run.paper,
        "config": {"path": run.source, "complete": run.config},
        "command": shlex.join([*again, "--again"]),
        "seed": run.seed,
        "seconds": run.seconds,
        **provenance(args.jobs),
    }


if __name__ == "__main__":
    main()
