"""A Clusterra of your own: its HTTP API in front of plain processes or of a Slurm."""

__version__ = "0.1.0"
