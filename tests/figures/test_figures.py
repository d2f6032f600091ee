"""What figures show: read from SVGs, whose text is text."""

import numpy as np
import pytest
from ase.build import molecule

from ocp_physmol.figures.distributions import distribution_figure, recovery_figure
from ocp_physmol.figures.molecules import molecules_figure
from ocp_physmol.figures.spectrum import spectrum_figure

MODELS = ("PhysMol", "SchNet", "PaiNN", "energy only")


def result(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    keys = ("displacements", "start_displacements", "energy_errors_mev", "force_norms_ev_per_a")
    values = {key: rng.lognormal(-2, 1, 50).tolist() for key in keys}
    return {**values, "energy_changes_ev": [np.inf, *-rng.lognormal(-4, 2, 49)]}


def row(name: str = "CH4", panels: int = 2) -> dict:
    atoms = molecule(name)
    shown = {f"panel {i}": atoms.positions + 0.05 * i for i in range(panels)}
    return {"title": f"{name}!", "numbers": atoms.numbers, "panels": shown}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_distributions_name_all_models(tmp_path, count):
    results = {name: result(i) for i, name in enumerate(MODELS[:count])}
    path = tmp_path / "new/distributions.svg"
    distribution_figure(path, results, do_nothing=0.15)
    text = path.read_text()
    assert all((f">{name}<" in text) == (name in results) for name in MODELS)
    assert "do nothing" in text and "ΔP (Å)" in text and "(eV)" in text
    distribution_figure(path, results)
    assert "do nothing" not in path.read_text()


def test_names_of_files_are_no_formulas(tmp_path):
    """Neither are they read as such, nor do they end in an error."""
    for name in ("x$_{$", "a$b$c"):
        spectrum_figure(tmp_path / "spectrum.svg", name, {"mmff94": np.array([500.0, 1000.0])})
        assert f"{name}, mmff94" in (tmp_path / "spectrum.svg").read_text()


def test_many_models_are_not_filled(tmp_path):
    def fills(count: int) -> int:
        distribution_figure(tmp_path / "d.svg", {str(i): result(i) for i in range(count)})
        return (tmp_path / "d.svg").read_text().count("opacity: 0.3")

    assert fills(2) == 4 and fills(3) == 0


def balls_and_sticks(path) -> int:
    return path.read_text().count('<g id="patch_')


def test_molecules_have_all_atoms_and_bonds(tmp_path):
    path = tmp_path / "molecules.svg"
    counts = []
    for panels in (1, 2, 3):
        molecules_figure(path, [row(panels=panels)])
        counts.append(balls_and_sticks(path))
    assert np.diff(counts).tolist() == [9, 9]  # methane: five atoms, four bonds
    text = path.read_text()
    assert ">CH4!<" in text and ">panel 2<" in text and ">C<" in text and ">O<" not in text


def test_explosions_and_lone_atoms_are_drawn(tmp_path):
    exploded = row()
    exploded["panels"]["panel 1"] = np.full((5, 3), np.nan)
    molecules_figure(tmp_path / "m.svg", [exploded, row("O"), row("H2", panels=1), row("CO2")])
    assert (tmp_path / "m.svg").read_text().count(">exploded<") == 1


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_recovery_figure(tmp_path, suffix):
    path = tmp_path / f"a/figure.{suffix}"
    recovery_figure(path, {"PhysMol": result(0), "energy only": result(1)}, [row("CH3CH2OH")])
    assert path.stat().st_size > 20_000
