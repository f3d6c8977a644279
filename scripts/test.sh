#!/usr/bin/env bash
# Runs tests with the race detector. Prints what "go test" prints of packages and of
# failed tests, then the skipped tests with their reasons, and last how many these are.
#
#   EXPECTED_SKIPS=FILE scripts/test.sh [FLAGS OF go test]
#
# With EXPECTED_SKIPS, a skip of a test that FILE does not list is a failure. The
# file has the package and the name of a test a line, and comments after #.
set -euo pipefail
cd "$(dirname "$0")/.."
events=$(mktemp)
trap 'rm -f "$events"' EXIT
status=0
go tool -modfile=tools/go.mod gotestsum --format standard-quiet --no-color \
	--jsonfile "$events" -- -race -parallel 4 -timeout 10m "$@" || status=$?

# An input that a fuzz target refuses is no test that is skipped.
skipped=$(sed -nE 's/^\{"Time":"[^"]*","Action":"skip","Package":"([^"]*)","Test":"([^"]*)".*/\1 \2/p' "$events" | grep -v ' Fuzz' | sort -u || true)
if [ -n "${EXPECTED_SKIPS:-}" ]; then
	unexpected=$(comm -23 <(printf '%s' "${skipped:+$skipped$'\n'}") <(sed -E 's/ *#.*//; /^$/d' "$EXPECTED_SKIPS" | sort -u))
	if [ -n "$unexpected" ]; then
		echo "skipped, and not listed in $EXPECTED_SKIPS:"
		sed 's/^/  /' <<<"$unexpected"
		((status != 0)) || status=1
	fi
fi
count=$(printf '%s' "${skipped:+$skipped$'\n'}" | wc -l)
echo "$count skipped$([ -z "$skipped" ] || sed 's/.* //' <<<"$skipped" | paste -sd, | sed 's/^/: /; s/,/, /g')"
exit "$status"
