#!/bin/sh
# Installs Prometheus Alertmanager, with which the sink of that name is tested, unless
# there is one. Where no package manager offers it, that is said, and the tests that
# need it are skipped. Nothing is started.
set -eu
what=Alertmanager
. "$(dirname "$0")/packages.sh"

# installed looks where the tests look.
installed() {
	[ -n "${PROVWATCH_TEST_ALERTMANAGER:-}" ] || command -v prometheus-alertmanager >/dev/null || command -v alertmanager >/dev/null
}

if installed; then
	exit
fi
manager=$(manager)
echo "no Alertmanager is found, with which its sink is tested${manager:+: installing it with $manager}" >&2
status=0
case $manager in
apt-get)
	as_root apt-get update
	install_without_service prometheus-alertmanager || status=$?
	;;
brew | apk) install "$manager" alertmanager || status=$? ;;
*) status=1 ;;
esac
if [ "$status" != 0 ] || ! installed; then
	echo "$0: Alertmanager cannot be installed; the tests of its sink with the program itself are skipped" >&2
fi
