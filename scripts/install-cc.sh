#!/bin/sh
# Installs a C compiler, which Go's race detector needs, unless there is one.
set -eu
what="a C compiler"
. "$(dirname "$0")/packages.sh"

if command -v "$(go env CC | cut -d' ' -f1)" >/dev/null; then
	exit
fi
manager=$(manager)
echo "no C compiler is found, which the race detector needs${manager:+: installing one with $manager}" >&2
case $manager in
apt-get)
	as_root apt-get update
	install apt-get gcc libc6-dev
	;;
dnf | yum) install "$manager" gcc glibc-devel ;;
zypper) install zypper gcc glibc-devel ;;
apk) install apk gcc musl-dev ;;
pacman) install pacman gcc ;;
*)
	echo "$0: install gcc or clang, or run: go test ./..." >&2
	exit 1
	;;
esac
