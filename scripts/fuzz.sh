#!/usr/bin/env bash
# Runs every fuzz target for a while, also those after one that has failed, and
# prints a table of what came of it. Fails if one has failed.
#
#   FUZZTIME=30s TARGET=FuzzHint scripts/fuzz.sh
#
# FUZZTIME is a duration or a number of executions such as 10000x; without TARGET
# all targets run. GOMAXPROCS bounds how many inputs are tried at once.
set -euo pipefail
cd "$(dirname "$0")/.."
fuzztime=${FUZZTIME:-30s}
target=${TARGET:-}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM # a target that is interrupted calls it a success

# What tells the fuzzer of new paths: this module and the libraries that parse for
# it. "go test -fuzz" does so to everything below them as well, which takes minutes
# to build and tries a fraction of the inputs.
instrument=()
for packages in provwatch/... github.com/jackc/pglogrepl github.com/hashicorp/go-envparse; do
	instrument+=(-gcflags="$packages=-d=libfuzzer")
done

mapfile -t found < <(grep -rnoE '^func Fuzz\w+\(' --include='*_test.go' internal | sed -E 's|^(.*)/[^/]*:func (\w+)\(|\1 \2|' | sort)
if [ -n "$target" ]; then
	mapfile -t found < <(printf '%s\n' "${found[@]}" | grep -E " $target\$")
fi
if [ "${#found[@]}" = 0 ]; then
	echo "there is no fuzz target $target; there are: $(grep -rhoE '^func Fuzz\w+' --include='*_test.go' internal | cut -d' ' -f2 | sort | xargs)" >&2
	exit 1
fi

# failure DIR TARGET says which input has failed, and how to run it again.
failure() {
	local log=$out/$2.log input file
	input=$(sed -nE "s|^ *Failing input written to testdata/fuzz/$2/||p; s|^failure while testing seed corpus entry: $2/||p" "$log" | tail -n 1)
	if [ -z "$input" ]; then
		echo "$2: no input is known that fails; its output is above"
		return
	fi
	file=$1/testdata/fuzz/$2/$input
	[ -e "$file" ] || file="an input that the target adds"
	echo "$2: $file"
	echo "  go test -run '^$2\$/^$input\$' ./$1"
}

# ended TARGET STATUS prints how a target has ended: "ok", or why not.
ended() {
	local log=$out/$1.log
	if grep -q 'not built with coverage instrumentation' "$log"; then
		echo "NOT INSTRUMENTED"
	elif [ "$2" = 0 ] && [[ $(number execs "$log") == [-0] ]]; then
		echo "NOTHING TRIED"
	elif [ "$2" = 0 ]; then
		echo ok
	# Go before 1.27 at times takes the end of the time for a failure of the
	# target, and has nothing else to say of it: https://go.dev/issue/75804.
	elif [ "$(sed '/^fuzz: /d' "$log" | sed -E "s/^--- FAIL: $1 \([0-9.]+s\)\$/failed/; s/^ +//" | tr '\n' ' ')" = "failed context deadline exceeded FAIL " ]; then
		echo ok
	else
		echo FAILED
	fi
}

# number NAME LOG prints the last number of that name that the fuzzer has told, if any.
number() { sed -nE "s/^fuzz: .*$1: ([0-9]+).*/\1/p" "$2" | tail -n 1 | grep . || echo -; }

# Where "go test -fuzz" keeps the inputs that it finds, and tries them first.
cache=$(go env GOCACHE)/fuzz
module=$(go list -m)
table=$'TARGET\tPACKAGE\tEXECUTIONS\tNEW\tKNOWN\tRESULT'
failures=()
built=
for line in "${found[@]}"; do
	read -r dir name <<<"$line"
	if [ "$dir" != "$built" ]; then
		built=$dir
		if ! go test -c "${instrument[@]}" -o "$out/test" "./$dir"; then
			rm -f "$out/test"
		fi
	fi
	if [ ! -e "$out/test" ]; then
		table+=$'\n'"$name"$'\t'"$dir"$'\t-\t-\t-\tNOT BUILT'
		failures+=("$name: ./$dir does not build")
		continue
	fi
	echo "== $name"
	status=0
	# Making one input smaller could otherwise take all of the time.
	(cd "$dir" && exec "$out/test" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "$fuzztime" \
		-test.fuzzminimizetime 100x -test.fuzzcachedir "$cache/$module/$dir") 2>&1 |
		tee "$out/$name.log" || status=$?
	result=$(ended "$name" "$status")
	table+=$'\n'"$name"$'\t'"$dir"$'\t'"$(number execs "$out/$name.log")"$'\t'"$(number 'new interesting' "$out/$name.log")"$'\t'"$(number '\(total' "$out/$name.log")"$'\t'"$result"
	if [ "$result" != ok ]; then
		failures+=("$(failure "$dir" "$name")")
	fi
done

echo
echo "$table" | expand -t 23,41,53,58,65
if [ "${#failures[@]}" != 0 ]; then
	echo
	printf '%s\n' "${failures[@]}"
	exit 1
fi
