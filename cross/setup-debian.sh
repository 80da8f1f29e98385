#!/usr/bin/env bash
# Installs on Debian and its kin what cross/cargo.sh builds with where rustup has no targets, and the emulator: Rust with
# the sources of its standard library, qemu-user-static; and from PyPI, into target/cross/tools, zig and cargo-zigbuild.
# Installs only what is missing. Touches neither rustup nor a Python of yours.
#
#   cross/setup-debian.sh
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
[ -x /usr/bin/rustc ] || missing+=(rustc-web)
[ -x /usr/bin/cargo ] || missing+=(cargo-web)
[ -e /usr/lib/rustlib/src/rust/library/Cargo.lock ] || missing+=(rust-web-src)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "not Debian; needed: ${missing[*]}" >&2; exit 1; }
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

tools=$PWD/target/cross/tools
if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.1 cargo-zigbuild==0.24.1
fi
