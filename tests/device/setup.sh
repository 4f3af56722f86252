#!/usr/bin/env bash
# Make the user space of a Raspberry Pi on an x86-64 Debian 12: QEMU's user mode, Debian for arm64 and armhf, wheels.
# Usage: tests/device/setup.sh FOLDER   (made anew when this script changed since; 20 s, 450 MB)
# Needs apt, dpkg, a Python with pip (PYTHON=... names it) and the network. No root where qemu-user and gcc are installed, or where apt
# can fetch the former; no chroot, no binfmt_misc, no containers. The machine's own package lists stay as they are,
# except where a compiler must be installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
stamp=$(cat "$here/setup.sh" "$here/instruction_counter.c" | sha256sum | cut -c1-16)
exec 9>"$folder/.lock"
flock 9 # two runs at once: the second waits, then finds all made
[[ "$(cat "$folder/.made" 2>/dev/null)" == "$stamp" ]] && exit 0
find "$folder" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +

python=${PYTHON:-python3} # only its pip is used
for tool in apt-get dpkg-deb "$python"; do
    command -v "$tool" >/dev/null || { echo "expected $tool (Debian 12), got none here" >&2; exit 3; }
done

# fetch ARCHITECTURE STATUS PACKAGE...: download with apt's own configuration and keys into a state of our own.
fetch() {
    local architecture=$1 status=$2 state=$folder/apt-$1
    shift 2
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$folder/debs-$architecture/partial"
    touch "$state/none"
    [[ $status == none ]] && status=$state/none
    local options=(-qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" -o "Dir::State=$state"
        -o "Dir::State::status=$status" -o "Dir::Cache=$state/cache" -o "Dir::Cache::archives=$folder/debs-$architecture"
        -o Acquire::Languages=none -o Debug::NoLocking=1 -o APT::Sandbox::User= -o APT::Update::Post-Invoke-Success::=
        -o Acquire::Retries=3)
    # A mirror in mid-synchronisation breaks single indexes (security's armhf, often); what came mostly suffices.
    apt-get "${options[@]}" update || echo "the index of $architecture is incomplete; going on with what came" >&2
    apt-get "${options[@]}" install -y --download-only --no-install-recommends "$@" >/dev/null
}

unpack() {
    mkdir -p "$2"
    local package
    for package in "$folder/debs-$1"/*.deb; do dpkg-deb -x "$package" "$2"; done
}

wheels() {
    local target=$folder/$1
    shift
    "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --no-deps \
        --only-binary=:all: --implementation cp --python-version 311 --target "$target" "$@"
}

if ! command -v gcc >/dev/null; then
    [[ $(id -u) == 0 ]] || { echo "expected gcc, got none here; run: apt-get install gcc libc6-dev" >&2; exit 3; }
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null
fi
gcc -O2 -shared -fPIC -o "$folder/instruction_counter.so" "$here/instruction_counter.c"

# The wheels come while apt works. Old tags must be named one by one: pip doesn't infer them from a newer one.
pure=(click rich flatbuffers markdown-it-py mdurl pygments)
{
    wheels site-arm64 --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 ai-edge-litert==2.3.0 numpy "${pure[@]}"
    wheels site-arm64-old --platform manylinux_2_34_aarch64 --platform manylinux_2_17_aarch64 \
        tflite-runtime==2.14.0 'numpy<2' "${pure[@]}"
    # 32-bit ARM has no wheel of NumPy there; it takes Debian's.
    wheels site-armhf --platform manylinux_2_34_armv7l tflite-runtime==2.14.0 "${pure[@]}"
} &
wheels_job=$!

debian=(python3.11-minimal libpython3.11-stdlib libstdc++6 libatomic1)
fetch arm64 none "${debian[@]}"
unpack arm64 "$folder/arm64"
fetch armhf none "${debian[@]}" python3-numpy
unpack armhf "$folder/armhf"
# Links that the packages' maintainer scripts would make.
ln -sf blas/libblas.so.3 lapack/liblapack.so.3 "$folder/armhf/usr/lib/arm-linux-gnueabihf/"
if ! command -v qemu-aarch64 >/dev/null || ! command -v qemu-arm >/dev/null; then
    fetch amd64 /var/lib/dpkg/status qemu-user
    unpack amd64 "$folder/host"
fi

# What QEMU shows of the host is an x86 processor, at which ai-edge-litert crashes; kernels are chosen by "CPU part".
# A path in the sysroot is opened before the host's. One sysroot a board, hard-linked.
board() { # board NAME ARCHITECTURE PART FEATURES
    cp -al "$folder/$2" "$folder/root-$1"
    mkdir -p "$folder/root-$1/proc"
    local core
    for core in 0 1 2 3; do
        printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\n' "$core" "$4"
        printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$3"
    done >"$folder/root-$1/proc/cpuinfo"
}
board pi3 arm64 0xd03 'fp asimd evtstrm crc32 cpuid'
board pi4 arm64 0xd08 'fp asimd evtstrm crc32 cpuid'
board pi5 arm64 0xd0b 'fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp'
board pi2 armhf 0xc07 'half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm'
wait "$wheels_job"
rm -rf "$folder"/apt-* "$folder"/debs-*
echo "$stamp" >"$folder/.made"
