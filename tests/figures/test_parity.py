"""The picture of predictions against labels."""

import numpy as np

from ocp_physmol.figures.parity import parity_figure


def test_both_panels_say_their_errors_and_units(tmp_path):
    rng = np.random.default_rng(0)
    energies, forces = rng.normal(size=(2, 20)), rng.normal(size=(2, 300))
    energies[1], forces[1] = energies[0] + 0.025, forces[0] - 0.117
    parity_figure(tmp_path / "new/parity.svg", energies, forces)
    text = (tmp_path / "new/parity.svg").read_text()
    assert "MAE 25 meV<" in text and "MAE 117 meV/Å<" in text
    assert ">label (eV)<" in text and ">model (eV/Å)<" in text
