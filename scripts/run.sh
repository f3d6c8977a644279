#!/bin/sh
# What "make run" does: starts bin/worker of the working directory with the arguments
# given, so that there is something to see at once, and says what to type next.
#
# The made-up providers of deploy/example.env are for the private PostgreSQL alone:
# in a database of the caller's they would be rows that were not asked for. So is
# --on-boot-drift=alert: there a row that was changed is what the demo is about, and
# must not fail its next start.
set -eu

config=${PROVWATCH_CONFIG-} data_dir=${DATA_DIR:-${PROVWATCH_DATA_DIR-}} env_file=${PROVWATCH_ENV_FILE-} page=${PROVWATCH_HTTP_ADDR-} compat=${PROVWATCH_COMPAT-}
set -- ${DATA_DIR:+"--data-dir=$DATA_DIR"} "$@"
before=
for argument in "$@"; do
	case $before in
	--compat) compat=$argument ;;
	--config) config=$argument ;;
	--data-dir) data_dir=$argument ;;
	--env-file) env_file=$argument ;;
	--http-addr) page=$argument ;;
	esac
	case $argument in
	--compat=*) compat=${argument#*=} ;;
	--config=*) config=${argument#*=} ;;
	--data-dir=*) data_dir=${argument#*=} ;;
	--env-file=*) env_file=${argument#*=} ;;
	--http-addr=*) page=${argument#*=} ;;
	esac
	before=$argument
done

say() { printf '%s\n' "$*" >&2; }

# quoted prints a word as a shell takes it.
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

next="bin/worker status"
if [ -n "$config" ]; then
	next="$next --config $(quoted "$config") --target NAME"
elif [ -n "${DATABASE_URL-}${PROVWATCH_DATABASE_URL_FILE-}${PGHOST-}${PGPORT-}${PGDATABASE-}${PGUSER-}${PGSERVICE-}" ]; then
	if [ -n "$data_dir" ]; then
		say "The database is that of DATABASE_URL or PG* variables: DATA_DIR, the folder of the private PostgreSQL, is not used"
	fi
	next="$next    # with the same DATABASE_URL or PG* variables"
else
	"$(dirname "$0")/install-postgres.sh"
	if [ -z "$env_file" ] && ! env | grep -qE '^(CODER_AIBRIDGE_|CODER_AI_GATEWAY_)[^=]*=.'; then
		say "No provider variable is set: using the made-up providers of deploy/example.env"
		# Keys that every user can read are warned of, and a checkout's are.
		chmod o-r deploy/example.env 2>/dev/null || true
		export PROVWATCH_ENV_FILE=deploy/example.env
	fi
	# --compat checks at the start what an alert leaves to --credential-drift.
	if [ -z "$compat" ]; then
		export PROVWATCH_ON_BOOT_DRIFT="${PROVWATCH_ON_BOOT_DRIFT:-alert}"
	fi
	next="$next${data_dir:+ --data-dir $(quoted "$data_dir")}"
fi

if [ -z "$page" ]; then
	# Port 0 is any that is free; the log then says which.
	page=127.0.0.1:0
	if command -v bash >/dev/null && ! bash -c 'exec 3<>/dev/tcp/127.0.0.1/9464' 2>/dev/null; then
		page=127.0.0.1:9464
	fi
	export PROVWATCH_HTTP_ADDR="$page"
fi
case $page in
*:0) say "The status page is at http:// and the address of the log's line \"serving HTTP\"" ;;
*) say "The status page is at http://$page/" ;;
esac
say "In a second terminal: $next"
exec bin/worker run "$@"
