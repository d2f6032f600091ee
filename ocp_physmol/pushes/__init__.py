"""Ours: molecules pushed out of their minima, and the forces that pull them back."""
