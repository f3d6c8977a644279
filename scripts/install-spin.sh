#!/bin/sh
# Installs spin, with which the models of test/model are verified, unless there is one.
set -eu
what=spin
. "$(dirname "$0")/packages.sh"

installed() { command -v spin >/dev/null; }

if installed; then
	exit
fi
manager=$(manager)
echo "no spin is found, with which the models are verified${manager:+: installing it with $manager}" >&2
status=0
case $manager in
apt-get)
	as_root apt-get update
	install apt-get spin || status=$?
	;;
dnf | yum | zypper | pacman | apk | brew) install "$manager" spin || status=$? ;;
*) status=1 ;;
esac
if [ "$status" != 0 ] || ! installed; then
	echo "$0: spin cannot be installed; install it from https://spinroot.com" >&2
	exit 1
fi
