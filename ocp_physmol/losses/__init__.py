"""Sections 3.4-3.7: the terms of the objective (Eq. 10), one file each.

Every file here is imported, so that its term is registered.
"""

from importlib import import_module
from pkgutil import iter_modules

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
