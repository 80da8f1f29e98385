#!/usr/bin/env bash
# Runs everything that must pass before a change lands: format, lints, all tests, the shape of the dependency tree.
# Needs a Rust toolchain; installs what else is missing on Debian and its kin (as root, or with sudo).
#
#   tests/run.sh            everything
#   tests/run.sh unit       the tests inside src/ only, nothing installed
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

install_missing() {
  local missing=()
  command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
  command -v openssl >/dev/null || missing+=(openssl)
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  [ ${#missing[@]} -eq 0 ] && return
  say "installing ${missing[*]}"
  command -v apt-get >/dev/null || {
    echo "not found: ${missing[*]}. Install them with this system's package manager and run this again." >&2
    exit 1
  }
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  # In runlevel 1 no service starts: a freshly installed mosquitto would take port 1883, and the tests start their own.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

if [ "${1:-}" = unit ]; then
  exec cargo test --lib
fi

command -v cargo >/dev/null || { echo "cargo is not installed: see https://rustup.rs" >&2; exit 1; }
install_missing

say "format"
cargo fmt --check

say "lints"
cargo clippy --all-targets --locked -- -D warnings
cargo clippy --all-targets --locked --no-default-features -- -D warnings
cargo clippy --all-targets --locked --all-features -- -D warnings

say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --document-private-items --quiet

say "one TLS provider, one TLS library"
for crate in aws-lc-sys openssl-sys native-tls; do
  if cargo tree --locked --all-features --edges normal,build --invert "$crate" 2>/dev/null | grep -q .; then
    echo "$crate is in the dependency tree:" >&2
    cargo tree --locked --all-features --edges normal,build --invert "$crate" >&2
    exit 1
  fi
done
echo "ring and rustls alone"

if command -v cargo-deny >/dev/null; then
  say "licences, bans and sources"
  cargo deny check licenses bans sources
fi

say "tests"
cargo test --locked
cargo test --locked --features gzip,websocket --test mqtt --test integrations -- websocket fields
