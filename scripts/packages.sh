# Sourced by the other scripts: installing a package through the system's
# package manager.

# as_root runs a command as root, with sudo where that is needed.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "$0: installing packages needs root, and there is no sudo: run it as root, or install $what yourself" >&2
		exit 1
	fi
}

# manager prints the system's package manager, nothing if it is not known.
manager() {
	for name in apt-get dnf yum zypper apk pacman brew; do
		if command -v "$name" >/dev/null; then
			echo "$name"
			break
		fi
	done
}

# install installs packages with the manager named first.
install() {
	with=$1
	shift
	case $with in
	apt-get) as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" ;;
	dnf | yum) as_root "$with" install -y "$@" ;;
	zypper) as_root zypper --non-interactive install "$@" ;;
	apk) as_root apk add "$@" ;;
	pacman) as_root pacman -Sy --noconfirm --needed "$@" ;;
	brew) brew install "$@" ;;
	esac
}

# install_without_service installs a package of apt-get. Debian starts a service with
# some packages, now and at each boot, which nothing here needs.
install_without_service() {
	policy=/usr/sbin/policy-rc.d
	if [ -e "$policy" ]; then
		policy=
	else
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod +x "$policy"
		trap 'as_root rm -f "$policy"' EXIT
		trap 'exit 1' HUP INT TERM
	fi
	install apt-get "$1" && as_root update-rc.d "$1" disable
}
