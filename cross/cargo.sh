#!/usr/bin/env bash
# Cargo for another processor, with whatever toolchain this machine has for it.
#
#   cross/cargo.sh TARGET COMMAND [ARGUMENT…]   such as: cross/cargo.sh aarch64-unknown-linux-musl build --release
#   cross/cargo.sh --why TARGET [PROFILE]       builds nothing: says what it would use, or what is missing
#
# Three ways to a standard library, the first that is there is taken:
#   rustup      rustup target add TARGET
#   debian      Debian's libstd-rust-web-dev of that architecture, with rustc-web
#   build-std   built along, from Debian's rust-web-src or rustup's component rust-src
# Only the last one will do for 32-bit musl, since a library that is built already has 32-bit time, and with it no clock
# after 2038; and for the profile "minimal". zig links, and is the C compiler (ring and QuickJS are C in part), for every
# target but this machine's own.
#
# What is built lies in $CARGO_TARGET_DIR, default target/cross, so that it never throws away what a developer's own cargo
# has built in target.
set -euo pipefail
cd "$(dirname "$0")/.."

usage='usage: cross/cargo.sh TARGET COMMAND [ARGUMENT…], or cross/cargo.sh --why TARGET [PROFILE]'
asked=false
if [ "${1:-}" = --why ]; then asked=true; shift; fi
target=${1:?$usage}
shift
$asked || : "${1:?$usage}"
profile=dev
case " $* " in
  *" dist "*) profile=dist ;;
  *" minimal "*) profile=minimal ;;
esac
# Where cross/setup-debian.sh puts zig.
export PATH=$PWD/target/cross/tools/bin:$PATH

# What is not there, and how it comes: everything at once, as somebody with a slow line would like to know it.
missing=()
lacks() { missing+=("$1"); }

# --- The standard library ---------------------------------------------------------------------------------------------

wide_time=true prebuilt=true
case $target in arm*-musl*) wide_time=false prebuilt=false ;; esac
if [ "$profile" = minimal ]; then prebuilt=false; fi

debian=/usr/lib/rustlib
rustup_has() { command -v rustup >/dev/null && rustup target list --installed | grep -qx "$target"; }
rustup_source() { # of the toolchain that cargo would use here
  local root
  command -v rustup >/dev/null && root=$(rustc --print sysroot) && [ -e "$root/lib/rustlib/src/rust/library/Cargo.lock" ]
}

how=
if $prebuilt && rustup_has; then
  how=rustup
elif $prebuilt && [ -x /usr/bin/rustc ] && [ -d "$debian/$target/lib" ]; then
  how=debian
elif [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -e "$debian/src/rust/library/Cargo.lock" ]; then
  how=build-std-debian
elif rustup_source; then
  how=build-std-rustup
else
  by_rustup="rustup target add $target"
  $prebuilt || by_rustup="rustup component add rust-src"
  lacks "a standard library for $target: \`$by_rustup\`, or on Debian \`apt-get install rustc-web cargo-web rust-web-src\`"
fi

cargo=(cargo)
flags=${RUSTFLAGS:-}
arguments=(--target "$target")
case $how in
  debian) export RUSTC=/usr/bin/rustc ;;
  build-std-*)
    # Flags of a nightly toolchain on a stable one, whose own sources are built: that is what the variable is for.
    export RUSTC_BOOTSTRAP=1
    arguments+=("-Zbuild-std=std,panic_abort")
    if [ "$how" = build-std-debian ]; then
      # The sources fit this compiler alone.
      export RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo
      cargo=("$CARGO")
    fi
    # Read by the libc crate, the standard library's and ours: time_t of 64 bits, as musl has it since 1.2.
    $wide_time || export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
    ;;
esac

# --- The linker and C compiler ----------------------------------------------------------------------------------------

if [ "$target" != "$(rustc -vV 2>/dev/null | sed -n 's/^host: //p')" ]; then
  if ! command -v zig >/dev/null && [ -z "${CARGO_ZIGBUILD_ZIG_PATH:-}" ] && ! python3 -c 'import ziglang' 2>/dev/null; then
    lacks "zig, the linker and C compiler for other machines: \`pip install ziglang\`"
  fi
  command -v cargo-zigbuild >/dev/null || lacks "cargo-zigbuild: \`pip install cargo-zigbuild\`, or \`cargo install --locked cargo-zigbuild\`"
  cargo=(cargo-zigbuild)
  case $target in
    # The glibc of Debian 10: runs there and on everything younger.
    *-gnu*) arguments[1]=$target.2.28 ;;
    # Else rustc names start files of a musl of its own, which a library that is built here does not bring.
    *) case $how in build-std-*) flags="$flags -C link-self-contained=no" ;; esac ;;
  esac
fi

if [ ${#missing[@]} -gt 0 ]; then
  printf 'cross: %s can not be built here; not found:\n' "$target" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi
printf 'cross: %s, standard library: %s\n' "$target" "$how" >&2
if $asked; then exit 0; fi

# --- Size -------------------------------------------------------------------------------------------------------------

if [ "$profile" != dev ]; then
  # Nothing unwinds: the profiles that are installed abort. The tables for it are a tenth of a binary.
  flags="$flags -C force-unwind-tables=no"
  export CFLAGS="${CFLAGS:-} -fno-unwind-tables -fno-asynchronous-unwind-tables"
  # And there is nothing that a backtrace could name.
  case $how in build-std-*) arguments+=("-Zbuild-std-features=optimize_for_size") ;; esac
fi
# Panics say what, not where.
if [ "$profile" = minimal ]; then flags="$flags -Zlocation-detail=none"; fi

# --- Build ------------------------------------------------------------------------------------------------------------

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cross}
export RUSTFLAGS=$flags
command=$1
shift
if [ "${cargo[0]}" = cargo-zigbuild ] && [ "$command" = build ]; then command=zigbuild; fi
# Two words, or none.
read -r -a quickjs <<<"$(cross/quickjs.sh "$target")"
exec "${cargo[@]}" "$command" "${quickjs[@]}" "${arguments[@]}" "$@"
