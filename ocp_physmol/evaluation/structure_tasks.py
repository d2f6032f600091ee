"""What the commands of structure recovery and molecule assembly share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from tabulate import tabulate
from torch_geometric.data import Data

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.molecule_sets import by_gdb_index, paper_set
from ocp_physmol.files import write_json
from ocp_physmol.relaxation.batched import OPTIMIZERS, Descent
from ocp_physmol.relaxation.predictor import Predictor, open_labelled


@dataclass(frozen=True)
class Task:
    """What the shared options ask for."""

    predictors: dict[str, Predictor]  # by name
    chosen: list[Data]  # molecules to relax
    drawn: list[Data]  # molecules to draw
    descent: dict[str, Any]  # keys of a `Descent`
    batch_size: int
    data: Path
    output: Path  # folder

    def results(
        self, function: Callable[..., dict], molecules: list[Data], protocol: Descent
    ) -> dict[str, dict]:
        """What `recover` or `assemble` returns for each model."""
        return {
            name: function(predictor, molecules, protocol, self.batch_size, name)
            for name, predictor in self.predictors.items()
        }

    def write(self, name: str, record: dict) -> None:
        """Write a record beside the figures, and say so."""
        write_json(self.output / name, {"data": str(self.data), **record})
        click.echo(f"\nWritten: {self.output / name} and the figures beside it")


def named_paths(context: Any, option: Any, checkpoints: Sequence[str]) -> dict[str, Path]:
    """Paths by name: what is before '=', else the folder that holds checkpoints/, else the file's.

    A click callback.

    Raises:
        UserError: if two have one name.
    """
    paths: dict[str, Path] = {}
    for text in checkpoints:
        name, _, after = text.rpartition("=")
        path = Path(after)
        if not name:
            parts = path.parts
            inside = "checkpoints" in parts[1:]
            name = parts[parts.index("checkpoints", 1) - 1] if inside else path.stem
        if name in paths:
            raise UserError(
                f"--checkpoint: {paths[name]} and {path} are both called '{name}'; "
                "give them as NAME=PATH"
            )
        paths[name] = path
    return paths


checkpoints_option = click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    required=True,
    metavar="[NAME=]PATH",
    callback=named_paths,
    help="Of a model of fairchem; give it again to compare with another.",
)


def shared_options(task: str, protocol: Descent) -> Callable[[Callable], Callable]:
    """A decorator that adds the arguments of `open_task`, with defaults from a protocol."""
    folder, count = click.Path(path_type=Path), click.IntRange(1)
    options = [
        checkpoints_option,
        click.option("--data", type=folder, required=True, help="LMDBs of molecules at minima."),
        click.option(
            "--molecules", type=count, default=256,
            help="How many: one half the smallest, the other half at random.",
        ),
        click.option(
            "--draw", type=int, multiple=True, metavar="GDB",
            help="GDB index of a molecule to draw, any number of times. "
                 "Else the smallest one and two random ones are.",
        ),
        click.option("--draw-from", type=folder, help="LMDBs that hold them. Else --data."),
        click.option("--output", type=folder, default=Path("runs", task), help="Folder to fill."),
        click.option(
            "--optimizer", type=click.Choice(OPTIMIZERS), default=protocol.optimizer,
            help="fairchem's on batches, or one of ASE's, which are many times slower.",
        ),
        click.option(
            "--steps", type=click.IntRange(0), default=protocol.steps, help="At most."
        ),
        click.option("--fmax", default=protocol.fmax, help="Largest force to stop at (eV/Å)."),
        click.option("--maxstep", default=protocol.maxstep, help="Of an atom in one step (Å)."),
        click.option("--seed", default=protocol.seed, help="Of all that is random."),
        click.option("--batch-size", type=count, default=32, help="Of fairchem's optimiser."),
        click.option("--gpu", is_flag=True, help="Use the GPU."),
    ]  # fmt: skip

    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def open_task(
    checkpoints: dict[str, Path],
    data: Path,
    molecules: int,
    draw: Sequence[int],
    draw_from: Path | None,
    output: Path,
    batch_size: int,
    gpu: bool,
    **descent: Any,
) -> Task:
    """Open the models and choose the molecules.

    Raises:
        UserError: if a checkpoint, data or a molecule are missing.
    """
    structures = open_labelled(data)
    half = molecules // 2
    chosen = [structures[i] for i in paper_set(structures, molecules - half, half, descent["seed"])]
    drawn = [chosen[i] for i in sorted({0, len(chosen) - 2, len(chosen) - 1}) if i >= 0]
    if draw:
        drawn = by_gdb_index(open_labelled(draw_from) if draw_from else structures, draw)
    output.mkdir(parents=True, exist_ok=True)
    predictors = {n: Predictor.open(path, cpu=not gpu) for n, path in checkpoints.items()}
    return Task(predictors, chosen, drawn, descent, batch_size, data, output)


def table(results: dict[str, dict], rows: dict[str, str]) -> str:
    """One column a model, one row for each key of its results."""
    cells = [[label, *(r[key] for r in results.values())] for key, label in rows.items()]
    return tabulate(cells, headers=["", *results], floatfmt=".4g", numalign="right")


def panel_rows(
    structures: list[Data], results: dict[str, dict], pushed: str, before: str, after: str
) -> list[dict]:
    """Rows of `molecules_figure`: the minimum, where relaxations began, where each model's ended.

    Args:
        structures: that each of the `results` is of.
        pushed: the title of the panel of where relaxations began.
        before, after: the keys of positions in the results.
    """
    start = next(iter(results.values()))
    rows = []
    for i, structure in enumerate(structures):
        panels = {
            "reference": structure.pos.numpy(),
            f"{pushed}\nΔP {start['start_displacements'][i]:.2f} Å": start[before][i],
        }
        for name, result in results.items():
            panels[f"{name}\n{_outcome(result, i)}"] = result[after][i]
        rows.append({"title": f"GDB {identifier(structure.sid)}", "panels": panels,
                     "numbers": structure.atomic_numbers.int().numpy()})  # fmt: skip
    return rows


def _outcome(result: dict, i: int) -> str:
    shift = result["displacements"][i]
    if not np.isfinite(shift):
        return ""  # the panel itself says that it exploded
    return f"ΔP {shift:.2f} Å" + (", broken" if result["broken"][i] else "")
