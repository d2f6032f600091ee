"""The networks ANI-1x (Smith et al., 2018) as torchani 2.2.4 carries them, for ASE."""

from pathlib import Path

from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes

MEMBERS = 8


class ANI1x(Calculator):
    """Energies and forces of molecules of H, C, N and O: the mean of eight networks.

    `calculate` raises a CalculatorSetupError for other elements. The files are the package's;
    `torchani.models.ANI1x` would download them.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  # as ASE declares it

    def __init__(self) -> None:
        super().__init__()
        import torchani  # no part of this package's installation

        folder = Path(torchani.__file__).parent / "resources/ani-1x_8x"
        constants = torchani.neurochem.Constants(str(folder / "rHCNO-5.2R_16-3.5A_a4-8.params"))
        self.elements = constants.species
        model = torchani.nn.Sequential(
            torchani.AEVComputer(**constants),
            torchani.neurochem.load_model_ensemble(self.elements, str(folder / "train"), MEMBERS),
            torchani.neurochem.load_sae(str(folder / "sae_linfit.dat")),
        )
        self.networks = torchani.ase.Calculator(self.elements, model.double())

    def calculate(self, atoms=None, properties=None, system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        unknown = sorted(set(atoms.get_chemical_symbols()).difference(self.elements))
        if unknown:
            raise CalculatorSetupError(f"ANI-1x does not know {', '.join(unknown)}")
        self.networks.calculate(self.atoms, self.implemented_properties)
        self.results = {key: self.networks.results[key] for key in self.implemented_properties}
