"""The command line of the OC20 leaderboard's file."""

from collections.abc import Callable
from pathlib import Path

import click

from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.files import write_json
from ocp_physmol.leaderboard.scores import table
from ocp_physmol.leaderboard.splits import PARTS, check, gather, score
from ocp_physmol.leaderboard.submission import FIELDS

PATH = click.Path(path_type=Path)


@click.group("leaderboard")
def command() -> None:
    """Gather predictions of OC20's four splits in a file, check it and score it.

    s2ef and is2re take the .npz files that `main.py --mode predict` writes for each split, best
    with prediction_dtype float32 (in half precision energies of 10 eV come in steps of 8 meV).
    is2re-relaxations takes a folder of {sid}.traj files for each split; is2rs takes such a folder
    or the relaxed_positions.npz that `main.py --mode run-relaxations` writes.

    \b
    ocp-physmol leaderboard gather s2ef --data data/s2ef/all --id id.npz \\
        --ood-ads ads.npz --ood-cat cat.npz --ood-both both.npz --output submission.npz
    ocp-physmol leaderboard check s2ef submission.npz --data data/s2ef/all
    ocp-physmol leaderboard score s2ef validation.npz --data data/s2ef/all --part val
    """


def _subcommand(name: str) -> Callable[[Callable], click.Command]:
    """A subcommand with the arguments that all have: the task and its data."""
    shared = [
        click.argument("task", type=click.Choice(list(FIELDS))),
        click.option(
            "--data", type=PATH, required=True,
            help="Folder of the LMDBs {part}_id, {part}_ood_ads, {part}_ood_cat, {part}_ood_both.",
        ),
        click.option(
            "--part", type=click.Choice(PARTS), default="test", show_default=True,
            help="Of the data.",
        ),
    ]  # fmt: skip

    def decorate(function: Callable) -> click.Command:
        for argument in shared:
            function = argument(function)
        return command.command(name)(function)

    return decorate


def _predictions(function: Callable) -> Callable:
    """An option for the predictions of each split."""
    for split in reversed(SPLITS):
        function = click.option(
            f"--{split.replace('_', '-')}", split, type=PATH, required=True,
            help=f"Predictions of {split}: an .npz file or a folder of .traj files.",
        )(function)  # fmt: skip
    return function


@_subcommand("gather")
@_predictions
@click.option("--output", type=PATH, required=True, help="File to write (.npz).")
def gather_file(task: str, data: Path, part: str, output: Path, **predictions: Path) -> None:
    """Gather the predictions of all splits in one file."""
    sizes = gather(task, predictions, data, part, output)
    click.echo(f"Wrote {output}, complete and checked: {_listed(sizes)}")


@_subcommand("check")
@click.argument("file", type=PATH)
def check_file(task: str, file: Path, data: Path, part: str) -> None:
    """Check a file as strictly as the leaderboard does."""
    click.echo(f"{file} is complete: {_listed(check(task, file, data, part))}")


@_subcommand("score")
@click.argument("file", type=PATH)
@click.option("--json", type=PATH, help="File to write the scores to, too.")
def score_file(task: str, file: Path, data: Path, part: str, json: Path | None) -> None:
    """Check a file and score it by labelled data."""
    scores = score(task, file, data, part)
    click.echo(table(scores))
    if json:
        write_json(json, scores, indent=2)


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{split} {size}" for split, size in sizes.items())
