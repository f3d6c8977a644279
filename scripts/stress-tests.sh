#!/usr/bin/env bash
# Runs the tests that are most sensitive to load again and again beside busy
# processes, and writes a table of the results to a log. Fails if a run fails.
#
#   BUDGET=3600 FAST=200 SLOW=30 BUSY=4 TESTS=REGEXP LOG=FILE scripts/stress-tests.sh
#
# A test whose runs take under 2 s runs FAST times, another one SLOW times. BUDGET is
# the time in seconds that all tests together may take, building them not included:
# each gets an equal share of what is left when its turn comes, and stops early once
# that is used. TESTS picks tests by name. The table says how many runs there were.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/busy.sh
budget=${BUDGET:-3600}
fast=${FAST:-200}
slow=${SLOW:-30}
log=$(realpath "${LOG:-stress.out}")
mapfile -t tests < <(sed -E 's/ *#.*//; /^$/d' scripts/stress-tests.txt | grep -E " .*${TESTS:-}")
dir=$(mktemp -d)
children=()
# The jobs are the busy processes, and a run that an interrupt left behind.
trap 'mapfile -t children < <(jobs -p); ((${#children[@]} == 0)) || kill "${children[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

for package in $(printf '%s\n' "${tests[@]}" | cut -d' ' -f1 | sort -u); do
	go test -race -tags e2e -c -o "$dir/${package//\//_}" "./$package"
done
busy "${BUSY:-4}"

format='%5s %8s %8s  %-16s %s\n'
{
	echo "$(date -u +%FT%TZ) $(git describe --always --dirty), ${BUSY:-4} busy processes, $(nproc) cores"
	printf "$format" RUNS FAILURES SECONDS PACKAGE TEST
} | tee "$log"
failed=0
total=0
end=$((SECONDS + budget))
for n in "${!tests[@]}"; do
	read -r package name <<<"${tests[n]}"
	began=$SECONDS
	share=$(((end - SECONDS) / (${#tests[@]} - n)))
	runs=0
	failures=0
	want=1
	while ((runs < want)); do
		# The first run shows how long one takes. The others share few processes, since
		# each process starts a server of its own.
		batch=1
		if ((runs > 0)); then
			spent=$((SECONDS - began))
			((spent < share)) || break
			batch=$(((share - spent) * 1000 / (average + 1) / 2))
			batch=$((batch < 1 ? 1 : batch > want - runs ? want - runs : batch))
		fi
		status=0
		(cd "$package" && exec "$dir/${package//\//_}" -test.run "^${name//\//\$/^}\$" -test.count "$batch" -test.v -test.timeout 30m) >"$dir/output" 2>&1 || status=$?
		now=$(grep -cE "^ *--- FAIL: $name " "$dir/output" || true)
		if ((status != 0)); then
			# Such as a panic, a race, or a goroutine that is left behind.
			((now > 0)) || now=1
			cat "$dir/output" >>"$dir/failures"
		fi
		if ! grep -qE "^ *--- (PASS|FAIL): $name " "$dir/output" && ((status == 0)); then
			echo "$package $name did not run: $(grep -E '^(--- SKIP|testing: warning)' "$dir/output" | head -n 1)" | tee -a "$log"
			failed=$((failed + 1))
			break
		fi
		failures=$((failures + now))
		runs=$((runs + batch))
		# In milliseconds, of the runs of this batch. The time of a test leaves out that of
		# its parallel subtests.
		average=$(sed -nE "s#^ *--- (PASS|FAIL): $name(/[^/ ]*)? \(([0-9]+)\.([0-9]{2})s\)#x\2 \3\40#p" "$dir/output" |
			awk -v runs="$batch" '/^x\// { below += $NF; next } { own += $NF } END { print int((own > below ? own : below) / runs) }')
		want=$((average < 2000 ? fast : slow))
	done
	printf "$format" "$runs" "$failures" "$((SECONDS - began))" "$package" "$name" | tee -a "$log"
	failed=$((failed + failures))
	total=$((total + runs))
done
echo "$total runs, $failed failures, $((SECONDS - end + budget)) s" | tee -a "$log"
if ((failed > 0)); then
	cat "$dir/failures" >>"$log" 2>/dev/null || true
	echo "what the failed runs printed: $log"
	exit 1
fi
