"""Kinds of values that the options of commands take."""

from pathlib import Path

import click

PATH = click.Path(path_type=Path)
COUNT = click.IntRange(1)
SEED = click.IntRange(0)
SECONDS = click.FloatRange(0, min_open=True)
