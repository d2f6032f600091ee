"""From nothing to files for the leaderboard: python -m ocp_physmol.experiments.oc20_demo

Makes the EMT set (OC20-shaped data that need no download, and no benchmark), trains PhysMol and
SchNet side by side for the same number of seconds on S2EF and on direct IS2RE, relaxes IS2RE's
initial structures with the S2EF model, gathers the predictions of all splits in submission files,
checks them, and scores them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from ocp_physmol.checkpoint import read_checkpoint
from ocp_physmol.datasets import emt
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError, exit_on_user_error
from ocp_physmol.experiments.processes import main_py, run_together
from ocp_physmol.experiments.provenance import provenance
from ocp_physmol.leaderboard.scores import table
from ocp_physmol.leaderboard.splits import gather, score

TASKS = ("s2ef", "is2re")
MODELS = ("physmol", "schnet")
# small enough for a processor: width, depth and radial functions of both, in either one's words
SIZES = {
    "physmol": ["--model.hidden_channels=64", "--model.attention_channels=64",
                "--model.num_layers=3", "--model.num_rbf=32"],
    "schnet": ["--model.hidden_channels=64", "--model.num_filters=64",
               "--model.num_interactions=3", "--model.num_gaussians=32",
               "--optim.lr_initial=0.002"],  # its best of 0.0005, 0.002 with batches of 8
}  # fmt: skip
SMALL = [
    "--model.cutoff=5.0", "--optim.batch_size=8", "--optim.eval_batch_size=32",
    "--optim.num_workers=0", "--optim.eval_every=100000", "--optim.max_epochs=10000",
    "--optim.ema_decay=0.99",  # some thousand steps
]  # fmt: skip


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Command line of the demonstration."""
    parser = argparse.ArgumentParser(
        prog="python -m ocp_physmol.experiments.oc20_demo",
        description=__doc__.split("\n\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=240, help="S2EF training of each model")
    parser.add_argument(
        "--is2re-seconds", type=float, default=120, help="direct IS2RE training of each model"
    )
    parser.add_argument("--relaxations", type=int, default=300, help="of the training data")
    parser.add_argument("--data", type=Path, default=Path("data/emt"))
    parser.add_argument("--output", type=Path, default=Path("runs/oc20-demo"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if not Path("main.py").is_file():
        raise UserError("there is no main.py here; run the demo in the repository's folder")

    started = time.time()
    if not (args.data / "report.json").is_file():
        emt.make(args.data, args.relaxations, seed=args.seed)
    for name in (*(f"{task}_{model}" for task in TASKS for model in MODELS), "relaxations"):
        shutil.rmtree(args.output / name, ignore_errors=True)
    steps = {
        "s2ef": train("s2ef", args.data / "s2ef", args.output, args.seconds, args.seed),
        "is2re": train("is2re", args.data / "is2re", args.output, args.is2re_seconds, args.seed),
    }
    scores = {}
    for task in TASKS:
        for part in ("val", "test"):
            for model in MODELS:
                predictions = predict(task, part, model, args.data / task, args.output)
                scores[f"{task} {part} {model}"] = submit(
                    task, part, predictions, args.data / task, args.output / f"{task}_{model}"
                )
    trajectories = relax(args.data / "is2re", args.output)
    for task in ("is2re-relaxations", "is2rs"):
        scores[f"{task} test physmol"] = submit(
            task, "test", trajectories, args.data / "is2re", args.output / "relaxations"
        )
    report(scores, steps, args, time.time() - started)


def checkpoint(task: str, model: str, output: Path, name: str = "best_checkpoint.pt") -> Path:
    return output / f"{task}_{model}" / "checkpoints/run" / name


def train(task: str, data: Path, output: Path, seconds: float, seed: int) -> dict[str, int]:
    """Train both models at the same time, then validate them; return their numbers of steps."""
    source = [f"--dataset.train.src={data / 'train'}", f"--dataset.val.src={data / 'val_id'}"]
    folders = {model: output / f"{task}_{model}" for model in MODELS}
    logs = {model: folder / "log.txt" for model, folder in folders.items()}
    options = [*SMALL, *source, f"--optim.max_seconds={seconds}", "--seed", seed]
    commands = {
        model: main_py("train", f"configs/{task}/{model}.yml", folder, *SIZES[model], *options)
        for model, folder in folders.items()
    }
    run_together(commands, logs, f"Training {task}", seconds)
    commands = {
        model: main_py("validate", f"configs/{task}/{model}.yml", folder / "validation",
                       *SIZES[model], *SMALL, *source,
                       "--checkpoint", checkpoint(task, model, output))
        for model, folder in folders.items()
    }  # fmt: skip
    run_together(commands, logs, f"Validating {task}")
    states = {m: read_checkpoint(str(checkpoint(task, m, output, "checkpoint.pt"))) for m in MODELS}
    return {model: state["step"] for model, state in states.items()}


def predict(task: str, part: str, model: str, data: Path, output: Path) -> dict[str, Path]:
    """Predict all four splits; return the files written."""
    folders = {split: output / f"{task}_{model}" / f"{part}_{split}" for split in SPLITS}
    commands = {
        split: main_py("predict", f"configs/{task}/{model}.yml", folder, *SIZES[model], *SMALL,
                       f"--dataset.train.src={data / 'train'}",
                       f"--dataset.val.src={data / 'val_id'}",
                       f"--dataset.test.src={data / f'{part}_{split}'}",
                       "--checkpoint", checkpoint(task, model, output))
        for split, folder in folders.items()
    }  # fmt: skip
    run_two_by_two(commands, folders, f"Predicting {task} {part} with {model}")
    return {s: folder / "results/run/ocp_predictions.npz" for s, folder in folders.items()}


def relax(data: Path, output: Path) -> dict[str, Path]:
    """Relax all four test splits with the S2EF model; return the folders of trajectories."""
    folders = {split: output / "relaxations" / split for split in SPLITS}
    trajectories = {split: folder / "trajectories" for split, folder in folders.items()}
    s2ef = data.parent / "s2ef"
    commands = {
        split: main_py("run-relaxations", "configs/s2ef/relaxation.yml", folder,
                       *SIZES["physmol"], *SMALL, f"--dataset.train.src={s2ef / 'train'}",
                       f"--dataset.val.src={s2ef / 'val_id'}",
                       f"--dataset.relax.src={data / f'test_{split}'}",
                       f"--task.relax_opt.traj_dir={trajectories[split]}",
                       "--checkpoint", checkpoint("s2ef", "physmol", output))
        for split, folder in folders.items()
    }  # fmt: skip
    run_two_by_two(commands, folders, "Relaxing")
    return trajectories


def run_two_by_two(commands: dict, folders: dict, title: str) -> None:
    """Each of two cores has a command to run."""
    names = list(commands)
    for first in range(0, len(names), 2):
        pair = names[first : first + 2]
        run_together(
            {name: commands[name] for name in pair},
            {name: folders[name] / "log.txt" for name in pair},
            f"{title}: {', '.join(pair)}",
        )


def submit(task: str, part: str, predictions: dict, data: Path, folder: Path) -> dict:
    """Gather, check and score; return the scores of each split."""
    file = folder / f"{task}_{part}.npz"
    gather(task, predictions, data, part, file)
    return score(task, file, data, part)


def report(scores: dict[str, dict], steps: dict, args, seconds: float) -> None:
    """Print all tables and write scores.json."""
    print("\nOC20-shaped data of ASE's EMT: a stand-in to run everything on, no benchmark.")
    for name, values in scores.items():
        print(f"\n{name}\n{table(values)}")
    path = args.output / "scores.json"
    content = {
        "scores": scores,
        "training": {"s2ef_seconds": args.seconds, "is2re_seconds": args.is2re_seconds,
                     "steps": steps, "seed": args.seed},
        **provenance(len(MODELS)),
        "seconds": round(seconds),
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nWritten in {seconds / 60:.1f} minutes: {path}, with the submission files beside it")


if __name__ == "__main__":
    main()
