"""From nothing to a trained PhysMol and its judgement: ocp-physmol quickstart"""

import shutil
import time
from itertools import islice
from pathlib import Path

import click
from torch_geometric.data import Data

from ocp_physmol.checkpoint import read_checkpoint, seconds_used
from ocp_physmol.datasets import qm9
from ocp_physmol.evaluation.energy_force_errors import energy_and_force_errors
from ocp_physmol.evaluation.molecule_sets import MOLECULES
from ocp_physmol.evaluation.recovery import Protocol, recover
from ocp_physmol.evaluation.structure_tasks import panel_rows, table
from ocp_physmol.experiments.experiment_files import labelled_folder, read_experiment
from ocp_physmol.experiments.launch import BEST, LAST, launch
from ocp_physmol.experiments.provenance import write_result
from ocp_physmol.figures.distributions import recovery_figure
from ocp_physmol.option_types import COUNT, PATH, SECONDS, SEED
from ocp_physmol.pushes import curvature
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

EXPERIMENT = Path("configs/qm9/experiments/quickstart.yml")  # its first run is the full model
SUMMARY = {
    "energy_mae_mev": "energy MAE (meV)",
    "force_mae_ev_per_a": "force MAE at minima (eV/Å)",
    "delta_p_a": "ΔP after relaxation (Å)",
    "median_delta_p_a": "ΔP, median (Å)",
    "do_nothing_delta_p_a": "ΔP, do nothing (Å)",
    "converged_fraction": "converged relaxations",
    "drifted_fraction": "drifted beyond 0.5 Å",
    "train_seconds": "training (s)",
    "train_steps": "training (steps)",
}
MAX_HEAVY_ATOMS = 7


@click.command("quickstart", context_settings={"show_default": True})
@click.option("--seconds", type=SECONDS, default=600, help="Training time of each model.")
@click.option("--molecules", type=COUNT, default=MOLECULES, help="How many to relax.")
@click.option("--data", type=PATH, default="data/quickstart", help="Made if it is not there.")
@click.option("--output", type=PATH, default="runs/quickstart", help="Folder to fill.")
@click.option("--seed", type=SEED, default=0, help="Of both trainings.")
def command(seconds: float, molecules: int, data: Path, output: Path, seed: int) -> None:
    """Make the data, train two models and compare them on held-out molecules.

    The data are QM9's molecules of at most 7 heavy atoms. The recommended model and an energy-only
    one train side by side for the same number of seconds, on half of the processor's cores each.
    """
    started = time.time()
    _, runs = read_experiment(EXPERIMENT, data, seconds)
    make_data(data, any(run.needs_labels for run in runs.values()))
    folders = {name: output / run.slug.lower() for name, run in runs.items()}
    metrics = output / "metrics.json"
    if metrics.is_file():  # a finished quickstart starts anew, an interrupted one goes on
        metrics.unlink()
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    chains = {name: run.chain(folders[name], seed) for name, run in runs.items()}
    launch(chains, len(chains), "Training", seconds)
    structures = open_labelled(data / "test")
    chosen = list(islice(structures, molecules))
    results = {name: _measure(name, folder, structures, chosen) for name, folder in folders.items()}
    protocol = Protocol()
    click.echo(
        f"\nHeld-out QM9 molecules of at most {MAX_HEAVY_ATOMS} heavy atoms; relaxation of "
        f"{len(chosen)} after noise of {protocol.noise} Å, L-BFGS, at most {protocol.steps} "
        f"steps to {protocol.fmax} eV/Å\n\n{table(results, SUMMARY)}"
    )
    recovery_figure(output / "recovery.png", results, _examples(chosen, results))
    full, energy_only = ({key: result[key] for key in SUMMARY} for result in results.values())
    described = {**vars(protocol), "molecules": len(chosen), "seed": seed}
    content = {**full, "energy_only": energy_only, "protocol": described}
    beside = f", {output / 'recovery.png'}, and {next(iter(folders.values())) / BEST}"
    write_result(metrics, content, len(chains), started, beside)


def make_data(folder: Path, labels: bool) -> None:
    """Make QM9's small molecules, and GFN2-xTB's `labels` beside them, unless they are there."""
    if not (folder / "report.json").is_file():
        qm9.make(folder, max_heavy_atoms=MAX_HEAVY_ATOMS)
    labelled = labelled_folder(folder)
    if labels and not curvature.is_made(folder, labelled, "gfn2"):
        curvature.make(folder, labelled)


def _measure(name: str, folder: Path, structures: list[Data], chosen: list[Data]) -> dict:
    """Errors on all structures and relaxations of the chosen ones, of the best checkpoint."""
    predictor, state = Predictor.open(folder / BEST), read_checkpoint(folder / LAST)
    return {
        **energy_and_force_errors(predictor, structures, name=name),
        **recover(predictor, chosen, Protocol(), name=name),
        "train_seconds": seconds_used(state),
        "train_steps": state["step"],
    }


def _examples(structures: list[Data], results: dict[str, dict]) -> list[dict]:
    """Two relaxations with the full model's median Delta P among the largest molecules."""
    heavy = [int((s.atomic_numbers > 1).sum()) for s in structures]
    large = [i for i, count in enumerate(heavy) if count == max(heavy)]
    ranked = sorted(large, key=next(iter(results.values()))["displacements"].__getitem__)
    middle = max(1, len(ranked) // 2)
    rows = panel_rows(structures, results, "perturbed", "perturbed", "relaxed")
    return [rows[i] for i in ranked[middle - 1 : middle + 1]]
