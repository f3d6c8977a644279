#!/usr/bin/env bash
# Verifies the models of test/model with spin, and that each mutation of them is found.
# Prints a table. Fails on a violation, when a search was cut short, when a model does
# not come to a state that it should, and when a mutation is not found.
#
#   SCOPE=large JOBS=2 scripts/model.sh [NAME...]
#
# SCOPE is small (the default) or large; JOBS is how many searches run at once. With
# names, such as wal or wal/NO_TERM, only these run. The trail of a violation is printed.
set -euo pipefail
cd "$(dirname "$0")/../test/model"
scope=${SCOPE:-small}
jobs=${JOBS:-$(nproc)}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
export out

# The searches, a line each: name, model, property, flags, and for a mutation the property
# that it violates. A search that has the name of its model must come to all states.
case $scope in
small)
	searches='
wal-cuts|wal|safety|-DCOMMITS=2 -DKILLS=0 -DCUTS=1 -DTAKEOVERS=1 -DLOSSES=1
wal|wal|safety|-DCOMMITS=2 -DKILLS=1 -DTAKEOVERS=1 -DLOSSES=1
wal-restart|wal|safety|-DCOMMITS=2 -DKILLS=0 -DTAKEOVERS=1 -DLOSSES=0 -DRESTARTS=1
wal|wal|alerted|-DCOMMITS=1 -DKILLS=1 -DLOSSES=0 -DLIVE
wal-loss|wal|alerted|-DCOMMITS=1 -DKILLS=0 -DLOSSES=1 -DLIVE
notify|notify|safety|-DCOMMITS=3 -DKILLS=1 -DCUTS=1 -DTAKEOVERS=1
notify|notify|alerted|-DCOMMITS=2 -DKILLS=1 -DLIVE
sink|sink|safety|-DALERTS=3 -DKILLS=1 -DCUTS=1 -DTAKEOVERS=1
sink|sink|delivered|-DALERTS=2 -DKILLS=1 -DLIVE'
	;;
large)
	searches='
wal|wal|safety|-DCOMMITS=3 -DKILLS=2 -DTAKEOVERS=1 -DLOSSES=1
wal-cuts|wal|safety|-DCOMMITS=3 -DKILLS=0 -DCUTS=1 -DTAKEOVERS=1 -DLOSSES=1
wal-restart|wal|safety|-DCOMMITS=2 -DKILLS=1 -DTAKEOVERS=1 -DLOSSES=1 -DRESTARTS=1
wal|wal|alerted|-DCOMMITS=2 -DKILLS=1 -DLOSSES=0 -DLIVE -DTHAWS
wal-loss|wal|alerted|-DCOMMITS=1 -DKILLS=1 -DLOSSES=1 -DLIVE -DTHAWS
notify|notify|safety|-DCOMMITS=4 -DKILLS=2 -DCUTS=1 -DTAKEOVERS=2
notify|notify|alerted|-DCOMMITS=3 -DKILLS=2 -DCUTS=1 -DLIVE -DTHAWS
sink|sink|safety|-DALERTS=4 -DKILLS=2 -DCUTS=1 -DTAKEOVERS=1
sink|sink|delivered|-DALERTS=2 -DKILLS=1 -DCUTS=1 -DLIVE -DTHAWS'
	;;
*)
	echo "$0: SCOPE is small or large, not $scope" >&2
	exit 1
	;;
esac
# Two defences can each be enough: these are taken away together.
bounds='-DCOMMITS=2 -DKILLS=1 -DTAKEOVERS=1 -DLOSSES=1'
searches+="
wal/LOCK_WITHOUT_SESSION|wal|safety|$bounds|the session of the former leader has ended
wal/LOCK_STAYS|wal|alerted|-DCOMMITS=1 -DKILLS=1 -DLOSSES=0 -DLIVE|alerted
wal/NO_TERM|wal|safety|$bounds|never two that record
wal/CONFIRM_FIRST|wal|safety|$bounds|no gap unless the slot was lost, or a former leader meddled
wal/ALERT_APART|wal|safety|$bounds|none missed, and in commit order
wal/MIRROR_AS_OF_NOW|wal|safety|$bounds|the mirror is the row as of the position
wal/SLOT_NOT_COMPARED|wal|safety|$bounds|none missed, and in commit order
wal/SLOT_AHEAD|wal|safety|$bounds -DMUTATE_SLOT_NOT_COMPARED|none missed, and in commit order
wal/GAP_NOT_MARKED|wal|safety|$bounds -DMUTATE_SLOT_AHEAD -DMUTATE_SLOT_NOT_COMPARED|none missed, and in commit order
notify/NO_TERM|notify|safety|-DCOMMITS=2|never two that record
notify/NO_GENERATION|notify|safety|-DCOMMITS=2|no alert twice
sink/CURSOR_FIRST|sink|safety|-DALERTS=2|no cursor ahead of what was acknowledged
sink/MOVED_CURSOR|sink|safety|-DALERTS=2|no cursor goes back"

# search runs one line, and writes its row of the table and what there is to say of it.
search() {
	IFS='|' read -r name model property flags expected <<<"$1"
	local mutation="" dir=$out/${name//\//_}-$property
	local compile=(-O2 -w -DCOLLAPSE -DMEMLIM=1500) options=(-m1000000 -w22) result=
	[[ $name != */* ]] || mutation=${name#*/}
	if [ "$property" = safety ]; then
		compile+=(-DSAFETY -DNOCLAIM)
	else
		compile+=(-DNFAIR=3)
		options+=(-a -f)
	fi
	if [ -n "$mutation" ]; then
		flags+=" -DMUTATE_$mutation"
		compile[0]=-O1 # it ends early
	fi
	mkdir "$dir"
	cp ./*.pml "$dir"
	cd "$dir"
	# shellcheck disable=SC2086
	if ! { spin $flags -a "$model.pml" && gcc "${compile[@]}" -o pan pan.c; } >build 2>&1; then
		cat build >said
		result="NOT BUILT"
	else
		./pan "${options[@]}" >log 2>&1 || true
		result=$(judge "$mutation" "$model" "$property" "$expected" "$name")
	fi
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$property" "$(number '([0-9.e+]+) states, stored')" \
		"$(number 'depth reached ([0-9]+)')" "$(number 'elapsed time ([0-9.]+)')" "$(number '([0-9.]+)[[:space:]]*total actual memory usage')" "$result" >row
}

# number prints what the expression finds in the log of a search.
number() { sed -nE "s/^(.*[^0-9.])?$1.*/\\2/p" log | tail -n 1 | grep . || echo -; }

# judge prints how a search has ended: "ok", or why not.
judge() {
	local errors violated
	errors=$(number 'errors: ([0-9]+)')
	violated=$(sed -nE "s/^violated: //p; s/^pan:[0-9]+: acceptance cycle.*/$3/p" log | head -n 1)
	if [ "$errors" = - ] || grep -qiE 'search depth too small|out of memory|aborted|not completed' log && [ "$errors" = 0 ]; then
		tail -n 20 log >said
		echo "CUT SHORT"
	elif [ -n "$1" ]; then
		if [ "$violated" = "$4" ]; then
			echo "found: $4"
		else
			cat log >said
			echo "NOT FOUND"
		fi
	elif [ "$errors" != 0 ]; then
		{
			echo "violated: $violated"
			trail "$2"
		} >said
		echo "VIOLATED: $violated"
	elif [ "$3" = safety ] && [ "$5" = "$2" ] && ! unreached "$2" >said; then
		echo "NOT REACHED"
	else
		echo ok
	fi
}

# trail prints the steps that lead to a violation: the process, and where its step begins.
trail() {
	./pan -r 2>&1 | sed -nE 's/.*proc +([0-9]+) \((\w+)\).*\[D_STEP([0-9]+)\].*/\1 \2 \3/p; s/.*START OF CYCLE.*/0 cycle 0/p' |
		while read -r process what line; do
			case $what in
			cycle)
				echo "and for ever:"
				continue
				;;
			worker) files=("$1.pml" election.pml) ;;
			breakage) files=("$1.pml" faults.pml) ;;
			*) files=("$1.pml") ;;
			esac
			for file in "${files[@]}"; do
				# An option begins on the line, in one of them.
				at=$(sed -n "${line}p" "$file")
				[[ $at == *d_step* ]] || continue
				echo "$what $process, $file:$line: ${at#"${at%%[![:space:]]*}"}"
				break
			done
		done
}

# unreached prints the states that the search should have come to and has not, and fails
# if there are any.
unreached() {
	local missed
	missed=$(cat "$1.pml" election.pml faults.pml | sed -nE 's/.*REACHED\("([^"]*)"\).*/\1/p' | sort -u |
		comm -23 - <(sed -nE 's/^reached: //p' log | sort -u))
	if [ -n "$missed" ]; then
		echo "never: $missed"
		return 1
	fi
}

export -f search number judge trail unreached
mapfile -t lines < <(sed '/^$/d' <<<"$searches")
if [ $# != 0 ]; then
	names=" $* "
	all=("${lines[@]}")
	lines=()
	for line in "${all[@]}"; do
		[[ $names == *" ${line%%|*} "* ]] && lines+=("$line")
	done
	if [ "${#lines[@]}" = 0 ]; then
		printf '%s: there is no %s; there are: %s\n' "$0" "$*" "$(printf '%s\n' "${all[@]}" | cut -d'|' -f1 | uniq | xargs)" >&2
		exit 1
	fi
fi
# Each search is a shell of its own; the largest come first.
printf '%s\0' "${lines[@]}" | xargs -0 -n 1 -P "$jobs" bash -c 'set -euo pipefail; search "$1"' search

table=$'MODEL\tPROPERTY\tSTATES\tDEPTH\tSECONDS\tMB\tRESULT'
failed=0
for line in "${lines[@]}"; do
	IFS='|' read -r name _ property _ <<<"$line"
	dir=$out/${name//\//_}-$property
	row=$(cat "$dir/row")
	table+=$'\n'$row
	case ${row##*$'\t'} in
	ok | found:*) ;;
	*)
		failed=1
		echo "== $name, $property"
		cat "$dir/said"
		echo
		;;
	esac
done
echo "$table" | expand -t 28,38,50,60,70,80
exit "$failed"
