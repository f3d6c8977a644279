#!/usr/bin/env bash
# Runs all tests several times, without the cache of results, and prints a line for
# each run. Fails if one has failed.
#
#   RUNS=6 BUSY=4 RACE=1 LOG=FILE scripts/test-runs.sh
#
# BUSY is the number of busy processes beside the tests, 0 if it is not set. With RACE the
# tests run with the race detector.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/busy.sh
log=$(realpath "${LOG:-test-runs.out}")
children=()
trap 'mapfile -t children < <(jobs -p); ((${#children[@]} == 0)) || kill "${children[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
busy "${BUSY:-0}"
echo "$(date -u +%FT%TZ) $(git describe --always --dirty), ${BUSY:-0} busy processes, $(nproc) cores" | tee "$log"
failed=0
for ((run = 1; run <= ${RUNS:-6}; run++)); do
	began=$SECONDS
	result=ok
	if ! output=$(scripts/test.sh ${RACE:+-race} -count 1 -timeout 40m ./... 2>&1); then
		result=FAILED
		failed=$((failed + 1))
		echo "$output" >>"$log"
	fi
	echo "run $run: $result, $((SECONDS - began)) s, $(grep -E '^DONE ' <<<"$output" | tail -n 1)" | tee -a "$log"
done
echo "$((run - 1)) runs, $failed failed" | tee -a "$log"
((failed == 0))
