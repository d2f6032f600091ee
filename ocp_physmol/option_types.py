"""Kinds of values that the options of commands take."""

import math
import re
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
COUNT = click.IntRange(1)
SEED = click.IntRange(0)
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType):
    """A time as 90s, 10m or 1.5h; a number alone is in seconds, which it becomes."""

    name = "time"

    def convert(self, value, param, ctx) -> float:
        found = re.fullmatch(r"(\d+\.?\d*)([smh]?)", str(value))
        seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
        if seconds <= 0:
            self.fail(f"'{value}' is no time; give one as 90s, 10m or 1.5h", param, ctx)
        return seconds


class Number(click.FloatRange):
    """A finite number, in a range."""

    def convert(self, value, param, ctx) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


POSITIVE = Number(0, min_open=True)
SECONDS = POSITIVE
DURATION = Duration()
