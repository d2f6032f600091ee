"""From nothing to a trained PhysMol and its judgement: ocp-physmol quickstart"""

import shutil
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import click
from torch_geometric.data import Data

from ocp_physmol.datasets import qm9
from ocp_physmol.evaluation.energy_force_errors import energy_and_force_errors
from ocp_physmol.evaluation.molecule_sets import MOLECULES
from ocp_physmol.evaluation.recovery import Protocol, recover
from ocp_physmol.evaluation.structure_tasks import panel_rows, table
from ocp_physmol.experiments.experiment_files import (
    SMALL,
    Run,
    labelled_folder,
    read_experiment,
)
from ocp_physmol.experiments.launch import BEST, launch
from ocp_physmol.experiments.provenance import write_result
from ocp_physmol.experiments.trained import open_run
from ocp_physmol.figures.distributions import recovery_figure
from ocp_physmol.option_types import COUNT, PATH, SECONDS, SEED
from ocp_physmol.pushes import curvature
from ocp_physmol.relaxation.predictor import open_labelled

EXPERIMENTS = Path("configs/qm9/experiments")  # the first run of each is the full model
SUMMARY = {
    "energy_mae_mev": "energy MAE (meV)",
    "force_mae_ev_per_a": "force MAE at minima (eV/Å)",
    "delta_p_a": "ΔP after relaxation (Å)",
    "median_delta_p_a": "ΔP, median (Å)",
    "do_nothing_delta_p_a": "ΔP, do nothing (Å)",
    "converged_fraction": "converged relaxations",
    "drifted_fraction": "drifted beyond 0.5 Å",
    "refused": "refused molecules",
    "train_seconds": "training (s)",
    "train_steps": "training (steps)",
}


@click.command("quickstart", context_settings={"show_default": True})
@click.option("--seconds", type=SECONDS, default=600, help="Training time of each model.")
@click.option("--molecules", type=COUNT, default=MOLECULES, help="How many to relax.")
@click.option("--data", type=PATH, default="data/quickstart", help="Made if it is not there.")
@click.option("--output", type=PATH, default="runs/quickstart", help="Folder to fill.")
@click.option("--seed", type=SEED, default=0, help="Of both trainings.")
def command(seconds: float, molecules: int, data: Path, output: Path, seed: int) -> None:
    """Make the data, train two models and compare them on held-out molecules.

    The data are QM9's molecules of at most 7 heavy atoms. The best model and an energy-only one
    train side by side for the same number of seconds, on half of the processor's cores each. The
    best is PhysMol on GFN2-xTB, or without the extra xtb PhysMol alone. GFN2-xTB itself and the
    force field MMFF94 are judged beside them.
    """
    started = time.monotonic()
    _, runs = read_experiment(EXPERIMENTS / _experiment(), data, seconds)
    make_data(data, runs.values())
    folders = {name: output / run.slug.lower() for name, run in runs.items()}
    metrics = output / "metrics.json"
    if metrics.is_file():  # a finished quickstart starts anew, an interrupted one goes on
        metrics.unlink()
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    trained = {name: run for name, run in runs.items() if not run.entry.calculator}
    chains = {name: run.chain(folders[name], seed) for name, run in trained.items()}
    launch(chains, len(chains), "Training", seconds)
    structures = open_labelled(data / "test")
    chosen = list(islice(structures, molecules))
    results = {
        name: _measure(run, folders[name], data, structures, chosen) for name, run in runs.items()
    }
    protocol = Protocol()
    click.echo(
        f"\nHeld-out QM9 molecules of at most {SMALL} heavy atoms; relaxation of "
        f"{len(chosen)} after noise of {protocol.noise} Å, L-BFGS, at most {protocol.steps} "
        f"steps to {protocol.fmax} eV/Å\n\n{table(results, SUMMARY)}"
    )
    recovery_figure(output / "recovery.png", results, _examples(chosen, results))
    described = {**vars(protocol), "molecules": len(chosen), "seed": seed}
    models = {n: {key: result[key] for key in SUMMARY} for n, result in results.items()}
    content = {"models": models, "protocol": described}
    beside = f", {output / 'recovery.png'}, and {next(iter(folders.values())) / BEST}"
    write_result(metrics, content, len(chains), started, beside)


def make_data(folder: Path, runs: Iterable[Run], max_heavy_atoms: int = SMALL) -> None:
    """Make molecules of QM9, and GFN2-xTB's labels if `runs` need them, if not yet there."""
    if not (folder / "report.json").is_file():
        qm9.make(folder, max_heavy_atoms=max_heavy_atoms)
    labelled, pushes = labelled_folder(folder), [run.pushes for run in runs]
    needed = max((p for p in pushes if p is not None), default=None)
    if needed is not None and not curvature.is_made(folder, labelled, "gfn2", needed):
        curvature.make(folder, labelled, pushes=needed)


def _experiment() -> str:
    """The name of the experiment file: of the best model that what is installed allows."""
    if find_spec("tblite") is not None:
        return "quickstart.yml"
    click.echo(
        "tblite is not installed: PhysMol is trained without GFN2-xTB. Its minima are better with "
        "it: pip install tblite"
    )
    return "quickstart_without_xtb.yml"


def _measure(
    run: Run, folder: Path, data: Path, structures: Sequence[Data], chosen: list[Data]
) -> dict:
    """Errors on all `structures`, and relaxations of the `chosen` ones."""
    predictor, trained = open_run(folder, run.config, data)
    return {
        **energy_and_force_errors(predictor, structures, name=run.name),
        **recover(predictor, chosen, Protocol(), name=run.name),
        "refused": len(predictor.refused),
        "train_seconds": trained["seconds_used"],
        "train_steps": trained["steps"],
    }


def _examples(structures: list[Data], results: dict[str, dict]) -> list[dict]:
    """Two relaxations with the full model's median Delta P among the largest molecules."""
    heavy = [int((s.atomic_numbers > 1).sum()) for s in structures]
    large = [i for i, count in enumerate(heavy) if count == max(heavy)]
    ranked = sorted(large, key=next(iter(results.values()))["displacements"].__getitem__)
    middle = max(1, len(ranked) // 2)
    rows = panel_rows(structures, results, "perturbed", "perturbed", "relaxed")
    return [rows[i] for i in ranked[middle - 1 : middle + 1]]
