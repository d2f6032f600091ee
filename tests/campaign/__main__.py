"""Thousands of unfit inputs, and a table of how they were taken: make campaign"""

import collections
import itertools
import shlex
import shutil
import sys
import tempfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import click
import numpy as np
import warm
import yaml
from ase.io import write
from campaign import command_options, config_values, damaged_files, odd_structures
from campaign.case import BAD, VERDICTS, Outcome, run
from tqdm import tqdm

SOURCES = (config_values, command_options, damaged_files, odd_structures)


@click.command(context_settings={"show_default": True})
@click.option("--jobs", type=click.IntRange(1), default=2, help="At the same time.")
@click.option("--every", type=click.IntRange(1), default=1, help="Take each so-manieth input.")
@click.option("--only", default="", help="Inputs whose kind or name has this text.")
@click.option("--log", type=click.File("w"), default="campaign.log", help="Of what was not right.")
def main(jobs: int, every: int, only: str, log) -> None:
    """Try every input; exit with status 1 if one ends in a traceback, hangs or is taken wrongly."""
    started, counts = time.monotonic(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        found = itertools.chain.from_iterable(
            source.cases(data, Path(folder) / source.__name__.split(".")[-1]) for source in SOURCES
        )
        chosen = [case for case in found if only in f"{case.kind}: {case.name}"][::every]
        with ThreadPool(jobs) as pool:
            for outcome in tqdm(pool.imap(run, chosen), "Campaign", len(chosen), unit=" inputs"):
                counts[outcome.case.kind, outcome.verdict] += 1
                if outcome.verdict in BAD:
                    log.write(described(outcome))
                    log.flush()
    print(table(counts))
    print(f"{len(chosen)} inputs in {(time.monotonic() - started) / 60:.0f} minutes")
    sys.exit(any(counts[kind, verdict] for kind, verdict in counts if verdict in BAD))


def make_data(folder: Path) -> dict[str, Path]:
    """Small good files of every kind, by kind."""
    from conftest import SAMPLE_ARCHIVE, SAMPLE_CSV, small_run

    from ocp_physmol.datasets import emt, qm9
    from ocp_physmol.files import write_json
    from ocp_physmol.pushes import curvature

    qm9.make(folder / "qm9", str(SAMPLE_CSV))
    curvature.make(folder / "qm9", folder / "labelled", pushes=2, frequencies=4)
    systems = [s for s in emt.plan(30, seed=0) if s.split != "train" or s.sid < 8]
    emt.write([emt.relax(system) for system in systems], folder / "emt", 4, {"entries": {}})
    frames = [odd_structures.labelled(odd_structures.ethanol(seed)) for seed in range(30)]
    write(folder / "good.xyz", frames, format="extxyz")
    write_json(folder / "good.json", {"name": "no record"})
    runs = {"A run": {"config": str(warm.REPOSITORY / "configs/qm9/schnet.yml")}}
    experiment = {"title": "A run", "seconds": 1, "runs": runs}
    (folder / "good.yml").write_text(yaml.safe_dump(experiment))
    shutil.copy(SAMPLE_ARCHIVE, folder / "good.tar.bz2")
    np.savez(folder / "good.npz", id_ids=np.array(["1_1"]), id_energy=np.zeros(1))
    trained = warm.run(
        ["main.py", "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu",
         "--run-dir", str(folder / "trained"), "--timestamp-id", "run",
         *small_run(folder / "qm9")], 300,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stdout
    best = folder / "trained/checkpoints/run/best_checkpoint.pt"
    made = {kind: folder / f"good.{kind}" for kind in ("xyz", "json", "yml", "tar.bz2", "npz")}
    return {
        **made, "experiment": made["yml"], "records": folder, "csv": SAMPLE_CSV,
        "qm9": folder / "qm9", "labelled": folder / "labelled",
        "s2ef": folder / "emt/s2ef", "is2re": folder / "emt/is2re",
        "lmdb": folder / "qm9/test/data.lmdb", "pt": best, "checkpoint": best,
    }  # fmt: skip


def described(outcome: Outcome) -> str:
    case = outcome.case
    end = "\n".join(outcome.printed.replace("\r", "\n").splitlines()[-12:])
    return (
        f"== {outcome.verdict}: {case.kind}: {case.name}\n{shlex.join(case.arguments)}\n{end}\n\n"
    )


def table(counts: collections.Counter) -> str:
    """Markdown: a row for each kind of input, and their sum."""
    kinds = list(dict.fromkeys(kind for kind, _ in counts))
    lines = [f"| | tried | {' | '.join(VERDICTS)} |", "| --- " * (len(VERDICTS) + 2) + "|"]
    for kind in [*kinds, "all"]:
        of_kind = [
            sum(counts[k, v] for k in (kinds if kind == "all" else [kind])) for v in VERDICTS
        ]
        lines.append(f"| {kind} | " + " | ".join(f"{n:,}" for n in [sum(of_kind), *of_kind]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
