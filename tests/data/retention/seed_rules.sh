#!/usr/bin/env bash
# The golden file's source: the seed's cleanup rules, said a second time and without any code of the product.
# 400 days from 2023-12-15 (a leap year in the middle), a backup every day at 02:00 UTC, a cleanup on every
# Sunday at 03:00 UTC. Writes one line a cleanup:   DAY kept: DAY… removed: DAY…
#
#   bash tests/data/retention/seed_rules.sh > tests/data/retention/seed-400-days.txt
#
# The rules: an age is (now - midnight of the date in the name) / 86400, rounded down. The 1st of a month is kept
# while its age is at most 6 * 30 days; else a Sunday while it is at most 4 * 7; else a day while it is at most 7.
set -euo pipefail
export TZ=UTC LC_ALL=C

midnight=1702598400 # 2023-12-15 00:00:00 UTC
store=()
for ((day = 0; day < 400; day++)); do
    store+=("$midnight")
    printf -v weekday '%(%u)T' "$midnight"
    if [[ $weekday == 7 ]]; then
        now=$((midnight + 3 * 3600))
        kept=() removed=() kept_names='' removed_names=''
        for backup in "${store[@]}"; do
            age=$(((now - backup) / 86400))
            printf -v name '%(%Y%m%d)T' "$backup"
            printf -v day_of_week '%(%u)T' "$backup"
            if [[ ${name:6:2} == 01 ]]; then
                limit=180
            elif [[ $day_of_week == 7 ]]; then
                limit=28
            else
                limit=7
            fi
            if ((age <= limit)); then
                kept+=("$backup") kept_names+=" $name"
            else
                removed_names+=" $name"
            fi
        done
        store=("${kept[@]}")
        printf '%(%Y%m%d)T kept:%s removed:%s\n' "$midnight" "$kept_names" "$removed_names"
    fi
    midnight=$((midnight + 86400))
done
