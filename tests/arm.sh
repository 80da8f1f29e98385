#!/usr/bin/env bash
# Runs Packhorse for another processor in qemu's user emulation: the unit tests of record format, store, LoRaWAN crypto
# and clock, the spool's own tests with their files, times after 2038, and the story of tests/outage.rs: datagrams in, HTTP
# and MQTT over TLS out, SIGKILL in between. There the tests run here and only the agent is of the other processor.
#
#   tests/arm.sh [TARGET]        default aarch64-unknown-linux-musl; cross/build.sh --list names the others
#
# Installs what is missing on Debian and its kin (as root, or with sudo), as tests/run.sh and cross/setup-debian.sh do.
# What the emulator can't: an agent in it can't start its function worker (cross/README.md tests that apart).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-aarch64-unknown-linux-musl}

say() { printf '\n== %s: %s\n' "$target" "$*"; }

cross/setup-debian.sh
if ! command -v faketime >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends faketime qemu-user
fi
IFS=, read -r -a emulator < <(awk -v target="$target" '$1 == target { print $3 }' cross/targets.txt)
[ ${#emulator[@]} -gt 0 ] || { echo "$target is none of the targets: cross/build.sh --list" >&2; exit 2; }
# A test that hangs in the emulator must end; a slow one must not.
run=(timeout 900)
if [ "${emulator[0]}" != - ]; then run+=("${emulator[@]}"); fi

say "build"
folder=${CARGO_TARGET_DIR:-$PWD/target/cross}
cross/cargo.sh "$target" build --locked --bin packhorse
# The programs that cargo has built, by the name of what they test.
programs=$(cross/cargo.sh "$target" test --locked --no-run --lib --test spool --test year_2038 --message-format json |
  sed -n 's/.*"target":{"kind":\[[^]]*\],"crate_types":\[[^]]*\],"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p')
program() { awk -v name="$1" '$1 == name { print $2 }' <<<"$programs"; }

say "record format, store, crypto, clock"
"${run[@]}" "$(program packhorse)" spool:: lorawan:: clock:: uplink::

say "the spool on the disk"
"${run[@]}" "$(program spool)"

binary=$folder/$target/debug/packhorse
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "a clock past 2038"
"${run[@]}" "$(program year_2038)"
if [ "${emulator[0]}" != - ]; then
  # The emulator asks our libc for the time, where it can be told another one; for that it must be a dynamic program.
  printf '[source.s]\ntype = "semtech-udp"\n' >"$work/packhorse.toml"
  said=$(faketime -f '2040-01-02 03:04:05' timeout 60 "${emulator[0]%-static}" "${emulator[@]:1}" "$binary" \
    doctor --config "$work/packhorse.toml" || true)
  grep '2040-01-02T03:04' <<<"$said" || { printf '%s\n' "$said"; exit 1; }
fi

say "an outage, with a kill"
{ echo '#!/bin/sh'; printf 'exec %s "$@"\n' "$(printf '%q ' "${run[@]:2}" "$binary")"; } >"$work/packhorse"
chmod +x "$work/packhorse"
"$work/packhorse" version
PACKHORSE_TEST_BINARY=$work/packhorse cargo test --locked --test outage --test service_manager
