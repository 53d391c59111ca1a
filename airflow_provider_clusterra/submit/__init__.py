"""Submitting exactly once: pure decisions; the shell is an operator's."""
