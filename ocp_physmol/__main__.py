"""The one command: ocp-physmol, or python -m ocp_physmol. `--help` lists what it can do."""

import importlib
from collections.abc import Callable
from typing import Any

import click

from ocp_physmol import register, trust
from ocp_physmol.errors import exit_on_user_error
from ocp_physmol.parent import end_with_parent_if_asked

DATA = {
    "Make data": {
        "qm9": ("datasets.qm9", "QM9, from the package qm9pack or the original archive."),
        "oc20": ("datasets.oc20", "OC20 (S2EF or IS2RE), downloaded and converted."),
        "emt": ("datasets.emt", "Small made-up data in the shape of OC20's; no download."),
        "files": ("datasets.ase_files", "Your own files, of any format that ASE reads."),
        "curvature": ("pushes.curvature", "Forces on pushed molecules, added to a data set."),
    }
}
COMMANDS = {
    "Molecules": {
        "relax": ("molecules.relax", "Relax molecules to the minima next to them."),
        "vibrations": ("molecules.vibrations", "Frequencies of molecules, a spectrum."),
    },
    "Data": {"data": (DATA, "Make a data set: qm9, oc20, emt, files or curvature.")},
    "Train and use a model": {
        "train": ("own_data.command", "Train on your own files, or the model of a config."),
        "validate": ("run.cli --mode validate", "Errors of a checkpoint on dataset.val."),
        "predict": ("run.cli --mode predict", "Predictions for dataset.test."),
        "export": ("potential.export", "Write a model to two files, for PhysMolCalculator in ASE."),
    },
    "Judge a model's energy surface": {
        "recover": ("evaluation.recovery", "Relax displaced molecules back to their minima."),
        "assemble": ("evaluation.assembly", "Relax molecules from their functional groups."),
        "frequencies": ("evaluation.vibrations", "Harmonic frequencies, beside QM9's."),
        "stability": ("evaluation.stability", "Molecules compressed, colliding and hot."),
        "bond-parameters": ("evaluation.bond_parameters", "Bond strengths and lengths of Eq. 5."),
    },
    "Experiments": {
        "experiments": ("experiments.command", "Train and judge a list of configs."),
        "report": ("experiments.report", "Tables and figures of all records in one page."),
        "quickstart": ("experiments.quickstart", "Data, training and judging in minutes."),
        "oc20-demo": ("experiments.oc20_demo", "OC20's tasks from data to submission, small."),
    },
    "Open Catalyst leaderboard": {
        "leaderboard": ("leaderboard.command", "Gather, check or score a submission."),
    },
}
WITH_CONFIG = {  # what subcommands are that get --config-yml: fairchem's, on any data
    "train": "run.cli --mode train",
    "relax": "run.cli --mode run-relaxations",
}
HIDDEN = {  # what `experiments` calls
    "judge": ("experiments.judge", "Judge one checkpoint on molecules."),
    "judge-surfaces": ("experiments.judge_surfaces", "Judge one checkpoint on surfaces."),
}


class LazyGroup(click.Group):
    """Subcommands by task, whose modules are imported only when they are called."""

    def __init__(self, by_task: dict, *unlisted: dict, **attributes) -> None:
        super().__init__(**attributes)
        self.by_task = by_task
        tasks = [*by_task.values(), *unlisted]
        self.places = {name: entry for task in tasks for name, entry in task.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def resolve_command(self, ctx: click.Context, args: list[str]):
        name, *rest = args
        if name in WITH_CONFIG and any(arg.startswith("--config") for arg in rest):
            return name, self._loaded(WITH_CONFIG[name], name, ""), rest
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.places:
            return None
        place, line = self.places[name]
        if isinstance(place, dict):
            return LazyGroup(place, name=name, help=line)
        return self._loaded(place, name, line)

    @staticmethod
    def _loaded(place: str, name: str, line: str) -> click.Command:
        module_name, *arguments = place.split()
        if not module_name.startswith("molecules."):  # which needs no fairchem
            register()
        module = importlib.import_module(f"ocp_physmol.{module_name}")
        return getattr(module, "command", None) or _pass_on(name, line, module.main, arguments)

    def invoke(self, ctx: click.Context) -> Any:
        with exit_on_user_error():  # click would say "Aborted!" of an interruption
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for task, entries in self.by_task.items():
            with formatter.section(task):
                formatter.write_dl([(name, line) for name, (_, line) in entries.items()])


def _pass_on(name: str, line: str, main: Callable, before: list[str]) -> click.Command:
    """A command that leaves the parsing of its arguments, --help included, to `main`."""
    rest = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    settings = {"ignore_unknown_options": True, "help_option_names": []}
    return click.Command(
        name, settings, lambda arguments: main([*before, *arguments]), [rest], help=line
    )


def _trust(context: click.Context, option: click.Parameter, given: bool) -> None:
    if given:
        trust.allow_code()


def main(arguments: list[str] | None = None) -> None:
    """Run the subcommand that the arguments name; exit with status 2 if its input is wrong."""
    end_with_parent_if_asked()
    help_text = "PhysMol, a physics-empowered potential, as a plugin of fairchem-core 1.10."
    option = click.Option(
        ["--trust"], is_flag=True, expose_value=False, help=trust.HELP,
        callback=_trust,
    )  # fmt: skip
    group = LazyGroup(COMMANDS, HIDDEN, help=help_text, params=[option])
    group.main(arguments, prog_name="ocp-physmol")


if __name__ == "__main__":
    main()
