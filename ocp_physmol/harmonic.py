"""Harmonic vibrations of molecules: second derivatives of the energy, modes, frequencies."""

from math import sqrt

import numpy as np
from ase import Atoms, units

PER_CM = units._hbar * units.m / sqrt(units._e * units._amu) / units.invcm  # sqrt(eV/A^2/amu)
DISPLACEMENT = 0.003  # Angstrom; float32 costs under 1/cm here, anharmonicity 10/cm at 0.01


def displaced(positions: np.ndarray) -> np.ndarray:
    """Copies [6n, n, 3] of `positions` [n, 3] (Angstrom), one coordinate moved in each."""
    shifts = DISPLACEMENT * np.eye(positions.size).reshape(-1, *positions.shape)
    return positions + np.concatenate([shifts, -shifts])


def hessian(forces: np.ndarray) -> np.ndarray:
    """Second derivatives, [3n, 3n] in eV/A^2, from `forces` [6n, n, 3] at `displaced` copies."""
    forward, backward = forces.reshape(2, len(forces) // 2, -1)
    differences = (backward - forward) / (2 * DISPLACEMENT)
    return (differences + differences.T) / 2


def internal_coordinates(atoms: Atoms, num_modes: int) -> np.ndarray:
    """A map [num_modes, 3n] to mass-weighted coordinates without the rigid motions of a molecule.

    B H B^T has the curvatures of the vibrations in eV/A^2/amu. `num_modes` is 3n - 6, or 3n - 5
    for a linear molecule.
    """
    root_mass = np.sqrt(atoms.get_masses())
    relative = atoms.positions - atoms.get_center_of_mass()
    shifts = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)]
    turns = [np.cross(axis, relative) for axis in np.eye(3)]
    rigid = (np.stack(shifts + turns) * root_mass[:, None]).reshape(6, -1)
    internal = np.linalg.svd(rigid)[2][3 * len(atoms) - num_modes :]
    return internal / np.repeat(root_mass, 3)


def frequencies(curvatures: np.ndarray) -> np.ndarray:
    """In 1/cm, from curvatures in eV/A^2/amu; the imaginary ones as negative numbers."""
    return np.sign(curvatures) * np.sqrt(np.abs(curvatures)) * PER_CM


def normal_modes(
    atoms: Atoms, hessian: np.ndarray, num_modes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [num_modes] in 1/cm, sorted, and how the n atoms move in each, [num_modes, n, 3].

    The `hessian` is [3n, 3n] in eV/Angstrom^2, the masses are those of `atoms`. In a mode, the atom
    that moves most moves by 1.
    """
    to_internal = internal_coordinates(atoms, num_modes)
    curvatures, modes = np.linalg.eigh(to_internal @ hessian @ to_internal.T)
    moved = (modes.T @ to_internal).reshape(num_modes, len(atoms), 3)
    return frequencies(curvatures), moved / np.linalg.norm(moved, axis=2).max(1)[:, None, None]


def harmonic_frequencies(atoms: Atoms, hessian: np.ndarray, num_modes: int) -> np.ndarray:
    """The frequencies of `normal_modes` alone."""
    return normal_modes(atoms, hessian, num_modes)[0]
