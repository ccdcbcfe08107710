#!/usr/bin/env bash
# Tests with the kernels in C of another processor, 64-bit ARM with NEON, emulated (several times as slow):
#
#     bash tests/aarch64.sh tests/backend/test_cpu_conv.py      # and other ARGUMENTS OF PYTEST; by default the kernels' tests
#
# Wants Debian, root and pip. The first run installs an emulator (qemu-user) and a cross compiler; an ARM Python with NumPy and
# pytest goes into a folder of its own, $AARCH64 or /var/tmp/minigrad-aarch64.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${AARCH64:-/var/tmp/minigrad-aarch64}
version=3.11 # of Python: the one of Debian's ARM packages
if [ -e "$home" ] && [ ! -e "$home/made-by-aarch64.sh" ]; then
    echo "$home is there and not of this script; set AARCH64 to a folder that is not there" >&2
    exit 1
fi
if [ ! -e "$home/ready" ]; then # or the last run was ended while it fetched
    rm -rf "$home/packages" "$home/root" "$home/site"
    mkdir -p "$home/packages" "$home/root" "$home/site"
    touch "$home/made-by-aarch64.sh"
    dpkg --add-architecture arm64
    apt-get update -q
    apt-get install -yq qemu-user gcc-aarch64-linux-gnu
    needed=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
             "python$version-minimal:arm64" "libpython$version-stdlib:arm64" libgomp1:arm64 libstdc++6:arm64 \
             | grep '^[a-z].*:arm64$' | sort -u)
    (cd "$home/packages" && apt-get download $needed)
    for package in "$home"/packages/*.deb; do dpkg -x "$package" "$home/root"; done
    pip download -q --only-binary=:all: --python-version "$version" --platform manylinux2014_aarch64 \
        --platform manylinux_2_17_aarch64 -d "$home/packages" numpy pytest hypothesis
    for wheel in "$home"/packages/*.whl; do python3 -m zipfile -e "$wheel" "$home/site"; done
    touch "$home/ready"
fi
[ $# -gt 0 ] || set -- tests/backend/test_cpu_conv.py tests/backend/test_cpu_native.py tests/backend/test_cpu_norm_pool.py \
    tests/backend/test_cpu_elementwise.py
libraries=$home/root/usr/lib/aarch64-linux-gnu:$home/root/lib/aarch64-linux-gnu
exec qemu-aarch64 -L "$home/root" -E LD_LIBRARY_PATH="$libraries" -E PYTHONHOME="$home/root/usr" -E PYTHONPATH="$PWD:$home/site" \
    -E CC=aarch64-linux-gnu-gcc -E MINIGRAD_CACHE="$home/cache" "$home/root/usr/bin/python$version" \
    -m pytest -o addopts= -p no:cacheprovider -q "$@"
