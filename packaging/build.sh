#!/usr/bin/env bash
# Builds all packages into target/packages: .deb for Debian and its kin, .ipk (and .apk, where `apk mkpkg` is there) for
# OpenWrt, and a tarball with an installer for anything else. The same sources and commit make the same bytes.
#
#   packaging/build.sh [TARGET…]            default: those of cross/targets.txt that Debian has a name for
#   packaging/build.sh --minimal [TARGET…]  the small build, as packhorse-minimal: .ipk, .apk and tarball
#
# The binaries are cross/build.sh's. PACKHORSE_VERSION overrides the version, PACKHORSE_MAINTAINER who is to be written to.
set -euo pipefail
cd "$(dirname "$0")/.."

minimal=() package=packhorse conflicts=packhorse-minimal profile=dist
if [ "${1:-}" = --minimal ]; then
  minimal=(--minimal) package=packhorse-minimal conflicts=packhorse profile=minimal
  shift
fi
if [ $# -eq 0 ]; then
  read -r -a targets < <(awk '/^[a-z]/ && $1 ~ /musl/ && $2 ~ /^(arm64|armhf|amd64)$/ { printf "%s ", $1 } END { print "" }' cross/targets.txt)
else
  targets=("$@")
fi
cross/build.sh "${minimal[@]}" "${targets[@]}"

version=${PACKHORSE_VERSION:-$(sed -n '0,/^version = /s/^version = "\(.*\)"/\1/p' Cargo.toml)}
maintainer=${PACKHORSE_MAINTAINER:-The Packhorse contributors <packhorse@packhorse.example>}
# What has no commit is built as if in the first minute of time.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
out=target/packages
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

column() { awk -v target="$1" -v n="$2" '$1 == target { print $n }' cross/targets.txt; }
put() { install -D -m "$1" "$2" "$3"; }
# A tree as an archive that is the same wherever and whenever it is made.
archive() { tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$1" -cf - "${@:2}" | gzip -n9; }
filled() { # FILE ARCHITECTURE SIZE
  sed -e "s|@PACKAGE@|$package|" -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$2|" -e "s|@SIZE@|$3|" \
    -e "s|@MAINTAINER@|$maintainer|" -e "s|@CONFLICTS@|$conflicts|" "$1"
}
done_with() { printf '%9d bytes  %s\n' "$(wc -c <"$1")" "$1"; }

# /var is in memory on OpenWrt, and /run may not be there.
openwrt_config() {
  sed -e 's|^path = "/var/lib/packhorse/|path = "/srv/packhorse/|' -e 's|^socket = "/run/|socket = "/var/run/|' config/packhorse.toml
}

documents() { # TREE
  local doc=$1/usr/share/doc/packhorse page
  put 644 packaging/debian/copyright "$doc/copyright"
  put 644 README.md "$doc/README.md"
  for page in config/*.md; do put 644 "$page" "$doc/$(basename "$page")"; done
  mkdir -p "$doc/examples"
  cp -R config/examples/. "$doc/examples/"
  chmod -R u=rwX,go=rX "$doc"
}

manuals() { # TREE
  local page
  for page in packhorse.1 packhorse.toml.5; do
    mkdir -p "$1/usr/share/man/man${page##*.}"
    gzip -n9 <"packaging/man/$page" >"$1/usr/share/man/man${page##*.}/$page.gz"
  done
  put 644 packaging/completions/packhorse.bash "$1/usr/share/bash-completion/completions/packhorse"
  put 644 packaging/completions/_packhorse "$1/usr/share/zsh/vendor-completions/_packhorse"
  put 644 packaging/completions/packhorse.fish "$1/usr/share/fish/vendor_completions.d/packhorse.fish"
}

deb() { # TARGET BINARY
  local tree=$work/deb-$1 architecture script file
  architecture=$(column "$1" 2)
  [ "$architecture" != - ] || return 0
  put 755 "$2" "$tree/usr/bin/packhorse"
  put 644 packaging/packhorse.service "$tree/lib/systemd/system/packhorse.service"
  put 755 packaging/packhorse.init "$tree/etc/init.d/packhorse"
  put 640 config/packhorse.toml "$tree/etc/packhorse/packhorse.toml"
  put 644 packaging/debian/lintian-overrides "$tree/usr/share/lintian/overrides/packhorse"
  documents "$tree"
  manuals "$tree"
  printf 'packhorse (%s) unstable; urgency=medium\n\n  * See /usr/share/doc/packhorse/CHANGELOG.md.gz.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -n9 >"$tree/usr/share/doc/packhorse/changelog.gz"
  gzip -n9 <CHANGELOG.md >"$tree/usr/share/doc/packhorse/CHANGELOG.md.gz"
  mkdir "$tree/DEBIAN"
  filled packaging/debian/control.in "$architecture" "$(du -sk "$tree" | cut -f 1)" >"$tree/DEBIAN/control"
  printf '/etc/packhorse/packhorse.toml\n/etc/init.d/packhorse\n' >"$tree/DEBIAN/conffiles"
  for script in preinst postinst prerm postrm; do put 755 "packaging/debian/$script" "$tree/DEBIAN/$script"; done
  (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' md5sum) >"$tree/DEBIAN/md5sums"
  chmod 644 "$tree/DEBIAN/md5sums"
  file=$out/packhorse_${version}_$architecture.deb
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$file" >/dev/null
  done_with "$file"
}

openwrt_tree() { # TREE BINARY
  put 755 "$2" "$1/usr/bin/packhorse"
  put 755 packaging/openwrt/packhorse.procd "$1/etc/init.d/packhorse"
  mkdir -p "$1/etc/packhorse"
  openwrt_config >"$1/etc/packhorse/packhorse.toml"
  chmod 640 "$1/etc/packhorse/packhorse.toml"
  # What sysupgrade keeps.
  mkdir -p "$1/lib/upgrade/keep.d"
  printf '/etc/packhorse/\n/srv/packhorse/\n' >"$1/lib/upgrade/keep.d/packhorse"
}

ipk() { # TARGET BINARY: a gzipped tar of three members, whatever Debian's ar may do
  local tree=$work/ipk-$1 architecture control file
  openwrt_tree "$tree" "$2"
  for architecture in $(column "$1" 4 | tr , '\n' | grep -vx -e -); do
    control=$work/control-$architecture
    mkdir "$control"
    filled packaging/openwrt/control.in "$architecture" "$(du -sb "$tree" | cut -f 1)" >"$control/control"
    echo /etc/packhorse/packhorse.toml >"$control/conffiles"
    for file in postinst prerm; do put 755 "packaging/openwrt/$file" "$control/$file"; done
    put 644 packaging/openwrt/postinst-pkg "$control/postinst-pkg"
    mkdir "$work/parts"
    echo 2.0 >"$work/parts/debian-binary"
    archive "$control" . >"$work/parts/control.tar.gz"
    archive "$tree" . >"$work/parts/data.tar.gz"
    file=$out/${package}_${version}_$architecture.ipk
    archive "$work/parts" ./debian-binary ./control.tar.gz ./data.tar.gz >"$file"
    rm -r "$work/parts"
    done_with "$file"
  done
}

# For OpenWrt from 25.12 on, whose apk has a format that nothing else writes. Its functions.sh looks for what belongs to a
# package in /lib/apk/packages.
apk_v3() { # TARGET BINARY
  local tree=$work/apk-$1 lists architecture file
  openwrt_tree "$tree" "$2"
  lists=$tree/lib/apk/packages
  mkdir -p "$lists"
  echo packhorse:packhorse >"$lists/$package.rusers"
  echo /etc/packhorse/packhorse.toml >"$lists/$package.conffiles"
  (cd "$tree" && find . -type f -printf '/%P\n' | LC_ALL=C sort) >"$work/list"
  mv "$work/list" "$lists/$package.list"
  for file in postinst prerm; do
    { printf '#!/bin/sh\nexport root="" pkgname=%s\n. /lib/functions.sh\n' "$package"
      if [ "$file" = postinst ]; then echo add_group_and_user; cat packaging/openwrt/postinst-pkg; fi
      echo "default_$file"; } >"$work/$file"
  done
  for architecture in $(column "$1" 4 | tr , '\n' | grep -vx -e -); do
    file=$out/$package-$version-r0_$architecture.apk
    apk mkpkg --info "name:$package" --info "version:$version-r0" --info "arch:$architecture" \
      --info "description:store-and-forward agent for LoRaWAN gateways" --info "license:MIT OR Apache-2.0" \
      --info "maintainer:$maintainer" --info "provides:packhorse" \
      --script "post-install:$work/postinst" --script "post-upgrade:$work/postinst" --script "pre-deinstall:$work/prerm" \
      --files "$tree" --output "$file"
    done_with "$file"
  done
}

tarball() { # TARGET BINARY
  local name=$package-$version-$1 page
  local tree=$work/$name
  put 755 "$2" "$tree/packhorse"
  put 755 packaging/install.sh "$tree/install.sh"
  put 644 packaging/packhorse.service "$tree/packhorse.service"
  put 755 packaging/packhorse.init "$tree/packhorse.init"
  put 755 packaging/openwrt/packhorse.procd "$tree/packhorse.procd"
  put 644 config/packhorse.toml "$tree/packhorse.toml"
  for page in README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE config/*.md; do put 644 "$page" "$tree/$(basename "$page")"; done
  cp -R config/examples packaging/man packaging/completions "$tree/"
  archive "$work" "$name" >"$out/$name.tar.gz"
  done_with "$out/$name.tar.gz"
}

command -v dpkg-deb >/dev/null || echo "no .deb: dpkg-deb is not here" >&2
command -v apk >/dev/null || echo "no .apk: OpenWrt's apk, with mkpkg, is not here" >&2
for target in "${targets[@]}"; do
  binary=${CARGO_TARGET_DIR:-target/cross}/$target/$profile/packhorse
  if [ "$package" = packhorse ] && command -v dpkg-deb >/dev/null; then deb "$target" "$binary"; fi
  ipk "$target" "$binary"
  if command -v apk >/dev/null && apk mkpkg --help >/dev/null 2>&1; then apk_v3 "$target" "$binary"; fi
  tarball "$target" "$binary"
done
