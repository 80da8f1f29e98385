#!/usr/bin/env bash
# Builds the binaries that packages install: stripped, static where the target is musl, all default features.
#
#   cross/build.sh TARGET…             such as: cross/build.sh aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf
#   cross/build.sh --minimal TARGET…   for 16 MB of flash: what it leaves out says cross/README.md
#   cross/build.sh --list              the targets
#
# Prints path and size of each. Works with rustup's targets or Debian's Rust packages, never needs a container; what is
# missing is named, for all targets, before anything is built.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }

profile=dist features=()
case ${1:-} in
  --list) sed -n 's/^\([a-z][^ ]*\).*/\1/p' cross/targets.txt; exit ;;
  --minimal) profile=minimal features=(--no-default-features --features terse-log); shift ;;
esac
case ${1:--} in -*) usage ;; esac

ready=true
for target in "$@"; do
  grep -q "^$target " cross/targets.txt || { echo "cross: $target is none of the targets: cross/build.sh --list" >&2; exit 2; }
  cross/cargo.sh --why "$target" "$profile" || ready=false
done
$ready || exit 1

folder=${CARGO_TARGET_DIR:-target/cross}
for target in "$@"; do
  cross/cargo.sh "$target" build --locked --bin packhorse --profile "$profile" "${features[@]}"
done
for target in "$@"; do
  binary=$folder/$target/$profile/packhorse
  if grep -q PACKHORSE_CRASH_POINT "$binary"; then
    echo "cross: $binary can be told to die (src/crash_point.rs): it has debug assertions, which nobody installs" >&2
    exit 1
  fi
  printf '%9d bytes  %s\n' "$(wc -c <"$binary")" "$binary"
done
