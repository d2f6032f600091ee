"""What the splines through filters are, wherever they are read (knots.py)."""

MAX_SPACING = 0.04  # Angstrom between knots, for few and wide basis functions
# The inverse of a spline's own smoothing, 1 + D/6 with D the second difference, is 1 - D/6 + D^2/36
# up to sixth order; only neighbouring knots take part.
STENCIL = (1 / 36, -10 / 36, 54 / 36, -10 / 36, 1 / 36)  # from values on knots to coefficients
