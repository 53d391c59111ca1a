"""Kills tasks, cuts connections, and counts the jobs: ``make crash ROUNDS=200 SEED=1``."""
