#!/bin/sh
# QuickJS bindings for targets that the crate rquickjs-sys ships none for.
#
#   cross/quickjs.sh TARGET      prints the cargo arguments that TARGET needs for functions, or nothing
#
#   cargo $(cross/quickjs.sh armv7-unknown-linux-musleabihf) zigbuild --target armv7-unknown-linux-musleabihf …
#
# The bindings of a target describe C types, and those that QuickJS uses do not depend on the libc: the file for
# armv7-gnueabihf is right for armv7-musleabihf. So the crate is copied into target/, the file with it under a second
# name, and cargo is told to take the copy (`paths` keeps Cargo.lock as it is, so --locked works).
set -eu
cd "$(dirname "$0")/.."

case ${1:?usage: cross/quickjs.sh TARGET} in
  armv7-unknown-linux-musleabihf | arm-unknown-linux-musleabihf) like=armv7-unknown-linux-gnueabihf ;;
  riscv64gc-unknown-linux-musl) like=riscv64gc-unknown-linux-gnu ;;
  *) exit 0 ;;
esac

${CARGO:-cargo} fetch --locked --quiet >&2
version=$(sed -n '/^name = "rquickjs-sys"$/{n;s/^version = "\(.*\)"$/\1/p;}' Cargo.lock)
# shellcheck disable=SC2012 # names of crates are plain
crate=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/rquickjs-sys-"$version" | head -n 1)
copy=$PWD/target/cross/rquickjs-sys-$version
if [ ! -e "$copy/src/bindings/$1.rs" ]; then
  rm -rf "$copy"
  mkdir -p "$(dirname "$copy")"
  cp -R "$crate" "$copy"
  cp "$copy/src/bindings/$like.rs" "$copy/src/bindings/$1.rs"
fi
echo "--config paths=[\"$copy\"]"
