# Sourced by scripts that run tests on a busy machine. Bash.

# busy N starts N processes that compute and do nothing else. They end with the
# script, whichever way it ends.
busy() {
	local n
	for ((n = 0; n < $1; n++)); do
		(
			while kill -0 "$$" 2>/dev/null; do
				for ((i = 0; i < 100000; i++)); do :; done
			done
		) &
	done
}
