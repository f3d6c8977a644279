#!/bin/sh
# Installs systemd's programs, one of which checks the unit file, unless they are there.
# Where no package manager offers them, that is said, and the check is skipped.
set -eu
what=systemd-analyze
. "$(dirname "$0")/packages.sh"

installed() { command -v systemd-analyze >/dev/null; }

if installed; then
	exit
fi
manager=$(manager)
echo "no systemd-analyze is found, which checks the unit file${manager:+: installing it with $manager}" >&2
status=0
case $manager in
apt-get)
	as_root apt-get update
	install apt-get systemd || status=$?
	;;
dnf | yum | zypper | pacman) install "$manager" systemd || status=$? ;;
*) status=1 ;;
esac
if [ "$status" != 0 ] || ! installed; then
	echo "$0: systemd-analyze cannot be installed; the check of the unit file is skipped" >&2
fi
