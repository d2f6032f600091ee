"""The command line of the OC20 leaderboard's file."""

from pathlib import Path

import click

from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.files import write_json
from ocp_physmol.leaderboard.gather_and_check import check, gather, score
from ocp_physmol.leaderboard.scores import table
from ocp_physmol.leaderboard.submission import FIELDS
from ocp_physmol.option_types import PATH

TASK = click.Argument(["task"], type=click.Choice(list(FIELDS)))
FILE = click.Argument(["file"], type=PATH)
DATA = click.Option(
    ["--data"], type=PATH, required=True,
    help="Folder of the LMDBs {part}_id, {part}_ood_ads, {part}_ood_cat, {part}_ood_both.",
)  # fmt: skip
PART = click.Option(
    ["--part"], type=click.Choice(["test", "val"]), default="test", help="Of the data."
)
PREDICTIONS = [
    click.Option(
        [f"--{split.replace('_', '-')}"], type=PATH, required=True,
        help=f"Predictions of {split}: an .npz file or a folder of .traj files.",
    )
    for split in SPLITS
]  # fmt: skip
OUTPUT = click.Option(["--output"], type=PATH, required=True, help="File to write (.npz).")
JSON = click.Option(["--json"], type=PATH, help="File to write the scores to, too.")


@click.group("leaderboard", context_settings={"show_default": True})
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


@command.command("gather", params=[TASK, PART, DATA, *PREDICTIONS, OUTPUT])
def gather_file(task: str, data: Path, part: str, output: Path, **predictions: Path) -> None:
    """Gather the predictions of all splits in one file."""
    sizes = gather(task, predictions, data, part, output)
    click.echo(f"Wrote {output}, complete and checked: {_listed(sizes)}")


@command.command("check", params=[TASK, FILE, PART, DATA])
def check_file(task: str, file: Path, data: Path, part: str) -> None:
    """Check a file as strictly as the leaderboard does."""
    click.echo(f"{file} is complete: {_listed(check(task, file, data, part))}")


@command.command("score", params=[TASK, FILE, PART, DATA, JSON])
def score_file(task: str, file: Path, data: Path, part: str, json: Path | None) -> None:
    """Check a file and score it by labelled data."""
    scores = score(task, file, data, part)
    click.echo(table(scores))
    if json:
        write_json(json, scores, indent=2)


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{split} {size}" for split, size in sizes.items())
