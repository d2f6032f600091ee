"""The page of hand-made records, and of incomplete ones."""

import re

import pytest
from conftest import ends
from handmade import record, write_all

from ocp_physmol.experiments import report


@pytest.fixture(scope="module")
def models():
    return [
        record("PhysMol", energy=51.5, note="A note on <PhysMol>.", place=0),
        record("SchNet", energy=32.7, delta_p=float("inf"), place=1, paper="SchNet"),
    ]


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """The folder of a report of all experiments."""
    folder = tmp_path_factory.mktemp("report")
    ablation = [record(str(k), experiment="ablation", place=k) for k in range(1, 11)]
    curve = [record("150 s", experiment="curve"),
             record("600 s", experiment="curve", delta_p=0.1)]  # fmt: skip
    others = [record("wide", experiment="size", title="Width and depth", energy=77.7)]
    write_all(folder / "records", *models, *ablation, *curve, *others)
    ends(0, "report", "--records", folder / "records", "--output", folder / "report")
    return folder / "report"


def test_the_page_needs_nothing_from_elsewhere(whole):
    page = (whole / "index.html").read_text()
    assert set(re.findall(r'src="([a-z]+:)', page)) == {"data:"}
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    outside_of_figures = re.sub(r"data:[^\"]*", "", page)
    assert not re.search(r"https?://|<script|<link|@import|url\(", outside_of_figures)
    targets = set(re.findall(r'href="#(\w+)"', page))
    assert targets <= set(re.findall(r'id="(\w+)"', page)) and "ablation" in targets


def test_the_page_has_the_numbers(whole):
    page = (whole / "index.html").read_text()
    assert '<td class="best">32.7</td>' in page and "<td>51.5</td>" in page and "∞" in page
    assert "A note on &lt;PhysMol&gt;." in page
    assert "H2O, GDB 3 <small>(train split)</small>" in page
    assert "Width and depth" in page and ">77.7<" in page
    assert page.count("<details>") == 1 + 2 + 10 + 2 + 1
    assert "0123456789ab" in page and "batch_size: 4" in page


def test_tables_are_files_too(whole):
    header, *rows = (whole / "table1.csv").read_text().splitlines()
    assert header.startswith("model,paper_model,energy_mae_mev,force_mae_ev_per_a")
    assert rows[1].startswith("SchNet,SchNet,32.7,") and rows[1].endswith(",14,2.64,0.47")
    assert len((whole / "table2.csv").read_text().splitlines()) == 11


def test_what_has_no_records_is_said(models, tmp_path):
    page = report.page({"table1": models[:1]})
    assert page.count("There are no records of this experiment yet") == 2
    assert "with a model that has the physics readout" in page
    page = report.page({"size": [record("wide", experiment="size")]})
    assert page.count("There are no records of this experiment yet") == 3


def test_refusals(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    ends(2, "report", "--records", tmp_path / "empty", "--output", tmp_path)
    assert "holds no records; make records with ocp-physmol experiments" in capsys.readouterr().err
