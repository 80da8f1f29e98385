# Completion of packhorse for bash. Made of the program's help texts by tests/manual.

_packhorse_names() {
  sed -n "s/^[[:space:]]*\[$1\.\([A-Za-z0-9_-]*\).*/\1/p" /etc/packhorse/packhorse.toml 2>/dev/null | sort -u
}

_packhorse() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local command='' options='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --config) ((i++)) ;;
      -*) ;;
      *) command=${COMP_WORDS[i]}; break ;;
    esac
  done
  case $previous in
    --config) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --device | --since | --payload | --port | --file | --integration | --confirm | --hex | --to | --rate | --count | --devices | --before | --outage) return ;;
  esac
  case $command in
    '') words="run check status history devices watch pause resume kick dead replay purge test spool doctor example reload apply confirm decode simulate demo help version" ;;
    run) options="" ;;
    check) options="" ;;
    status) options="--json" ;;
    history) options="--device --since --failed --json" words=$(_packhorse_names integration) ;;
    devices) options="--json" ;;
    watch) options="--json" ;;
    pause) options="" words=$(_packhorse_names integration) ;;
    resume) options="" words=$(_packhorse_names integration) ;;
    kick) options="" ;;
    dead) options="--json" words=$(_packhorse_names integration) ;;
    replay) options="--dead --since --all" words=$(_packhorse_names integration) ;;
    purge) options="--yes" words=$(_packhorse_names integration) ;;
    test) options="--device --payload --port --json" words=$(_packhorse_names integration) ;;
    spool) options="--file --json --dead --integration" words="check export" ;;
    doctor) options="--json" ;;
    example) options="" words="packhorse aws-iot-core azure-iot-hub datacake devices google-pubsub hivemq-cloud influxdb node-red tagoio thingsboard ubidots silo-level.js" ;;
    reload) options="" ;;
    apply) options="--confirm" words=$(compgen -f -- "$current") ;;
    confirm) options="" ;;
    decode) options="--hex --port --json --batch" words=$(_packhorse_names function) ;;
    simulate) options="--to --rate --count --devices" ;;
    demo) options="--before --outage" ;;
    help) options="" words="run check status history devices watch pause resume kick dead replay purge test spool doctor example reload apply confirm decode simulate demo help version" ;;
    version) options="" ;;
  esac
  case $current in
    -*) words="$options --config --verbose" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _packhorse packhorse
