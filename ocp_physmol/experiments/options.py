"""Kinds of values that the options of several commands take."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)
SECONDS = click.FloatRange(0, min_open=True)
COUNT = click.IntRange(1)
SEED = click.IntRange(0)
MOLECULES = 256  # to relax; the paper takes its 128 smallest and 128 random ones
