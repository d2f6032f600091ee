"""Other people's energies and forces: ASE calculators, each in a process of its own."""
