"""Thousands of unfit inputs, and a table of how they were taken: make campaign"""

import collections
import itertools
import shlex
import sys
import tempfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import click
from campaign import (
    command_options,
    config_values,
    damaged_files,
    odd_structures,
    unfit_contents,
)
from campaign.case import BAD, VERDICTS, Outcome, run
from campaign.data import data_in, make_data
from campaign.table import table
from tqdm import tqdm

SOURCES = (config_values, command_options, damaged_files, odd_structures, unfit_contents)


@click.command(context_settings={"show_default": True})
@click.option("--jobs", type=click.IntRange(1), default=2, help="At the same time.")
@click.option("--every", type=click.IntRange(1), default=1, help="Take each so-manieth input.")
@click.option("--only", default="", help="Inputs whose kind or name has this text.")
@click.option("--log", type=click.File("w"), default="campaign.log", help="Of what was not right.")
def main(jobs: int, every: int, only: str, log) -> None:
    """Try every input; exit with status 1 if one ends in a traceback, hangs or is taken wrongly."""
    started, counts = time.monotonic(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        data = data_in(Path(folder))
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
    print(table(counts, VERDICTS))
    print(f"{len(chosen)} inputs in {(time.monotonic() - started) / 60:.0f} minutes")
    sys.exit(any(counts[kind, verdict] for kind, verdict in counts if verdict in BAD))


def described(outcome: Outcome) -> str:
    case = outcome.case
    end = "\n".join(outcome.printed.replace("\r", "\n").splitlines()[-12:])
    return (
        f"== {outcome.verdict}: {case.kind}: {case.name}\n{shlex.join(case.arguments)}\n{end}\n\n"
    )


if __name__ == "__main__":
    main()
