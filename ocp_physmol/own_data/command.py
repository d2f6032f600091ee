"""From files that ASE reads to a trained and judged model: ocp-physmol train FILE..."""

import shlex
import time
from pathlib import Path

import click
import torch

from ocp_physmol.checkpoint import read_checkpoint
from ocp_physmol.evaluation.structure_tasks import table
from ocp_physmol.experiments.launch import BEST, LAST, Chain, launch, ocp_physmol
from ocp_physmol.experiments.provenance import write_result
from ocp_physmol.figures.parity import parity_figure
from ocp_physmol.option_types import COUNT, DURATION, PATH, SEED
from ocp_physmol.own_data.configuration import BASES, read_base, write_config
from ocp_physmol.own_data.conversion import make_data
from ocp_physmol.own_data.judgement import ROWS, Judgement, judge
from ocp_physmol.own_data.reference import Reference
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

MINUTES = 10  # of a training without --time and --epochs
CELLS = (
    "The cells differ between frames of the same atoms. Stress is not trained, so relax positions "
    "with this model, but no cells. Held-out frames may be neighbours of those trained on."
)
UNKNOWN = (
    "{count} of the held-out frames have elements that no training frame has: {elements}. Their "
    "energies cannot be predicted, and spoil the errors below; add calculations of these elements."
)
NEXT_STEPS = """
To use the model, with energies in eV and forces in eV/Å:

    import ocp_physmol.plugin
    from fairchem.core import OCPCalculator
    atoms.calc = OCPCalculator(checkpoint_path="{best}")

To train it on, run the same command with a longer --time, or more --epochs. To change anything,
edit {config} and:

    ocp-physmol train --config-yml={config} --run-dir={again}{device}
"""


@click.command(
    "train",
    context_settings={"show_default": True, "ignore_unknown_options": True},
    epilog="`ocp-physmol train --config-yml FILE` trains the model of a config, on any data. It is "
    "fairchem's command line; `ocp-physmol train --config-yml FILE --help` lists its options.",
)  # fmt: skip
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--model", type=click.Choice(list(BASES)), default="physmol",
              help="PaiNN and SchNet, of the same width and depth, for comparison.")  # fmt: skip
@click.option("--output", type=PATH, show_default="runs/NAME of the first file",
              help="Folder to fill.")  # fmt: skip
@click.option("--time", "seconds", type=DURATION, show_default=f"{MINUTES}m, without --epochs",
              help="How long to train: 90s, 10m, 1.5h.")  # fmt: skip
@click.option("--epochs", type=COUNT, help="How often to see each frame in training.")
@click.option("--seed", type=SEED, default=0, help="Of the splits and of the training.")
@click.option("--cpu", is_flag=True, help="Leave a GPU alone.")
def command(
    files: tuple[str, ...], model: str, output: Path | None, seconds: float | None,
    epochs: int | None, seed: int, cpu: bool,
) -> None:  # fmt: skip
    """Train a model on your own calculations, and judge it on a tenth of them that is held out.

    Each FILE is of any format that ASE reads, or a folder of such files, with energies (eV) and
    forces (eV/Å). PhysMol and its training are those of configs/s2ef/own.yml; any key can be
    overridden, as with --optim.batch_size=8. The same command again goes on where it was.
    """
    started, gpu = time.monotonic(), torch.cuda.is_available() and not cpu
    overrides = [text for text in files if text.startswith("-")]
    sources = [Path(text) for text in files if not text.startswith("-")]
    if not sources:
        raise click.UsageError("Missing argument 'FILE...'.")
    name = sources[0].resolve().stem + ("" if model == "physmol" else f"_{model}")
    output = output or Path("runs", name)
    seconds = seconds or (None if epochs else 60.0 * MINUTES)
    base = read_base(model, output, seconds, epochs, overrides)  # a mistake in it comes first
    config = write_config(*base, output, make_data(sources, output, seed))
    device = () if gpu else ("--cpu",)
    train = ocp_physmol(
        "train", f"--config-yml={config}", f"--run-dir={output}", "--timestamp-id", "run",
        "--seed", seed, "--print-every", 50, *device,
    )  # fmt: skip
    launch({output.name: Chain({"training": train}, output / "log.txt")}, 1, "Training", seconds)

    result = _judged(output, gpu)
    steps = read_checkpoint(output / LAST)["step"]
    click.echo(
        f"\n{result.frames} held-out frames, after {steps} steps of training\n\n"
        f"{table(result.columns, ROWS)}"
    )
    content = {**result.columns, "frames": result.frames, "train_steps": steps, "seed": seed}
    write_result(output / "results.json", content, 1, started, f" and {output / 'parity.png'}")
    paths = {"config": config, "again": output / "next"}
    quoted = {name: shlex.quote(str(path)) for name, path in paths.items()}
    click.echo(NEXT_STEPS.format(best=output / BEST, device=" ".join(["", *device]), **quoted))


def _judged(output: Path, gpu: bool) -> Judgement:
    """Judge the best weights on the held-out frames, and draw them against their labels."""
    reference = Reference.of(open_labelled(output / "data/train"))
    if reference.cells_vary:
        click.echo(CELLS)
    held_out = open_labelled(output / "data/test")
    elements, count = reference.unknown(held_out)
    if elements:
        click.echo(UNKNOWN.format(count=count, elements=", ".join(elements)))
    predictor = Predictor.open(output / BEST, cpu=not gpu)
    result = judge(predictor, held_out, reference)
    parity_figure(output / "parity.png", *result.pairs)
    return result
