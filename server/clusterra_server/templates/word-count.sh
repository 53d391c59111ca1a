#!/bin/bash
set -euo pipefail
text="$CLUSTERRA_FILES/$TEXT_FILE"
if [ "$ORDER" = count ]; then order="-k1,1nr -k2,2"; else order="-k2,2"; fi
if [ "$IGNORE_CASE" = true ]; then fold='[:upper:] [:lower:]'; else fold='a a'; fi
echo "Job $SLURM_JOB_ID counts the words of $TEXT_FILE"
# shellcheck disable=SC2086 # both hold several words
counted=$(tr -cs '[:alnum:]' '\n' <"$text" | tr $fold |
    awk -v least="$MIN_LENGTH" 'length($0) >= least && $0 != ""' | sort | uniq -c | sort $order)
echo "$counted" | tee "word-count-$RUN_ID.txt"
awk 'NF { words += $1; kinds++; if (kinds == 1) first = $2 }
    END { printf "{\"words\": %d, \"different\": %d, \"first\": \"%s\"}\n", words, kinds, first }' \
    <<<"$counted"
