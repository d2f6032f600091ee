"""From nothing to files for the OC20 leaderboard: ocp-physmol oc20-demo"""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import click

from ocp_physmol.checkpoint import read_checkpoint
from ocp_physmol.datasets import emt
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.experiments.launch import BEST, LAST, Chain, launch, model_command
from ocp_physmol.experiments.provenance import write_result
from ocp_physmol.leaderboard.gather_and_check import gather, score
from ocp_physmol.leaderboard.scores import table
from ocp_physmol.option_types import COUNT, PATH, SECONDS, SEED

TASKS = ("s2ef", "is2re")
MODELS = ("physmol", "schnet")
# small enough for a processor: width, depth and radial functions of both, in either one's words
SIZES = {
    "physmol": ["--model.hidden_channels=64", "--model.attention_channels=32",
                "--model.vector_channels=32", "--model.num_layers=3", "--model.num_rbf=32"],
    "schnet": ["--model.hidden_channels=64", "--model.num_filters=64",
               "--model.num_interactions=3", "--model.num_gaussians=32",
               "--optim.lr_initial=0.002"],  # its best of 0.0005, 0.002 with batches of 8
}  # fmt: skip
SMALL = [
    "--model.cutoff=5.0", "--optim.batch_size=8", "--optim.eval_batch_size=32",
    "--optim.num_workers=0", "--optim.eval_every=100000", "--optim.max_epochs=10000",
    "--optim.ema_decay=0.99",  # some thousand steps
]  # fmt: skip
JOBS = 2


@click.command("oc20-demo", context_settings={"show_default": True})
@click.option("--seconds", type=SECONDS, default=240, help="S2EF training of each model.")
@click.option("--is2re-seconds", type=SECONDS, default=120, help="Direct IS2RE training of each.")
@click.option("--relaxations", type=COUNT, default=300, help="Relaxations to make data of.")
@click.option("--data", type=PATH, default="data/emt", help="Made if it is not there.")
@click.option("--output", type=PATH, default="runs/oc20-demo", help="Folder to fill.")
@click.option("--seed", type=SEED, default=0, help="Of data and trainings.")
def command(
    seconds: float, is2re_seconds: float, relaxations: int, data: Path, output: Path, seed: int
) -> None:
    """Run all of OC20's tasks on small made-up data.

    Makes the EMT set (OC20-shaped data that need no download, and no benchmark), trains PhysMol and
    SchNet side by side for the same number of seconds on S2EF and on direct IS2RE, relaxes IS2RE's
    initial structures with the S2EF model, gathers the predictions of all splits in submission
    files, checks them, and scores them.
    """
    started = time.monotonic()
    _require_same(data, {"seed": seed, "relaxations": len(emt.plan(relaxations, seed))})
    if not (data / "report.json").is_file():
        emt.make(data, relaxations, seed=seed)
    for name in (*map("_".join, product(TASKS, MODELS)), "relaxations"):
        shutil.rmtree(output / name, ignore_errors=True)
    demo = Demo(data, output, seed)
    steps = {"s2ef": demo.train("s2ef", seconds), "is2re": demo.train("is2re", is2re_seconds)}
    scores = {}
    for task, part, model in product(TASKS, ("val", "test"), MODELS):
        predicted, folder = demo.predict(task, part, model), output / f"{task}_{model}"
        scores[f"{task} {part} {model}"] = demo.submit(task, part, predicted, folder)
    relaxed = demo.relax()
    for task in ("is2re-relaxations", "is2rs"):
        scores[f"{task} test physmol"] = demo.submit(task, "test", relaxed, output / "relaxations")
    click.echo("\nOC20-shaped data of ASE's EMT: a stand-in to run everything on, no benchmark.")
    for name, values in scores.items():
        click.echo(f"\n{name}\n{table(values)}")
    lengths = {"s2ef_seconds": seconds, "is2re_seconds": is2re_seconds, "steps": steps}
    content = {"scores": scores, "training": {**lengths, "seed": seed}}
    beside = ", with the submission files beside it"
    write_result(output / "scores.json", content, JOBS, started, beside)


def _require_same(data: Path, asked: dict) -> None:
    """Raise a UserError if data are there that were made otherwise."""
    with suppress(FileNotFoundError):
        report = json.loads((data / "report.json").read_text())
        for key, value in asked.items():
            if report.get(key, value) != value:
                raise UserError(
                    f"{data} was made with {key} {report[key]}, not {value}; choose another --data"
                )


@dataclass(frozen=True)
class Demo:
    """The steps of the demonstration."""

    data: Path  # folder with the LMDBs s2ef/SPLIT and is2re/SPLIT
    output: Path  # folder to fill
    seed: int  # of the trainings

    def train(self, task: str, seconds: float) -> dict[str, int]:
        """Train both models at the same time, then validate them; return their numbers of steps."""
        folders = {model: self.output / f"{task}_{model}" for model in MODELS}
        options = (f"--optim.max_seconds={seconds}", "--seed", self.seed)
        trainings, validations = {}, {}
        for model, folder in folders.items():
            trainings[model] = self._chain("train", task, model, folder, *options)
            validations[model] = self._chain("validate", task, model, folder / "validation")
        launch(trainings, JOBS, f"Training {task}", seconds)
        launch(validations, JOBS, f"Validating {task}")
        return {model: read_checkpoint(folder / LAST)["step"] for model, folder in folders.items()}

    def predict(self, task: str, part: str, model: str) -> dict[str, Path]:
        """Predict all four splits; return the files written."""
        folders = {s: self.output / f"{task}_{model}" / f"{part}_{s}" for s in SPLITS}
        source = f"--dataset.test.src={self.data}/{task}/{part}_"
        chains = {s: self._chain("predict", task, model, f, source + s) for s, f in folders.items()}
        launch(chains, JOBS, f"Predicting {task} {part} with {model}")
        return {s: folder / "results/run/ocp_predictions.npz" for s, folder in folders.items()}

    def relax(self) -> dict[str, Path]:
        """Relax all four test splits with the S2EF model; return the folders of trajectories."""
        targets = {s: self.output / "relaxations" / s / "trajectories" for s in SPLITS}
        chains = {}
        for split, target in targets.items():
            source = f"--dataset.relax.src={self.data}/is2re/test_{split}"
            options = (source, f"--task.relax_opt.traj_dir={target}")
            chains[split] = self._chain("relax", "s2ef", "physmol", target.parent, *options)
        launch(chains, JOBS, "Relaxing")
        return targets

    def submit(
        self, task: str, part: str, predictions: dict[str, Path], folder: Path
    ) -> dict[str, dict[str, float]]:
        """Gather, check and score; return the scores of each split."""
        data = self.data / ("s2ef" if task == "s2ef" else "is2re")
        file = folder / f"{task}_{part}.npz"
        gather(task, predictions, data, part, file)
        return score(task, file, data, part)

    def _chain(self, name: str, task: str, model: str, folder: Path, *options: object) -> Chain:
        """One command, with the best checkpoint of the model if it is not to be trained."""
        data = self.data / task
        sources = (f"--dataset.train.src={data}/train", f"--dataset.val.src={data}/val_id")
        best = self.output / f"{task}_{model}" / BEST
        start = () if name == "train" else ("--checkpoint", best)
        path = f"configs/{task}/{'relaxation' if name == 'relax' else model}.yml"
        all_options = (*SIZES[model], *SMALL, *sources, *start, *options)
        return Chain({name: model_command(name, path, folder, *all_options)}, folder / "log.txt")
