"""Trained models in numpy: files of weights, and a calculator of ASE."""
