"""Benchmarks: ``python -m bench`` runs the engine beside every peer that is installed and prints the speed table."""
