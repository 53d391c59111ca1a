"""How fast ``#SBATCH`` lines become a job's fields: ``python -m bench.sbatch``."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from airflow_provider_clusterra.sbatch.job import read_components
from bench.figures import Figure, median_of, show

SCRIPT = """#!/bin/bash
#SBATCH --job-name=relax
#SBATCH --partition=gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH -c 4
#SBATCH --mem=64G
#SBATCH --time=1-12:00:00
#SBATCH --gres=gpu:a100:2
#SBATCH --array=0-99%10
#SBATCH --output=/mnt/efs/%x_%A_%a.out
#SBATCH --mail-type=END,FAIL --mail-user=me@example.com
#SBATCH --export=ALL,OMP_NUM_THREADS=4

module load gromacs
srun gmx_mpi mdrun -deffnm relax
"""
SCRIPTS = 1000


def measure() -> list[Figure]:
    """A usual script with twelve lines of options, again and again."""
    now = datetime.now(UTC)

    def once() -> float:
        begin = time.perf_counter()
        for _ in range(SCRIPTS):
            [each.fields(now) for each in read_components(SCRIPT)]
        return (time.perf_counter() - begin) / SCRIPTS * 1e6

    return [Figure(name="#SBATCH lines of one script read", value=median_of(once), unit="µs")]


if __name__ == "__main__":
    show(measure())
