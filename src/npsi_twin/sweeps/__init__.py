"""Sweeps: many twins over any fields of the specification, one table."""
