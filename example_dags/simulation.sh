#!/bin/bash
#SBATCH --job-name=spring --time=0:05:00
#SBATCH --mem=200M --ntasks=1
set -euo pipefail
# the run {{ run_id }}; Jinja leaves the shell's own braces alone
phases=(start steps end)
start=$(curl --fail --silent --show-error "$START_URL")
echo "Job $SLURM_JOB_ID goes through ${#phases[@]} phases from $start"
awk -v steps="$STEPS" -v start="$start" 'BEGIN {
    split(start, state, " ")
    position = state[1]; speed = state[2]
    for (step = 1; step <= steps; step++) {
        speed -= 0.001 * position
        position += 0.001 * speed
        if (step % (steps / 4) == 0) printf "step %d: %.4f\n", step, position
    }
    printf "{\"steps\": %d, \"position\": %.4f}\n", steps, position
}'
