#!/bin/sh
# Installs the packages of requirements.lock into .venv, or says in words why it cannot. Usage: sh setup.sh [PYTHON]
set -u
supported='Python 3.11 to 3.13 is supported'
log=.venv/pip.log

refuse() {
	echo "setup: $1" >&2
	exit 1
}

install() {
	.venv/bin/python -m pip --disable-pip-version-check install -q "$@" >$log 2>&1 && return
	last=$(grep '^ERROR' $log | tail -n 1)
	if grep -qiE 'connection broken|NewConnectionError|Max retries|timed out|SSLError|ProxyError' $log; then
		refuse "packages could not be downloaded: this needs the network once, or a mirror named by PIP_INDEX_URL. The last of $log: $last"
	fi
	case "$last" in *" torch=="*) last="$last (PyTorch needs macOS 14 or Linux with glibc 2.28, or newer)" ;; esac
	refuse "packages could not be installed. The last of $log: $last"
}

if [ -x .venv/bin/python ]; then
	python=.venv/bin/python another='remove .venv, and name another one'
else
	python=${1-} another='name another one'
fi
[ -n "$python" ] || refuse "no Python here. $supported: install one, or name it with PYTHON=/path/to/python3.12"
about=$("$python" -c 'import platform as p, sys; print("%d.%d" % sys.version_info[:2] + " %s %s" % (p.system(), p.machine()))') ||
	refuse "$python does not run. $supported: $another with PYTHON=/path/to/python3.12"
case "$about" in
*" Darwin x86_64") refuse "PyTorch is no longer built for Intel Macs (nor for an Intel Python on Apple silicon): use Linux, an arm64 Python on Apple silicon, or Docker" ;;
*" Windows "*) refuse "make needs a Unix here: use WSL or Docker" ;;
"3.11 "* | "3.12 "* | "3.13 "*) ;;
*) refuse "$supported, $python is ${about%% *}: $another with PYTHON=/path/to/python3.12" ;;
esac

echo "Installing the packages of requirements.lock into .venv (once; a few minutes) ..."
[ -x .venv/bin/python ] || "$python" -m venv .venv ||
	refuse "no virtual environment from $python: on Debian and Ubuntu, apt install python3-venv"
install -r requirements.lock
install --no-deps --no-build-isolation --editable . # its build needs setuptools only, which the lock has
