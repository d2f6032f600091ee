"""Trainings that are compared: launched, judged, recorded, reported."""
