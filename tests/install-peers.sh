#!/bin/sh
# The real clients and servers that the tests talk to. Installs those that are missing.
set -eu
missing=
need() { # need PROGRAM PACKAGE...
	program=$1
	shift
	PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing="$missing $*"
}
need openssl openssl
need curl curl
need haproxy haproxy
need nginx nginx-light libnginx-mod-stream
need apache2 apache2-bin
need chromium chromium
need node nodejs
need php php-cli
need javac default-jdk-headless
[ -e /usr/share/java/tomcat10-catalina.jar ] || missing="$missing libtomcat10-java"
need strace strace
need nghttpd nghttp2-server
need h2load nghttp2-client
need setpriv util-linux
need systemd-analyze systemd
need promtool prometheus
need zsh zsh
need fish fish
need sniproxy sniproxy
need pebble pebble
need nft nftables
need ss iproute2
need socat socat
need psql postgresql
need git git
# shellcheck disable=SC2086 # a list of packages
[ -z "$missing" ] || "$(dirname "$0")/../deploy/dev/apt-install.sh" $missing
