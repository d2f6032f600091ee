"""Trainings that are compared: launched, judged, recorded, reported."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
