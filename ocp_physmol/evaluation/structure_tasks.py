"""What the commands of structure recovery and molecule assembly share."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ocp_physmol.arguments import positive
from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.molecule_sets import by_gdb_index, paper_set
from ocp_physmol.relaxation.batched import OPTIMIZERS, Descent
from ocp_physmol.relaxation.predictor import load_predictor, open_labelled

if TYPE_CHECKING:
    from collections.abc import Sequence


def structure_parser(task: str, description: str, protocol: Descent) -> argparse.ArgumentParser:
    """A parser of checkpoints, data, and the keys of a `Descent`, with their defaults in help."""
    parser = argparse.ArgumentParser(
        prog=f"python -m ocp_physmol.evaluation.{task}",
        description=description,
        formatter_class=_Help,
    )
    parser.add_argument(
        "--checkpoint", action="append", required=True, metavar="[NAME=]PATH",
        help="of a model of fairchem; more than one for a comparison",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="LMDBs of molecules at minima")
    parser.add_argument(
        "--molecules", type=positive, default=256,
        help="how many: one half the smallest, the other half at random",
    )  # fmt: skip
    parser.add_argument(
        "--draw", type=int, nargs="+", metavar="GDB",
        help="molecules to draw, by GDB index (else the smallest one and two random ones)",
    )  # fmt: skip
    parser.add_argument("--draw-from", type=Path, help="LMDBs that hold them (else --data)")
    parser.add_argument("--output", type=Path, default=Path("runs") / task, help="folder to fill")
    parser.add_argument(
        "--optimizer", choices=OPTIMIZERS, default=protocol.optimizer,
        help="fairchem's on batches, or one of ASE's, which are many times slower",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=protocol.steps, help="at most")
    parser.add_argument("--fmax", type=float, default=protocol.fmax, help="to stop at (eV/Å)")
    parser.add_argument("--maxstep", type=float, default=protocol.maxstep, help="of an atom (Å)")
    parser.add_argument("--seed", type=int, default=protocol.seed, help="of all that is random")
    parser.add_argument("--batch-size", type=positive, default=32, help="of fairchem's optimiser")
    parser.add_argument("--gpu", action="store_true", help="use the GPU")
    return parser


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults after each option, the description as it is; None is no default to speak of."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help if not action.default else super()._get_help_string(action)


def descent_of(args: argparse.Namespace) -> dict:
    """The options that make up a `Descent`."""
    return {field.name: getattr(args, field.name) for field in fields(Descent)}


def open_task(args: argparse.Namespace) -> tuple[dict, list, list]:
    """Predictors by name, the molecules to relax, and those to draw.

    Raises:
        UserError: if a checkpoint, data or a molecule are missing, or two checkpoints share a name.
    """
    structures = open_labelled(args.data)
    half = args.molecules // 2
    chosen = paper_set(structures, args.molecules - half, half, args.seed)
    chosen = [structures[i] for i in chosen]
    drawn = [chosen[i] for i in sorted({0, len(chosen) - 2, len(chosen) - 1}) if i >= 0]
    if args.draw:
        source = open_labelled(args.draw_from) if args.draw_from else structures
        drawn = by_gdb_index(source, args.draw)
    paths = named_paths(args.checkpoint)
    args.output.mkdir(parents=True, exist_ok=True)
    return {n: load_predictor(path, cpu=not args.gpu) for n, path in paths.items()}, chosen, drawn


def named_paths(checkpoints: Sequence[str]) -> dict[str, Path]:
    """Paths by name: what is before '=', else the folder that holds checkpoints/, else the file's.

    Raises:
        UserError: if two have one name.
    """
    paths = {}
    for text in checkpoints:
        name, _, path = text.rpartition("=")
        path = Path(path)
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


def table(results: dict[str, dict], rows: dict[str, str]) -> str:
    """One column a model, one row for each key of its results."""
    width = max(12, *(len(name) + 2 for name in results))
    lines = [" " * 30 + "".join(f"{name:>{width}}" for name in results)]
    for key, label in rows.items():
        lines.append(f"{label:30}" + "".join(f"{r[key]:>{width}.4g}" for r in results.values()))
    return "\n".join(lines)


def panel_rows(
    structures: list, results: dict[str, dict], pushed: str, before: str, after: str
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
        return ""  # the panel says what happened
    return f"ΔP {shift:.2f} Å" + (", broken" if result["broken"][i] else "")
