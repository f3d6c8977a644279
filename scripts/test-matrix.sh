#!/usr/bin/env bash
# Runs the tests of the whole worker on several versions of PostgreSQL, one after
# the other, and prints a table of the results. A version that cannot be had is
# no failure.
#
#   VERSIONS="14 18" EXPECTED_SKIPS=FILE scripts/test-matrix.sh [FLAGS OF go test]
#
# A version is a major version, or the folder of the programs of one. With
# EXPECTED_SKIPS, a skip of a test that FILE does not list is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/skips.sh
logs=$(mktemp -d)
table=$'POSTGRESQL\tRESULT\tPASSED\tFAILED\tSKIPPED\tSECONDS'
status=0

# failures_and_skips prints, out of go test -v, what the tests that failed have
# printed, and why others were skipped.
failures_and_skips() {
	awk '
		/^=== (RUN|CONT|NAME|PAUSE) / { test = $3; next }
		/^ *--- (PASS|FAIL|SKIP): / { test = $3; if ($2 != "PASS:") printf "%s\n%s", $0, said[test]; next }
		{ said[test] = said[test] $0 "\n" }' "$1"
}

count() { grep -cE "^ *--- $1: " "$2" || true; }

for version in ${VERSIONS:-14 15 16 17 18}; do
	if [[ $version == */* ]]; then
		dir=$version
	elif ! dir=$(scripts/fetch-postgres.sh "$version"); then
		table+=$'\n'"$version"$'\tnot to be had\t-\t-\t-\t-'
		continue
	fi
	name=$("$dir/postgres" --version | sed -E 's/.*\(PostgreSQL\) ([^ ]+).*/\1/')
	log=$logs/$name.log
	echo "== PostgreSQL $name"
	before=$SECONDS
	if PROVWATCH_TEST_POSTGRES=$dir go test -race -tags e2e -count=1 -timeout "${TIMEOUT:-10m}" -v "$@" ./test >"$log" 2>&1; then
		result=ok
	else
		result=FAILED
		status=1
	fi
	failures_and_skips "$log"
	if ! sed -nE 's#^ *--- SKIP: ([^ ]+) .*#provwatch/test \1#p' "$log" | check_skips; then
		result=FAILED
		status=1
	fi
	if [ "$result" = FAILED ]; then
		if { [ "$(count FAIL "$log")" = 0 ] && ! grep -q '^ok' "$log"; } || grep -q '^panic: ' "$log"; then
			tail -n 100 "$log"
		fi
		echo "all of its output: $log"
	fi
	grep -E '^(ok|FAIL)\s' "$log" | sort -u || true
	table+=$'\n'"$name"$'\t'"$result"$'\t'"$(count PASS "$log")"$'\t'"$(count FAIL "$log")"$'\t'"$(count SKIP "$log")"$'\t'"$((SECONDS - before))"
done

if [ "$status" = 0 ]; then
	rm -rf "$logs"
fi
echo
echo "$table" | expand -t 13
exit "$status"
