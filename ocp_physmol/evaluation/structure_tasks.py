"""The options, tables and figures that structure recovery and molecule assembly share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from tabulate import tabulate
from torch_geometric.data import Data

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.molecule_sets import MOLECULES, by_gdb_index, paper_set
from ocp_physmol.figures.distributions import distribution_figure
from ocp_physmol.figures.molecules import molecules_figure
from ocp_physmol.files import write_json
from ocp_physmol.option_types import COUNT, PATH, POSITIVE, SEED
from ocp_physmol.relaxation.batched import OPTIMIZERS, Descent
from ocp_physmol.relaxation.calculator import CalculatorPredictor, is_calculator, open_model
from ocp_physmol.relaxation.predictor import open_labelled

ROWS = {  # of tables, by the key of a result that may be there
    "num_molecules": "molecules that were cut",
    "num_skipped": "without a bond to cut",
    "success_fraction": "bonds as before",
    "do_nothing_success_fraction": "bonds as before, do nothing",
    "delta_p_a": "ΔP after relaxation (Å)",
    "median_delta_p_a": "ΔP, median (Å)",
    "do_nothing_delta_p_a": "ΔP, do nothing (Å)",
    "median_energy_change_ev": "|ΔE_g|, median (eV)",
    "converged_fraction": "converged",
    "far_fraction": "beyond 0.2 Å",
    "drifted_fraction": "drifted beyond 0.5 Å",
    "broken_fraction": "other bonds than before",
    "exploded_fraction": "exploded",
}


def named_paths(context: Any, option: Any, checkpoints: Sequence[str]) -> dict[str, Path]:
    """Paths by name: what is before '=', else the folder that holds checkpoints/, else the file's.

    A click callback. Two paths of one name are a UserError.
    """
    paths: dict[str, Path] = {}
    for text in checkpoints:
        name, _, after = ("", "", text) if Path(text).exists() else text.rpartition("=")
        path = Path(after)
        if not name and is_calculator(after):
            name = after
        elif not name:
            runs = (p.parent.name for p in reversed(path.parents) if p.name == "checkpoints")
            name = next(filter(None, runs), path.stem)
        if name in paths:
            raise UserError(
                f"--checkpoint: {paths[name]} and {path} are both called '{name}'; "
                "give them as NAME=PATH"
            )
        paths[name] = path
    return paths


CHECKPOINTS = click.Option(
    ["--checkpoint", "checkpoints"],
    multiple=True,
    required=True,
    metavar="[NAME=]PATH",
    callback=named_paths,
    help="Of a model of fairchem, or a calculator: gfn2, mmff94, ani1x, or MODULE:NAME of ASE's. "
    "Any number of times, to compare.",
)


def task_options(folder: str, protocol: Descent) -> list[click.Parameter]:
    """The arguments of `Task` as options, with defaults from a protocol."""
    return [
        CHECKPOINTS,
        click.Option(["--data"], type=PATH, required=True, help="LMDBs of molecules at minima."),
        click.Option(
            ["--molecules"], type=COUNT, default=MOLECULES,
            help="How many: one half the smallest, the other half at random.",
        ),
        click.Option(
            ["--draw"], type=int, multiple=True, metavar="GDB",
            help="GDB index of a molecule to draw, any number of times. "
                 "Else the smallest one and two random ones are.",
        ),
        click.Option(["--draw-from"], type=PATH, help="LMDBs that hold them. Else --data."),
        click.Option(["--output"], type=PATH, default=f"runs/{folder}", help="Folder to fill."),
        click.Option(
            ["--optimizer"], type=click.Choice(OPTIMIZERS), default=protocol.optimizer,
            help="fairchem's on batches, or one of ASE's, which are many times slower.",
        ),
        click.Option(["--steps"], type=click.IntRange(0), default=protocol.steps, help="At most."),
        click.Option(
            ["--fmax"], type=POSITIVE, default=protocol.fmax,
            help="Largest force to stop at (eV/Å).",
        ),
        click.Option(
            ["--maxstep"], type=POSITIVE, default=protocol.maxstep,
            help="Of an atom in one step (Å); fairchem's optimiser goes 1.2 times as far.",
        ),
        click.Option(["--seed"], type=SEED, default=protocol.seed, help="Of all that is random."),
        click.Option(["--batch-size"], type=COUNT, default=32, help="Of fairchem's optimiser."),
        click.Option(["--gpu"], is_flag=True, help="Use the GPU."),
    ]  # fmt: skip


class Task:
    """The models and molecules that the options ask for; a UserError if one is missing."""

    def __init__(
        self,
        checkpoints: dict[str, Path],
        data: Path,
        molecules: int,
        draw: Sequence[int],
        draw_from: Path | None,
        output: Path,
        batch_size: int,
        gpu: bool,
        **descent: Any,
    ) -> None:
        self.data, self.output, self.batch_size, self.descent = data, output, batch_size, descent
        if draw_from and not draw:
            raise UserError(
                "--draw-from has molecules to draw; give the GDB index of each as --draw"
            )
        structures, half = open_labelled(data), molecules // 2
        indices = paper_set(structures, molecules - half, half, descent["seed"])
        self.chosen = [structures[i] for i in indices]
        self.drawn = self.chosen[:1] + self.chosen[1:][-2:]
        if draw:
            self.drawn = by_gdb_index(open_labelled(draw_from) if draw_from else structures, draw)
        output.mkdir(parents=True, exist_ok=True)
        self.predictors = {n: open_model(path, cpu=not gpu) for n, path in checkpoints.items()}

    def run(
        self,
        function: Callable[..., dict],
        protocol: Descent,
        done: str,
        panels: tuple[str, str, str],
        suffix: str = "",
    ) -> dict:
        """Relax the molecules with each model, print a table, draw figures, return the results.

        `function` is `recover` or `assemble`. The table says what is `done` to the molecules. The
        `panels` are the last arguments of `panel_rows`.
        """

        def results(molecules: list[Data]) -> dict[str, dict]:
            models = self.predictors.items()
            return {n: function(p, molecules, protocol, self.batch_size, n) for n, p in models}

        for predictor in self.predictors.values():
            if isinstance(predictor, CalculatorPredictor):
                predictor.refused.clear()  # what another call has found
        found = results(self.chosen)
        said = f"{len(self.chosen)} molecules of {self.data}, {done}\n{protocol}"
        first = next(iter(found.values()))
        rows = {key: label for key, label in ROWS.items() if key in first}
        click.echo(f"\n{said}\n\n{table(found, rows)}")
        for name, predictor in self.predictors.items():
            if predictor.refused:
                reasons = (f"GDB {sid} ({reason})" for sid, reason in predictor.refused.items())
                click.echo(f"{name} refuses {len(predictor.refused)}: {'; '.join(reasons)}")
        nothing = first["do_nothing_delta_p_a"]
        distribution_figure(self.output / f"distributions{suffix}.png", found, nothing)
        if self.drawn:
            drawn = panel_rows(self.drawn, results(self.drawn), *panels)
            molecules_figure(self.output / f"molecules{suffix}.png", drawn)
        return {"protocol": vars(protocol), "results": found}

    def write(self, name: str, record: dict) -> None:
        """Write a record beside the figures, and say so."""
        write_json(self.output / name, {"data": str(self.data), **record})
        click.echo(f"\nWritten: {self.output / name} and the figures beside it")


def table(results: dict[str, dict], rows: dict[str, str]) -> str:
    """One column a model, one row for each key of its results."""
    cells = [[label, *(r[key] for r in results.values())] for key, label in rows.items()]
    return tabulate(cells, headers=["", *results], floatfmt=".4g", numalign="right")


def panel_rows(
    structures: list[Data], results: dict[str, dict], pushed: str, before: str, after: str
) -> list[dict]:
    """Rows of `molecules_figure`: the minimum, where relaxations began, where each model's ended.

    `pushed` is the title of the second panel; `before` and `after` are keys of the results.
    """
    start = next(iter(results.values()))
    rows = []
    for i, structure in enumerate(structures):
        started = f"{pushed}\nΔP {start['start_displacements'][i]:.2f} Å"
        panels = {"reference": structure.pos.numpy(), started: start[before][i]}
        panels |= {f"{name}\n{_outcome(r, i)}": r[after][i] for name, r in results.items()}
        title, numbers = f"GDB {identifier(structure.sid)}", structure.atomic_numbers.int().numpy()
        rows.append({"title": title, "numbers": numbers, "panels": panels})
    return rows


def _outcome(result: dict, i: int) -> str:
    shift = result["displacements"][i]
    if not np.isfinite(shift):
        return ""  # the panel itself says that it exploded
    return f"ΔP {shift:.2f} Å" + (", broken" if result["broken"][i] else "")
