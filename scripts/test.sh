#!/usr/bin/env bash
# Runs tests, those of the whole worker included. Prints what "go test" prints of packages
# and of failed tests, then the skipped tests with their reasons, and last how many these are.
#
#   MODULE=FOLDER EXPECTED_SKIPS=FILE scripts/test.sh [FLAGS OF go test]
#
# MODULE is the folder of the module whose tests run, this one if it is not set. With
# EXPECTED_SKIPS, a skip of a test that FILE does not list is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/skips.sh
events=$(mktemp)
trap 'rm -f "$events"' EXIT
status=0
# A program with the race detector waits for a second at its end by default, and does
# without huge pages.
export GORACE=${GORACE:-atexit_sleep_ms=0 no_huge_pages_for_shadow=0}
gotestsum=$(go tool -n -modfile=tools/go.mod gotestsum)
(cd "${MODULE:-.}" && "$gotestsum" --format standard-quiet --no-color \
	--jsonfile "$events" -- -tags e2e -parallel 4 -timeout 40m "$@") || status=$?

# An input that a fuzz target refuses is no test that is skipped.
skipped=$(sed -nE 's/^\{"Time":"[^"]*","Action":"skip","Package":"([^"]*)","Test":"([^"]*)".*/\1 \2/p' "$events" | grep -v ' Fuzz' | sort -u || true)
if ! check_skips <<<"$skipped"; then
	((status != 0)) || status=1
fi
count=$(printf '%s' "${skipped:+$skipped$'\n'}" | wc -l)
echo "$count skipped$([ -z "$skipped" ] || sed 's/.* //' <<<"$skipped" | paste -sd, | sed 's/^/: /; s/,/, /g')"
exit "$status"
