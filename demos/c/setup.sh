#!/usr/bin/env bash
# Give the C host its compilers on Debian: gcc and make for this machine, gcc for 64-bit ARM.
# Usage: demos/c/setup.sh FOLDER   prints the ARM compiler's command.
# As root it installs packages; otherwise (or with UNPACK=1) it unpacks the ARM compiler into FOLDER, once, 170 MB, and gcc
# and make must be there.
set -euo pipefail
[[ $# == 1 ]] || { echo "usage: demos/c/setup.sh FOLDER" >&2; exit 2; }
native=(gcc libc6-dev make) cross=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
compiler=aarch64-linux-gnu-gcc

if [[ $(id -u) == 0 && -z ${UNPACK:-} ]]; then
    if ! command -v gcc >/dev/null || ! command -v make >/dev/null || ! command -v $compiler >/dev/null; then
        command -v apt-get >/dev/null || { echo "expected apt-get (Debian) or gcc, make and $compiler, got none" >&2; exit 3; }
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${native[@]}" "${cross[@]}" >/dev/null
    fi
    command -v $compiler
    exit 0
fi
for tool in gcc make; do
    command -v $tool >/dev/null || { echo "expected $tool, got none; run: apt-get install ${native[*]}" >&2; exit 3; }
done
if [[ -z ${UNPACK:-} ]] && command -v $compiler; then exit 0; fi

for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || { echo "expected $tool (Debian) or $compiler, got neither" >&2; exit 3; }
done
mkdir -p "$1"
folder=$(cd "$1" && pwd)
exec 9>"$folder/.lock"
flock 9
wrapper=$folder/$compiler
if [[ ! -x $wrapper ]]; then
    # apt's own configuration and keys, but a state of our own: the machine's package lists stay as they are.
    state=$folder/apt
    mkdir -p "$state/lists/partial" "$state/archives/partial"
    # As if nothing of the compiler were installed: all of it must be below one root.
    awk 'BEGIN { RS = ""; ORS = "\n\n" } !/^Package: [^\n]*(aarch64|arm64-cross)/' /var/lib/dpkg/status >"$state/status"
    options=(-qq -o "Dir::State=$state" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state"
        -o "Dir::Cache::archives=$state/archives" -o Acquire::Languages=none -o Debug::NoLocking=1 -o APT::Sandbox::User=
        -o APT::Update::Post-Invoke-Success::= -o Acquire::Retries=3)
    apt-get "${options[@]}" update || echo "an index is incomplete; going on with what came" >&2
    apt-get "${options[@]}" install -y --download-only --no-install-recommends "${cross[@]}" >/dev/null
    for package in "$state"/archives/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
    rm -rf "$state"
    # The compiler finds its parts beside itself, the C library below the root; its own libraries must be named.
    cat >"$wrapper.part" <<END
#!/bin/sh
LD_LIBRARY_PATH='$folder/root/usr/lib/x86_64-linux-gnu' PATH="$folder/root/usr/bin:\$PATH" \\
    exec '$folder/root/usr/bin/$compiler' --sysroot='$folder/root' -isystem '$folder/root/usr/aarch64-linux-gnu/include' "\$@"
END
    chmod +x "$wrapper.part"
    mv "$wrapper.part" "$wrapper"
fi
echo "$wrapper"
