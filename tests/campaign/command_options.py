"""Every option of every command with every unfit value."""

from collections.abc import Iterator
from pathlib import Path

import click
from campaign.case import Case

from ocp_physmol.__main__ import COMMANDS, HIDDEN, LazyGroup
from ocp_physmol.datasets.qm9 import SPLITS
from ocp_physmol.datasets.splits import EVALUATION
from ocp_physmol.option_types import DURATION

TEXTS = ["", "x", "-1", "nan", "inf", "-inf", "1e400", "0x1", "☃", "1,5", "--"]
PATHS = {
    "empty": "", "missing": "not/there", "unicode": "☃", "255 bytes": "x" * 255,
    "256 bytes": "y" * 256, "leading dash": "./-x", "spaces": "a b ", "null device": "/dev/null",
    "root": "/", "below a file": "/etc/passwd/x", "own": "/proc/self/mem", "dots": "../../..",
}  # fmt: skip
OF_MAIN = {
    "--num-gpus": TEXTS, "--num-nodes": TEXTS, "--print-every": [*TEXTS, "0"], "--seed": TEXTS,
    "--mode": ["", "x"], "--config-yml": list(PATHS.values()), "--checkpoint": list(PATHS.values()),
    "--sweep-yml": list(PATHS.values()), "--run-dir": ["/etc/passwd/x", "/dev/null"],
    "--identifier": ["../x", "a/b", "..", "x" * 300], "--timestamp-id": ["../x", "x" * 300, "/"],
    "--slurm-mem": TEXTS, "--slurm-timeout": TEXTS, "--world_size": ["5", "x", "-1", "0"],
    "--optim": ["5", "null", "[]", "x"], "--model": ["5", "null", "[]", "x"],
    "--dataset": ["5", "null", "x"], "--task": ["5", "null", "x"], "--outputs": ["5", "null"],
    "--loss_functions": ["5", "null", "{}", "[]"], "--evaluation_metrics": ["5", "null"],
    "--logger": ["5", "null", "x"], "--trainer": ["5", "null", "x"], "--amp": ["x", "5"],
    "--is_debug": ["x"], "--cpu": ["x"], "--submit": ["x"], "--gp_gpus": ["x", "-1"],
    "--distributed_backend": ["x"], "--nothing": ["1"], "--optim.batch_size": TEXTS,
}  # fmt: skip
# what else each command needs, on small data, to get as far as the option in question
BASES = {
    "train": ["{xyz}", "--epochs", "1", "--cpu", "--output", "{out}", "--model.hidden_channels=16",
              "--model.num_layers=1", "--model.attention_channels=8", "--model.vector_channels=8"],
    "recover": ["--checkpoint", "{checkpoint}", "--data", "{qm9}/test", "--output", "{out}",
                "--steps", "3"],
    "assemble": ["--checkpoint", "{checkpoint}", "--data", "{qm9}/test", "--output", "{out}",
                 "--steps", "3"],
    "frequencies": ["--checkpoint", "{checkpoint}", "--data", "{qm9}/test", "--output", "{out}",
                    "--molecules", "1"],
    "stability": ["--checkpoint", "{checkpoint}", "--data", "{qm9}/test", "--output", "{out}",
                  "--molecules", "1", "--picoseconds", "0.001"],
    "bond-parameters": ["--checkpoint", "{checkpoint}", "--data", "{qm9}/test",
                        "--output", "{out}"],
    "relax": ["--smiles", "CCO", "--method", "mmff94", "--steps", "3", "--output", "{out}"],
    "vibrations": ["--smiles", "CO", "--method", "mmff94", "--output", "{out}"],
    "export": ["{checkpoint}", "{out}/model", "--elements", "H,C"],
    "report": ["--records", "{records}", "--output", "{out}"],
    "data qm9": ["--source", "{csv}", "--output", "{out}"],
    "data emt": ["--relaxations", "8", "--frames", "2", "--output", "{out}"],
    "data files": ["{xyz}", "--output", "{out}"],
    "data curvature": ["{qm9}", "{out}", "--pushes", "1", "--frequencies", "0"],
    "data oc20": ["s2ef", "--split", "val_id", "--data-path", "{out}"],
    "leaderboard check": ["s2ef", "{npz}", "--data", "{s2ef}"],
    "leaderboard score": ["s2ef", "{npz}", "--data", "{s2ef}", "--part", "val"],
    "leaderboard gather": [
        "s2ef", "--data", "{s2ef}", "--output", "{out}.npz",
        *(f"--{split.replace('_', '-')}={{predicted}}/s2ef_{split}/s2ef_predictions.npz"
          for split in EVALUATION),
    ],
    "experiments": ["{experiment}", "--data", "{qm9}", "--runs", "{out}/runs", "--records",
                    "{out}/records", "--seconds", "1", "--molecules", "2"],
    "judge": ["{out}/run", "--output", "{out}/record.json", "--data", "{qm9}", "--molecules", "2"],
    "judge-surfaces": ["{out}/run", "--output", "{out}/record.json", "--data", "{s2ef}"],
}  # fmt: skip
MADE = {"experiments"}  # commands that make what is missing
MISSING = {"checkpoint", "data", "source", "exclude", "records", "experiment", "files", "src"}


def commands() -> Iterator[tuple[str, click.Command]]:
    """The commands that parse their own options, by name."""
    group = LazyGroup(COMMANDS, HIDDEN)
    for name in group.places:
        command = group.get_command(None, name)
        inner = getattr(command, "commands", None) or getattr(command, "places", {})
        for below in inner:
            yield f"{name} {below}", command.get_command(None, below)
        if not inner:
            yield name, command


def values(option: click.Parameter) -> Iterator[tuple[str, bool | None]]:
    """Unfit values of an option, and whether they must be refused."""
    kind = option.type
    if isinstance(kind, click.Path):
        for value in PATHS.values():
            yield value, True if value == "not/there" and option.name in MISSING else None
    elif (
        isinstance(kind, click.types.IntParamType | click.types.FloatParamType) or kind is DURATION
    ):
        for value in TEXTS:
            whole = isinstance(kind, click.types.IntParamType)
            yield value, True if whole or value not in ("1e400", "-1", "inf", "-inf") else None
    elif isinstance(kind, click.Choice):
        yield from (("", True), ("x", True), ("☃", True))
    elif not getattr(option, "is_flag", False):
        yield from (("", None), ("x", None), ("☃", None), ("../x", None))


def cases(data: dict[str, Path], folder: Path) -> Iterator[Case]:
    folder.mkdir()
    count = 0
    for name, command in commands():
        for option in command.params if name in BASES else []:
            for value, refused in values(option):
                refused = None if name in MADE and value == "not/there" else refused
                count += 1
                places = {**data, "out": folder / str(count)}
                base = [text.format(**places) for text in BASES[name]]
                if isinstance(option, click.Argument):
                    place = [p for p in command.params if isinstance(p, click.Argument)].index(
                        option
                    )
                    given = [*base[:place], value, *base[place + 1 :]]
                else:
                    given = [*base, f"{option.opts[-1]}={value}"]
                title = f"{name}: {option.opts[-1]} {value[:40]!r}"
                arguments = ["-m", "ocp_physmol", *name.split(), *given]
                start = folder / f"{count}_start"  # no other case makes what must be missing here
                yield Case("options of commands", title, arguments, refused, start, start.mkdir)
    for option, texts in OF_MAIN.items():
        for value in texts:
            count += 1
            arguments = [
                "main.py", "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu",
                "--run-dir", str(folder / f"{count}"), "--print-every=1",
                *(f"--dataset.{split}.src={data['qm9'] / split}" for split in SPLITS),
                "--model.hidden_channels=16", "--model.num_layers=1", "--optim.max_epochs=1",
                "--optim.max_steps=3", f"{option}={value}",
            ]  # fmt: skip
            yield Case("options of main.py", f"{option}={value[:40]!r}", arguments)
