"""Experiment files: those shipped, and what may be wrong with others."""

import re
from itertools import product
from pathlib import Path

import pytest
from conftest import REPOSITORY

from ocp_physmol.errors import UserError
from ocp_physmol.experiments.experiment_files import labelled_folder, read_experiment

FOLDER = REPOSITORY / "configs/qm9/experiments"
SHIPPED = sorted(p.stem for p in FOLDER.glob("*.yml") if not p.stem.endswith(("_rows", "_sweep")))


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The runs of an experiment file with this content."""
    monkeypatch.chdir(REPOSITORY)

    def read_content(content, **options):
        path = tmp_path / "mine.yml"
        path.write_text(content)
        return read_experiment(path, tmp_path / "data", **options)[1]

    return read_content


def test_labels_are_beside_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in (tmp_path, Path(".")):
        assert labelled_folder(data) == tmp_path.with_name(f"{tmp_path.name}-gfn2")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files(name, monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    experiment, runs = read_experiment(FOLDER / f"{name}.yml", tmp_path)
    assert experiment.title and [run.place for run in runs.values()] == list(range(len(runs)))
    for run in runs.values():
        if run.entry.calculator:
            continue
        assert run.config["optim"]["max_seconds"] == run.seconds >= 150
        folder = tmp_path if run.pushes is None else labelled_folder(tmp_path)
        assert run.config["dataset"]["test"]["src"] == str(folder / "test")
        assert run.config["dataset"]["train"]["format"] == "physmol_lmdb"  # of the includes
        assert run.pushes in ({8} if "taught" in run.entry.config else {0, None})
    if name == "curve":
        assert sorted(run.seconds for run in runs.values()) == [150, 300, 600, 3600]


def test_surfaces_train_every_model_on_every_part(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    path = REPOSITORY / "configs/s2ef/experiments/surfaces.yml"
    experiment, runs = read_experiment(path, tmp_path)
    models = ["PhysMol", "SchNet", "PaiNN", "eSEN", "EquiformerV2", "GemNet-dT"]
    parts = ["seen", *(f"unseen {k}" for k in (1, 2, 3, 4))]
    assert [(run.model, run.part) for run in runs.values()] == list(product(models, parts))
    for run in runs.values():
        folder = tmp_path / run.part.replace(" ", "_")
        dataset = run.config["dataset"]
        assert {split: own["src"] for split, own in dataset.items()} == {
            "train": str(folder / "train"), "val": str(folder / "val")
        }  # fmt: skip
        assert run.config["optim"]["max_seconds"] == 1200 and run.seed == 0
    assert runs["eSEN, unseen 2"].slug == "eSEN_unseen_2"
    assert experiment.default_data == Path("data/surfaces")


def test_each_seed_is_a_run(read):
    runs = read(f"title: T\nseconds: 3\nseeds: [4, 7]\nruns: {{a: {RUN}}}")
    assert [(name, run.model, run.seed) for name, run in runs.items()] == [
        ("a, seed 4", "a", 4), ("a, seed 7", "a", 7)
    ]  # fmt: skip


def test_runs_are_completed_and_changed(read):
    runs = read(
        "title: T\nseconds: 60\nruns:\n"
        "  as it is: {config: configs/qm9/quickstart.yml}\n"
        "  'wide, long': {config: configs/qm9/quickstart.yml, seconds: 120, seed: 3, note: N,"
        " model: {hidden_channels: 128}}\n"
    )
    first, second = runs.values()
    assert first.config["model"]["hidden_channels"] == 64 and first.seconds == 60
    assert (second.slug, second.seconds) == ("wide_long", 120)
    assert (second.entry.seed, second.entry.note) == (3, "N")
    assert second.config["model"]["hidden_channels"] == 128
    assert second.config["model"]["num_layers"] == 3 and "seed" not in second.config


def test_the_command_line_has_the_last_word_on_seconds(read):
    runs = read("title: T\nseconds: 60\nruns: {a: {config: configs/qm9/schnet.yml, seconds: 9}}",
                seconds=5)  # fmt: skip
    assert runs["a"].seconds == 5 and runs["a"].config["optim"]["max_seconds"] == 5


def test_calculators_are_judged_without_training(read, tmp_path):
    runs = read("title: T\nseconds: 60\nruns: {GFN2: {calculator: gfn2}}")
    chain = runs["GFN2"].chain(tmp_path / "run", 0, judging=["judge"])
    assert chain.commands == {"judging": ["judge"]} and runs["GFN2"].seconds == 0
    assert (tmp_path / "run/config.yml").read_text() == "calculator: gfn2\n"


SCHNET = "configs/qm9/schnet.yml"
RUN = f"{{config: {SCHNET}}}"


@pytest.mark.parametrize("content, message", [
    ("title: [", "cannot be read"),
    ("seconds: 3", "title is missing"),
    (f"title: T\nruns: {{a: {RUN}}}", "seconds is missing; for example 900"),
    (f"title: T\nseconds: 0\nruns: {{a: {RUN}}}", "seconds: 0 is not possible"),
    ("title: T\nseconds: 3", "give either 'runs', each with a config, or 'config' and 'sweep'"),
    ("title: T\nseconds: 3\nruns: {}", "runs: {} is not possible; it must have at least 1 item"),
    ("title: T\nseconds: 3\nruns: {a: {}}", "runs.a: give either 'config' or 'calculator'"),
    (f"title: T\nseconds: 3\nruns: {{a: {{config: {SCHNET}, calculator: gfn2}}}}",
     "runs.a: give either 'config' or 'calculator'"),
    ("title: T\nseconds: 3\nruns: {a: {config: no.yml}}", "config no.yml cannot be read"),
    (f"title: T\nseconds: 3\nruns: {{a: {{config: {SCHNET}, modle: 1}}}}", "did you mean 'model'?"),
    (f"title: T\nseconds: 3\nconfig: {SCHNET}\nsweep: no.yml", "no.yml cannot be read"),
    (f"title: T\nseconds: 3\nrusn: {{a: {RUN}}}", "did you mean 'runs'?"),
    (f"title: T\nseconds: 3\nseeds: [1]\nruns: {{a: {{config: {SCHNET}, seed: 2}}}}",
     "give either 'seeds' or the 'seed' of a run"),
    (f"title: T\nseconds: 3\nsurfaces: {{folds: 1}}\nruns: {{a: {RUN}}}", "surfaces.folds: 1"),
    (f"title: T\nseconds: 3\nruns: {{a b: {RUN}, a/b: {RUN}}}", "run 'a/b' shares the folder"),
])  # fmt: skip
def test_bad_files(content, message, read, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read(content)
    assert str(tmp_path / "mine.yml") in str(error.value)
