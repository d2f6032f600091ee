"""What README and docs/ say exists: files, links, commands and their options."""

import re
import shlex
import subprocess
import sys

import click
import pytest
import yaml
from conftest import REPOSITORY
from fairchem.core.common.flags import flags

from ocp_physmol import __main__ as command_line

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yml|md|png|ipynb|json|csv))`")
MADE = ("runs/", "report/", "data/", "checkpoints/", "results/", "logs/", "trajectories/", "site/")


def pages():
    return pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


@pages()
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in anchors, f"{page.name}: {link}"


@pages()
def test_named_files_exist(page):
    roots = [REPOSITORY, REPOSITORY / "ocp_physmol", REPOSITORY / "configs"]
    old = page.name == "CHANGELOG.md"
    for name in NAMED.findall(page.read_text()):
        if not name.startswith(MADE) and not old:
            assert any((root / name).exists() for root in roots), f"{page.name}: {name}"


def test_the_code_map_has_every_module():
    text = (REPOSITORY / "docs/code-map.md").read_text()
    for path in (REPOSITORY / "ocp_physmol").rglob("*.py"):
        place = path.relative_to(REPOSITORY / "ocp_physmol")
        names = {str(place), f"{place.parent}/"}
        assert path.name == "__init__.py" or any(f"`{name}`" in text for name in names), place


def commands(page) -> list[list[str]]:
    """The words of each command of a page that starts this project's programs."""
    found = []
    for block in BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"^\w+=", words[0]):
                words = words[1:]
            if words[:1] == ["ocp-physmol"] or words[:2] == ["python", "main.py"]:
                found.append(words)
    return found


@pages()
def test_commands_can_be_typed(page):
    for words in commands(page):
        (_parse_main if words[0] == "python" else _parse_subcommand)(words)


def _parse_main(words: list[str]) -> None:
    """fairchem's parser knows all options but overrides; the config, if it is a file, exists."""
    args, overrides = flags.get_parser().parse_known_args(words[2:])
    assert all(re.match(r"--\w+(\.\w+)+=", o) for o in overrides), words
    if "$" not in str(args.config_yml):
        assert (REPOSITORY / args.config_yml).is_file(), words


def _parse_subcommand(words: list[str]) -> None:
    """Subcommands and options exist, and nothing is left over; values are not looked at."""
    command = command_line.LazyGroup(command_line.COMMANDS, command_line.HIDDEN)
    context, words = click.Context(command), words[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    takes_overrides = command.context_settings.get("ignore_unknown_options", False)
    context = click.Context(command, ignore_unknown_options=takes_overrides)
    _, rest, _ = command.make_parser(context).parse_args(words)
    assert not rest, f"{command.name}: {rest}"


def test_every_subcommand_is_documented():
    text = "".join(page.read_text() for page in PAGES)
    for names in command_line.COMMANDS.values():
        for name in names:
            assert f"ocp-physmol {name}" in text or f"`{name}`" in text, name


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "restoring_force" in (tmp_path / "api/losses.html").read_text()


def test_commits_are_checked_by_the_ruff_of_make_check():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0][
        "hooks"
    ]
    pinned = re.search(
        r"^ruff==[\d.]+", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE
    )
    used = {d for hook in hooks for d in hook.get("additional_dependencies", [])}
    assert used == {pinned.group()}
