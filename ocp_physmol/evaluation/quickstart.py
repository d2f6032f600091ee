"""From nothing to a trained PhysMol and its judgement: python -m ocp_physmol.evaluation.quickstart

Makes the data (QM9, at most 7 heavy atoms), trains the full model and an energy-only one side by
side for the same number of seconds on half of the processor's cores each, and compares them on
held-out molecules.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from ocp_physmol.checkpoint import read_checkpoint
from ocp_physmol.datasets import qm9
from ocp_physmol.errors import UserError, exit_on_user_error
from ocp_physmol.evaluation.errors import energy_and_force_errors
from ocp_physmol.evaluation.pictures import recovery_figure
from ocp_physmol.evaluation.predictor import load_predictor, open_labelled
from ocp_physmol.evaluation.recovery import Protocol, recover

CONFIGS = {
    "PhysMol": "configs/qm9/quickstart.yml",
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
        prog="python -m ocp_physmol.evaluation.quickstart",
        description=__doc__.split("\n\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=600, help="training time of each model")
    parser.add_argument("--molecules", type=int, default=256, help="how many to relax")
    parser.add_argument("--data", type=Path, default=Path("data/quickstart"))
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if not Path("main.py").is_file():
        raise UserError("there is no main.py here; run the quickstart in the repository's folder")

    started = time.time()
    if not (args.data / "report.json").is_file():
        qm9.main(["--output", str(args.data), "--max-heavy-atoms", str(MAX_HEAVY_ATOMS)])
    if (args.output / "metrics.json").is_file():
        # a finished quickstart starts anew, an interrupted one goes on
        (args.output / "metrics.json").unlink()
        for name in CONFIGS:
            shutil.rmtree(args.output / _folder(name), ignore_errors=True)
    train_side_by_side(args.data, args.output, args.seconds, args.seed)
    results = evaluate(args.data / "test", args.output, args.molecules)
    report(results, args, time.time() - started)


def train_side_by_side(data: Path, output: Path, seconds: float, seed: int) -> None:
    """Train all CONFIGS at the same time, each a process of main.py; show how they do."""
    threads = max(1, (os.cpu_count() or 1) // len(CONFIGS))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    runs = {}
    for name, config in CONFIGS.items():
        folder = output / _folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "main.py", "--mode", "train", "--config-yml", config, "--cpu",
            "--run-dir", str(folder), "--timestamp-id", "run", "--seed", str(seed),
            "--print-every", "50", f"--optim.max_seconds={seconds}",
            *(f"--dataset.{split}.src={data / split}" for split in ("train", "val", "test")),
        ]  # fmt: skip
        with (folder / "log.txt").open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        runs[name] = (process, folder / "log.txt")
    try:
        _watch(runs, seconds)
    finally:
        for process, _ in runs.values():
            process.kill()


def _watch(runs: dict, seconds: float) -> None:
    bar = tqdm(
        total=round(seconds), desc="Training", unit="s", mininterval=1,
        bar_format="{desc}: {n:.0f}/{total:.0f} s |{bar:20}| {postfix}",
    )  # fmt: skip
    started, running = time.time(), True
    while running:
        running = any(process.poll() is None for process, _ in runs.values())
        for name, (process, log) in runs.items():
            if process.poll():
                raise UserError(
                    f"the training of '{name}' stopped; the end of {log} is:\n" + _tail(log, 15)
                )
        bar.n = min(round(time.time() - started), bar.total)
        bar.set_postfix_str("; ".join(f"{n}: {_progress(log)}" for n, (_, log) in runs.items()))
        time.sleep(2 if running else 0)
    bar.close()


def _tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _progress(log: Path) -> str:
    """The last validation in a training log."""
    found = re.findall(r"energy_mae: ([\d.]+), forces_mae: ([\d.]+), loss: [\d.]+, epoch: ([\d.]+)",
                       log.read_text(errors="replace"))  # fmt: skip
    if not found:
        return "starting"
    energy, force, epoch = map(float, found[-1])
    return f"epoch {epoch:.0f}, {1000 * energy:.0f} meV, {force:.3f} eV/Å"


def _folder(name: str) -> str:
    return name.lower().replace(" ", "_")


def evaluate(test: Path, output: Path, num_molecules: int) -> dict[str, dict]:
    """Both models on the held-out molecules; the figure is drawn on the way."""
    structures = open_labelled(test)
    chosen = [structures[i] for i in range(min(num_molecules, len(structures)))]
    results = {}
    for name in CONFIGS:
        checkpoints = output / _folder(name) / "checkpoints/run"
        predictor = load_predictor(checkpoints / "best_checkpoint.pt")
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
        "machine": {"processor": platform.processor() or platform.machine(),
                    "cores": os.cpu_count(), "torch": torch.__version__},
        "seconds": round(seconds),
    }  # fmt: skip
    path = args.output / "metrics.json"
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"\nWritten in {seconds / 60:.1f} minutes: {path}, {args.output / 'recovery.png'}, and "
          f"{args.output / 'physmol/checkpoints/run/best_checkpoint.pt'}")  # fmt: skip


if __name__ == "__main__":
    main()
