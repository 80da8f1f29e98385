#!/bin/sh
# Installs Packhorse from this tarball on a system that no package fits: BusyBox firmware, a distribution without .deb.
# Run it as root, in the unpacked folder; once more to upgrade.
#
#   ./install.sh                     program, config, service; starts it if the config has something to do for it
#   ./install.sh --uninstall         takes program and service away; config and spool stay
#   ./install.sh --uninstall --purge those, too
#
#   PREFIX=/opt/packhorse/bin        where the program goes; default /usr/bin
#   STATE=/data/packhorse            where the spool goes; default /var/lib/packhorse. Has to survive a reboot: on many
#                                    firmwares /var is in memory, and the installer says so
#   ROOT=/mnt/image                  installs into another root, and starts nothing
#
# Each file is put in place whole or not at all: after a power cut run it again.
set -eu
cd "$(dirname "$0")"

PREFIX=${PREFIX:-/usr/bin}
STATE=${STATE:-/var/lib/packhorse}
ROOT=${ROOT:-}
CONFIG=/etc/packhorse

say() { echo "packhorse: $*"; }
die() { echo "packhorse: $*" >&2; exit 1; }

put() { # MODE FILE DESTINATION [SED-EXPRESSION…]
  mode=$1 from=$2 to=$ROOT$3
  shift 3
  mkdir -p "$(dirname "$to")"
  if [ $# -gt 0 ]; then sed "$@" "$from" >"$to.new"; else cp "$from" "$to.new"; fi
  chmod "$mode" "$to.new"
  sync
  mv "$to.new" "$to"
}

# Where the unit, or the script, of each kind of init lies.
find_init() {
  if [ -d "$ROOT/etc/systemd/system" ] && { [ -e "$ROOT/lib/systemd/systemd" ] || [ -e "$ROOT/usr/lib/systemd/systemd" ]; }; then
    init=systemd service=/etc/systemd/system/packhorse.service
  elif [ -e "$ROOT/sbin/procd" ]; then
    init=procd service=/etc/init.d/packhorse
  elif [ -d "$ROOT/etc/init.d" ]; then
    init=sysv service=/etc/init.d/packhorse
  else
    init=none service=
  fi
}

# Only what has been started is asked to do something.
control() { # start | stop | restart
  [ -z "$ROOT" ] || return 0
  case $init in
    systemd)
      [ -d /run/systemd/system ] || return 0
      systemctl daemon-reload
      [ "$1" = stop ] || systemctl --quiet enable packhorse
      systemctl "$1" packhorse
      ;;
    procd | sysv)
      if [ "$1" != stop ]; then enable_script; fi
      "$service" "$1"
      ;;
  esac
}

enable_script() {
  if [ "$init" = procd ]; then
    "$service" enable
  elif command -v update-rc.d >/dev/null; then
    update-rc.d packhorse defaults >/dev/null
  elif [ -d "$ROOT/etc/rc.d" ] || [ -d "$ROOT/etc/rc5.d" ]; then
    for folder in "$ROOT"/etc/rc[2345].d "$ROOT"/etc/rc.d; do
      [ ! -d "$folder" ] || ln -sf ../init.d/packhorse "$folder/S80packhorse"
    done
  else
    ln -sf packhorse "$ROOT/etc/init.d/S80packhorse"
  fi
}

add_user() {
  if grep -q '^packhorse:' "$ROOT/etc/passwd"; then return; fi
  if [ -n "$ROOT" ] || ! command -v useradd >/dev/null && ! command -v adduser >/dev/null; then
    # No tool for it, or not for another root.
    id=990
    while grep -q "^[^:]*:[^:]*:$id:" "$ROOT/etc/passwd" "$ROOT/etc/group"; do id=$((id - 1)); done
    grep -q '^packhorse:' "$ROOT/etc/group" || echo "packhorse:x:$id:" >>"$ROOT/etc/group"
    echo "packhorse:x:$id:$id:packhorse:$STATE:/bin/false" >>"$ROOT/etc/passwd"
    [ ! -e "$ROOT/etc/shadow" ] || echo 'packhorse:!:::::::' >>"$ROOT/etc/shadow"
  elif command -v useradd >/dev/null; then
    useradd --system --user-group --no-create-home --home-dir "$STATE" --shell /bin/false packhorse
  else
    # BusyBox
    addgroup -S packhorse 2>/dev/null || true
    adduser -S -D -H -h "$STATE" -s /bin/false -G packhorse packhorse
  fi
}

in_memory() { # FOLDER: whether its file system is gone after a reboot
  folder=$1
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  # BusyBox has no `df --output`.
  mount_point=$(df -P "$folder" | awk 'NR == 2 { print $6 }')
  awk -v at="$mount_point" '$2 == at { type = $3 } END { exit type != "tmpfs" && type != "ramfs" }' /proc/mounts
}

install_all() {
  [ -n "$ROOT" ] || ./packhorse version >/dev/null 2>&1 || die "this program does not run here ($(uname -m)); take the tarball of another processor"
  if [ -z "$ROOT" ] && in_memory "$STATE"; then
    die "$STATE is in memory and gone after a reboot, with all that waits; say where the spool may go: STATE=/… ./install.sh"
  fi
  was_there=false
  [ ! -e "$ROOT$PREFIX/packhorse" ] || was_there=true
  add_user
  put 755 packhorse "$PREFIX/packhorse"
  mkdir -p "$ROOT$CONFIG/secrets" "$ROOT$STATE"
  if [ ! -e "$ROOT$CONFIG/packhorse.toml" ]; then
    put 640 packhorse.toml "$CONFIG/packhorse.toml" -e "s|^path = .*|path = \"$STATE/spool.redb\"|"
  fi
  # By number: the names may be those of another root.
  ids=$(awk -F: '$1 == "packhorse" { print $3 ":" $4 }' "$ROOT/etc/passwd")
  chown "0:${ids#*:}" "$ROOT$CONFIG" "$ROOT$CONFIG/secrets" "$ROOT$CONFIG/packhorse.toml"
  chmod 750 "$ROOT$CONFIG" "$ROOT$CONFIG/secrets" "$ROOT$STATE"
  chown "$ids" "$ROOT$STATE"
  case $init in
    systemd)
      put 644 packhorse.service "$service" -e "s|/usr/bin/packhorse|$PREFIX/packhorse|g" -e "s|^StateDirectory=packhorse|&\nReadWritePaths=$STATE|"
      ;;
    procd) put 755 packhorse.procd "$service" -e "s|^PROGRAM=.*|PROGRAM=$PREFIX/packhorse|" -e "s|/srv/packhorse|$STATE|g" ;;
    sysv) put 755 packhorse.init "$service" -e "s|^program=.*|program=$PREFIX/packhorse|" ;;
    none) say "no systemd, procd or /etc/init.d here: have your init run \`$PREFIX/packhorse run\` as user packhorse" ;;
  esac
  if $was_there; then control restart; else control start; fi
  if grep -Eq '^[[:space:]]*[[]?[[:space:]]*integration[[:space:].]' "$ROOT$CONFIG/packhorse.toml"; then
    say "installed"
  else
    say "installed. Name an integration in $CONFIG/packhorse.toml, then start it"
  fi
}

uninstall() { # [--purge]
  control stop || true
  if [ "$init" = systemd ] && [ -z "$ROOT" ]; then systemctl --quiet disable packhorse || true; fi
  rm -f "$ROOT$PREFIX/packhorse" ${service:+"$ROOT$service"} "$ROOT"/etc/rc*.d/S80packhorse "$ROOT/etc/init.d/S80packhorse"
  if [ "${1:-}" = --purge ]; then
    rm -rf "${ROOT:?}$CONFIG" "$ROOT$STATE"
    say "gone, with config and spool"
  else
    say "gone; $CONFIG and $STATE stay"
  fi
}

[ "$(id -u)" = 0 ] || die "needs root"
ROOT=${ROOT%/}
find_init
case ${1:-} in
  '') install_all ;;
  --uninstall) uninstall "${2:-}" ;;
  *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
