#!/bin/sh
# Installs Chromium, with which the status page is tested, unless there is one or
# a Google Chrome. Where no package manager offers it, that is said, and the tests
# that need it are skipped. Nothing is started.
set -eu
what=Chromium
. "$(dirname "$0")/packages.sh"

# installed looks where the tests look.
installed() {
	[ -n "${PROVWATCH_TEST_CHROMIUM:-}" ] && return
	for name in chromium chromium-browser google-chrome google-chrome-stable; do
		# Ubuntu's chromium-browser only says that the snap is to be installed.
		if command -v "$name" >/dev/null && "$name" --version >/dev/null 2>&1; then
			return
		fi
	done
	[ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ] || [ -x /Applications/Chromium.app/Contents/MacOS/Chromium ]
}

if installed; then
	exit
fi
manager=$(manager)
echo "no Chromium is found, with which the status page is tested${manager:+: installing it with $manager}" >&2
status=0
case $manager in
apt-get)
	as_root apt-get update
	# The fonts that the page asks for, so that it looks as elsewhere.
	install apt-get chromium fonts-liberation || status=$?
	;;
dnf | yum | zypper | apk | pacman) install "$manager" chromium || status=$? ;;
brew) brew install --cask chromium || status=$? ;;
*) status=1 ;;
esac
if [ "$status" != 0 ] || ! installed; then
	echo "$0: Chromium cannot be installed; the tests of the status page in a browser are skipped" >&2
fi
