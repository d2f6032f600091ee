"""Adaptations of fairchem 1.10; each file says why."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
