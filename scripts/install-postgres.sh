#!/bin/sh
# Installs PostgreSQL through the system's package manager, unless an
# installation is there already. Nothing is started: the worker and the tests
# run servers of their own.
set -eu
what=PostgreSQL
. "$(dirname "$0")/packages.sh"

# installed looks where the worker looks.
installed() {
	for dir in "$(dirname "$(command -v pg_ctl || echo /)")" "$(pg_config --bindir 2>/dev/null || true)" \
		/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin \
		/opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then
			return
		fi
		# The link on the PATH may stand alone, without its companions.
		if [ -L "$dir/pg_ctl" ] && [ -x "$(dirname "$(realpath "$dir/pg_ctl")")/initdb" ]; then
			return
		fi
	done
	return 1
}

if installed; then
	exit
fi
manager=$(manager)
if [ -z "$manager" ]; then
	echo "$0: no installation of PostgreSQL is found, and no package manager that this script knows:" \
		"install PostgreSQL so that pg_ctl is on the PATH, or set DATABASE_URL for \"make run\"" >&2
	exit 1
fi
echo "no installation of PostgreSQL is found: installing it with $manager" >&2
case $manager in
apt-get)
	as_root apt-get update
	install apt-get postgresql-common
	# Debian starts a server of its own with the package, which nobody needs here.
	quiet=/etc/postgresql-common/createcluster.d/provwatch-install.conf
	as_root mkdir -p "$(dirname "$quiet")"
	echo "create_main_cluster = false" | as_root tee "$quiet" >/dev/null
	status=0
	install apt-get postgresql || status=$?
	as_root rm -f "$quiet"
	if [ "$status" != 0 ]; then
		exit "$status"
	fi
	;;
dnf | yum | zypper) install "$manager" postgresql-server postgresql ;;
apk) install apk postgresql postgresql-client ;;
pacman) install pacman postgresql ;;
brew) install brew postgresql@17 ;;
esac
if ! installed; then
	echo "$0: $manager has installed PostgreSQL where it is not found: put the folder of pg_ctl on the PATH" >&2
	exit 1
fi
