"""A Clusterra on your own machine: the same HTTP API in front of plain processes."""
