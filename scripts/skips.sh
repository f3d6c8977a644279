# Sourced by the scripts that run tests.

# check_skips reads the skipped tests, "PACKAGE TEST" a line. With EXPECTED_SKIPS set it
# fails, and prints them, where there are tests that this file does not list. The file
# has the package and the name of a test a line, and comments after #.
check_skips() {
	[ -n "${EXPECTED_SKIPS:-}" ] || return 0
	local unexpected
	unexpected=$(comm -23 <(sed '/^$/d' | sort -u) <(sed -E 's/ *#.*//; /^$/d' "$EXPECTED_SKIPS" | sort -u))
	[ -n "$unexpected" ] || return 0
	echo "skipped, and not listed in $EXPECTED_SKIPS:"
	sed 's/^/  /' <<<"$unexpected"
	return 1
}
