"""Data sets: made, written, read, split."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
