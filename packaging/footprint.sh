#!/usr/bin/env bash
# Builds the binary that packages install (the dist profile) and prints its size and its memory while idle: one source,
# one HTTP and one MQTT integration that are not there, nothing heard. Linux only; needs nothing but the Rust toolchain.
#
#   packaging/footprint.sh [TARGET]     TARGET as for cargo --target, if this machine can run it
set -euo pipefail
cd "$(dirname "$0")/.."

target_args=() folder=target/dist
if [ $# -gt 0 ]; then target_args=(--target "$1") folder=target/$1/dist; fi
cargo build --locked --profile dist "${target_args[@]}"
binary=$folder/packhorse

work=$(mktemp -d)
trap 'kill "$agent" 2>/dev/null || true; rm -rf "$work"' EXIT
cat > "$work/packhorse.toml" <<CONFIG
[spool]
path = "$work/spool.redb"
[control]
socket = "$work/control.sock"
[source.concentrator]
type = "semtech-udp"
listen = "127.0.0.1:0"
[integration.http]
type = "http"
url = "http://127.0.0.1:1/"
[integration.mqtt]
type = "mqtt"
url = "mqtt://127.0.0.1:1"
CONFIG
"$binary" run --config "$work/packhorse.toml" 2>"$work/log" &
agent=$!
for _ in $(seq 100); do
  "$binary" status --json --config "$work/packhorse.toml" 2>/dev/null | grep -q '"state":"ok"' && break
  sleep 0.1
done
# A few failed connection attempts belong to the state that is measured.
sleep 3
field() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$agent/status"; }

printf 'binary   %7d KiB  %s\n' "$(($(stat -c %s "$binary") / 1024))" "$binary"
printf 'idle RSS %7d KiB  of which %d KiB private (RssAnon), %d threads\n' \
  "$(field VmRSS)" "$(field RssAnon)" "$(field Threads)"
