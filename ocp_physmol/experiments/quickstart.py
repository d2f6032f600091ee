"""From nothing to a trained PhysMol and its judgement: python -m ocp_physmol.experiments.quickstart

Makes the data (QM9, at most 7 heavy atoms), trains the recommended model and an energy-only one
side by side for the same number of seconds on half of the processor's cores each, and compares them
on held-out molecules.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from ocp_physmol.arguments import positive
from ocp_physmol.checkpoint import read_checkpoint
from ocp_physmol.datasets import qm9
from ocp_physmol.errors import UserError, exit_on_user_error
from ocp_physmol.evaluation.energy_force_errors import energy_and_force_errors
from ocp_physmol.evaluation.recovery import Protocol, recover
from ocp_physmol.experiments.processes import main_py, run_together
from ocp_physmol.experiments.provenance import provenance
from ocp_physmol.figures.distributions import recovery_figure
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

CONFIGS = {
    "PhysMol": "configs/qm9/recommended.yml",
    "energy only": "configs/qm9/quickstart_energy_only.yml",
}
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


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Command line of the quickstart."""
    parser = argparse.ArgumentParser(
        prog="python -m ocp_physmol.experiments.quickstart",
        description=__doc__.split("\n\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=600, help="training time of each model")
    parser.add_argument("--molecules", type=positive, default=256, help="how many to relax")
    parser.add_argument("--data", type=Path, default=Path("data/quickstart"))
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if not Path("main.py").is_file():
        raise UserError("there is no main.py here; run the quickstart in the repository's folder")

    started = time.time()
    if not (args.data / "report.json").is_file():
        qm9.make(args.data, max_heavy_atoms=MAX_HEAVY_ATOMS)
    if (args.output / "metrics.json").is_file():
        # a finished quickstart starts anew, an interrupted one goes on
        (args.output / "metrics.json").unlink()
        for name in CONFIGS:
            shutil.rmtree(args.output / _folder(name), ignore_errors=True)
    train_side_by_side(args.data, args.output, args.seconds, args.seed)
    results = evaluate(args.data / "test", args.output, args.molecules)
    report(results, args, time.time() - started)


def train_side_by_side(data: Path, output: Path, seconds: float, seed: int) -> None:
    """Train all CONFIGS at the same time."""
    splits = [f"--dataset.{split}.src={data / split}" for split in ("train", "val", "test")]
    options = ["--seed", seed, f"--optim.max_seconds={seconds}", *splits]
    folders = {name: output / _folder(name) for name in CONFIGS}
    run_together(
        {n: main_py("train", CONFIGS[n], folder, *options) for n, folder in folders.items()},
        {name: folder / "log.txt" for name, folder in folders.items()},
        "Training",
        seconds,
    )


def _folder(name: str) -> str:
    return name.lower().replace(" ", "_")


def evaluate(test: Path, output: Path, num_molecules: int) -> dict[str, dict]:
    """Both models on the held-out molecules; the figure is drawn on the way."""
    structures = open_labelled(test)
    chosen = [structures[i] for i in range(min(num_molecules, len(structures)))]
    results = {}
    for name in CONFIGS:
        checkpoints = output / _folder(name) / "checkpoints/run"
        predictor = Predictor.open(checkpoints / "best_checkpoint.pt")
        state = read_checkpoint(str(checkpoints / "checkpoint.pt"))
        results[name] = {
            **energy_and_force_errors(predictor, structures, name=name),
            **recover(predictor, chosen, Protocol(), name=name),
            "train_seconds": float(state["scheduler"]["lr_lambdas"][0]["used"]),
            "train_steps": state["step"],
        }
    recovery_figure(output / "recovery.png", results, _examples(chosen, results))
    return results


def _examples(structures: list, results: dict[str, dict], count: int = 2) -> list[dict]:
    """The relaxations with the median Delta P of the full model among the larger molecules."""
    large = [i for i, s in enumerate(structures) if (s.atomic_numbers > 1).sum() == MAX_HEAVY_ATOMS]
    ranked = sorted(
        large or range(len(structures)), key=results["PhysMol"]["displacements"].__getitem__
    )
    middle = len(ranked) // 2
    rows = []
    for i in ranked[max(0, middle - count // 2) : middle + count // 2] or ranked[:1]:
        start = next(iter(results.values()))
        panels = {
            "reference": structures[i].pos.numpy(),
            f"perturbed: ΔP {start['start_displacements'][i]:.2f} Å": start["perturbed"][i],
        }
        for name, result in results.items():
            panels[f"{name}: ΔP {result['displacements'][i]:.2f} Å"] = result["relaxed"][i]
        rows.append({"title": f"GDB {structures[i].sid}", "panels": panels,
                     "numbers": structures[i].atomic_numbers.numpy()})  # fmt: skip
    return rows


def report(results: dict[str, dict], args, seconds: float) -> None:
    """Print the table and write metrics.json."""
    summary = {name: {key: result[key] for key in SUMMARY} for name, result in results.items()}
    protocol, relaxed = Protocol(), len(results["PhysMol"]["relaxed"])
    print(f"\nHeld-out QM9 molecules of at most {MAX_HEAVY_ATOMS} heavy atoms; relaxation of "
          f"{relaxed} after noise of {protocol.noise} Å, L-BFGS, at most {protocol.steps} "
          f"steps to {protocol.fmax} eV/Å\n")  # fmt: skip
    print(f"{'':30}" + "".join(f"{name:>14}" for name in summary))
    for key, label in SUMMARY.items():
        print(f"{label:30}" + "".join(f"{values[key]:>14.4g}" for values in summary.values()))
    metrics = {
        **summary["PhysMol"],
        "energy_only": summary["energy only"],
        "protocol": {**vars(protocol), "molecules": relaxed, "seed": args.seed},
        **provenance(len(CONFIGS)),
        "seconds": round(seconds),
    }  # fmt: skip
    path = args.output / "metrics.json"
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"\nWritten in {seconds / 60:.1f} minutes: {path}, {args.output / 'recovery.png'}, and "
          f"{args.output / 'physmol/checkpoints/run/best_checkpoint.pt'}")  # fmt: skip


if __name__ == "__main__":
    main()
