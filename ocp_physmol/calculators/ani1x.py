"""The networks ANI-1x (Smith et al., 2018) as torchani 2.2.4 carries them, for ASE."""

from pathlib import Path

import torchani
from ase.calculators.calculator import CalculatorSetupError, all_changes

FOLDER = Path(torchani.__file__).parent / "resources/ani-1x_8x"
MEMBERS = 8


class ANI1x(torchani.ase.Calculator):
    """Energies and forces of molecules of H, C, N and O: the mean of eight networks.

    `calculate` raises a CalculatorSetupError for other elements. The files are the package's;
    `torchani.models.ANI1x` would download them.
    """

    def __init__(self) -> None:
        constants = torchani.neurochem.Constants(str(FOLDER / "rHCNO-5.2R_16-3.5A_a4-8.params"))
        networks = torchani.neurochem.load_model_ensemble(
            constants.species, str(FOLDER / "train"), MEMBERS
        )
        energies = torchani.neurochem.load_sae(str(FOLDER / "sae_linfit.dat"))
        model = torchani.nn.Sequential(torchani.AEVComputer(**constants), networks, energies)
        super().__init__(constants.species, model.double())
        self.elements = set(constants.species)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        unknown = sorted(set(atoms.get_chemical_symbols()) - self.elements)
        if unknown:
            raise CalculatorSetupError(f"ANI-1x does not know {', '.join(unknown)}")
        super().calculate(atoms, properties, system_changes)
