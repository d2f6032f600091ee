"""The force field MMFF94 (Halgren, 1996) as RDKit has it, for ASE."""

import ase.units
import numpy as np
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds, rdForceFieldHelpers

UNIT = ase.units.kcal / ase.units.mol


class MMFF94(Calculator):
    """Energies and forces of neutral molecules, whose bonds are found anew in each geometry.

    `calculate` raises a CalculatorSetupError for periodic structures, and for atoms or bonds that
    the force field does not know.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  # as ASE declares it

    def calculate(self, atoms=None, properties=None, system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if self.atoms is not None and self.atoms.pbc.any():
            raise CalculatorSetupError("MMFF94 is for free molecules, and this is periodic")
        molecule = _molecule(self.atoms)
        typed = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
        if typed is None:
            raise CalculatorSetupError("MMFF94 has no parameters for an atom")
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            molecule, typed, ignoreInterfragInteractions=False
        )
        forces = -UNIT * np.reshape(field.CalcGrad(), (-1, 3))
        self.results = {"energy": UNIT * field.CalcEnergy(), "forces": forces}


def _molecule(atoms) -> Chem.Mol:
    """With bonds, and bond orders, from distances."""
    molecule = Chem.RWMol()
    for number in atoms.numbers:
        molecule.AddAtom(Chem.Atom(int(number)))
    conformer = Chem.Conformer(len(atoms))
    conformer.SetPositions(atoms.positions)
    molecule.AddConformer(conformer)
    try:
        with rdBase.BlockLogs():
            rdDetermineBonds.DetermineBonds(molecule, charge=0)
            Chem.SanitizeMol(molecule)
    except ValueError as e:
        raise CalculatorSetupError(f"RDKit finds no bonds of a neutral molecule ({e})") from e
    return molecule
