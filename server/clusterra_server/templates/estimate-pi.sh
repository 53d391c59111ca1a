#!/bin/bash
set -euo pipefail
awk -v points="$POINTS" -v seed="$SEED" 'BEGIN {
    srand(seed)
    for (i = 0; i < points; i++) if (rand() ^ 2 + rand() ^ 2 <= 1) inside++
    printf "{\"pi\": %.4f}\n", 4 * inside / points
}'
