#!/bin/sh
# Installs PgBouncer, before whose sessions the worker is tested, unless there is one.
# Where no package manager offers it, that is said, and the tests that need it are
# skipped. Nothing is started.
set -eu
what=PgBouncer
. "$(dirname "$0")/packages.sh"

installed() { command -v pgbouncer >/dev/null; }

if installed; then
	exit
fi
manager=$(manager)
echo "no PgBouncer is found, with which connections are tested${manager:+: installing it with $manager}" >&2
status=0
case $manager in
apt-get)
	as_root apt-get update
	install_without_service pgbouncer || status=$?
	;;
brew | apk | dnf | yum | zypper | pacman) install "$manager" pgbouncer || status=$? ;;
*) status=1 ;;
esac
if [ "$status" != 0 ] || ! installed; then
	echo "$0: PgBouncer cannot be installed; the tests with it are skipped" >&2
fi
