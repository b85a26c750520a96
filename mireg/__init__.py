"""Rigid registration of medical images of different contrast."""

__version__ = "0.1.0"
