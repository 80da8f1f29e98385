#!/usr/bin/env bash
# Measures what Packhorse takes, and fails where it is more than DESIGN section 10 allows.
#
#   packaging/footprint.sh             memory and disk of the binary that packages install, on this machine
#   packaging/footprint.sh sizes       the binaries for aarch64, with everything and minimal
#   packaging/footprint.sh features    what each cargo feature adds to the one for aarch64: a build each, minutes
#
# Memory is that of the x86_64 build, linked statically with musl: one source, one HTTP and one MQTT integration that are
# not there. A million waiting uplinks are measured by a benchmark of the spool; PACKHORSE_WAITING names a command that
# prints the resident KiB of an agent with that many, to have it judged here, too.
set -euo pipefail
cd "$(dirname "$0")/.."

# Budgets, in KiB.
BINARY=4096 MINIMAL=2560 IDLE=6144 WAITING=10240

bad=false
judge() { # WHAT KIB BUDGET
  local word=ok
  if [ "$2" -gt "$3" ]; then word="TOO MUCH" bad=true; fi
  printf '%-34s %7d KiB, budget %5d  %s\n' "$1" "$2" "$3" "$word"
}
kib() { echo $((($(wc -c <"$1") + 1023) / 1024)); }
built() { echo "${CARGO_TARGET_DIR:-target/cross}/$1/$2/packhorse"; }

memory() {
  local target=x86_64-unknown-linux-musl
  cross/build.sh "$target" >/dev/null
  binary=$PWD/$(built "$target" dist)
  work=$(mktemp -d)
  agent=
  trap 'kill "$agent" 2>/dev/null || true; rm -rf "$work"' EXIT

  start_agent
  # A few failed connection attempts belong to the state that is measured.
  sleep 5
  judge "idle: resident" "$(status VmRSS)" $IDLE
  printf '%-34s %7d KiB, %d threads\n' "idle: of that private" "$(status RssAnon)" "$(status Threads)"
  printf '%-34s %7d KiB\n' "idle: spool on the disk" "$(du -k "$work/spool.redb" | cut -f 1)"
  kill "$agent"
  wait "$agent" || true

  for n in $(seq 0 999); do
    printf '[[device]]\nname = "sensor-%d"\ndev_addr = "0253%04x"\nlabels = ["field-%d"]\n' "$n" "$n" $((n % 10))
  done >"$work/devices.toml"
  start_agent
  "$binary" simulate --to 127.0.0.1:1799 --devices 1000 --count 4000 --rate 900 >/dev/null
  sleep 5
  judge "1,000 devices, 4,000 waiting" "$(status VmRSS)" $WAITING
  printf '%-34s %7d KiB\n' "  of that private" "$(status RssAnon)"
  printf '%-34s %7d KiB\n' "  spool on the disk" "$(du -k "$work/spool.redb" | cut -f 1)"
  if [ -n "${PACKHORSE_WAITING:-}" ]; then
    judge "1,000,000 waiting" "$($PACKHORSE_WAITING)" $WAITING
  fi
}

start_agent() {
  touch "$work/devices.toml"
  cat >"$work/packhorse.toml" <<CONFIG
device_files = ["devices.toml"]
[spool]
path = "$work/spool.redb"
[control]
socket = "$work/control.sock"
[source.concentrator]
type = "semtech-udp"
listen = "127.0.0.1:1799"
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
    "$binary" status --json --config "$work/packhorse.toml" 2>/dev/null | grep -q '"state":"ok"' && return
    sleep 0.1
  done
  cat "$work/log" >&2
  exit 1
}

status() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$agent/status"; }

sizes() {
  local target=aarch64-unknown-linux-musl
  cross/build.sh "$target" >/dev/null
  judge "aarch64, all default features" "$(kib "$(built "$target" dist)")" $BINARY
  cross/build.sh --minimal "$target" >/dev/null
  judge "aarch64, minimal" "$(kib "$(built "$target" minimal)")" $MINIMAL
}

# Each feature alone, against a build without any.
features() {
  local target=aarch64-unknown-linux-musl none feature size
  build() { cross/cargo.sh "$target" build --locked --quiet --bin packhorse --profile dist --no-default-features "$@"; }
  build
  none=$(kib "$(built "$target" dist)")
  printf '| feature | adds |\n| --- | --- |\n| none | %d KiB in all |\n' "$none"
  for feature in $(sed -n '/^\[features\]/,/^\[dep/s/^\([a-z][a-z-]*\) = .*/\1/p' Cargo.toml | grep -vx default); do
    build --features "$feature"
    size=$(kib "$(built "$target" dist)")
    printf '| %s | %d KiB |\n' "$feature" $((size - none))
  done
}

case ${1:-memory} in
  memory | sizes | features) "${1:-memory}" ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
if $bad; then
  echo "over budget: DESIGN section 10" >&2
  exit 1
fi
