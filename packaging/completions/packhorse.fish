# Completion of packhorse for fish. Made of the program's help texts by tests/manual.

function __packhorse_names
    sed -n "s/^[[:space:]]*\[$argv[1]\.\([A-Za-z0-9_-]*\).*/\1/p" /etc/packhorse/packhorse.toml 2>/dev/null | sort -u
end

complete -c packhorse -f
complete -c packhorse -l config -r -F -d 'the config'
complete -c packhorse -l verbose -d 'log more'
complete -c packhorse -n __fish_use_subcommand -a run -d 'run the agent in the foreground'
complete -c packhorse -n __fish_use_subcommand -a check -d 'look for mistakes in the config without running it'
complete -c packhorse -n __fish_use_subcommand -a status -d 'what the running agent heard, keeps and delivered'
complete -c packhorse -n __fish_use_subcommand -a history -d 'what was sent where, and what was answered'
complete -c packhorse -n __fish_use_subcommand -a devices -d 'who is heard, how well, and who is not'
complete -c packhorse -n __fish_use_subcommand -a watch -d 'frames as they are heard'
complete -c packhorse -n __fish_use_subcommand -a pause -d 'send nothing to an integration for now'
complete -c packhorse -n __fish_use_subcommand -a resume -d 'go on sending to it'
complete -c packhorse -n __fish_use_subcommand -a kick -d 'the link is up: try now'
complete -c packhorse -n __fish_use_subcommand -a dead -d 'what an integration refused for good'
complete -c packhorse -n __fish_use_subcommand -a replay -d 'send dead letters, or what is kept, once more'
complete -c packhorse -n __fish_use_subcommand -a purge -d 'drop what waits for an integration'
complete -c packhorse -n __fish_use_subcommand -a test -d 'send one made-up uplink to an integration, and show the answer'
complete -c packhorse -n __fish_use_subcommand -a spool -d 'check or export the spool while the agent is stopped'
complete -c packhorse -n __fish_use_subcommand -a doctor -d 'what may be wrong, from the clock to the far end'
complete -c packhorse -n __fish_use_subcommand -a example -d 'annotated configs to copy from'
complete -c packhorse -n __fish_use_subcommand -a reload -d 'become what the config says now'
complete -c packhorse -n __fish_use_subcommand -a apply -d 'try another config out, with a way back'
complete -c packhorse -n __fish_use_subcommand -a confirm -d 'keep the config that was applied'
complete -c packhorse -n __fish_use_subcommand -a decode -d 'run a payload through a function of the config'
complete -c packhorse -n __fish_use_subcommand -a simulate -d 'play a packet forwarder: send made-up uplinks to an agent'
complete -c packhorse -n __fish_use_subcommand -a demo -d 'watch uplinks survive an outage; needs no config, no root'
complete -c packhorse -n __fish_use_subcommand -a help -d 'this text, or `help COMMAND` for more'
complete -c packhorse -n __fish_use_subcommand -a version -d 'print the version'
complete -c packhorse -n '__fish_seen_subcommand_from status' -l json
complete -c packhorse -n '__fish_seen_subcommand_from history' -a '(__packhorse_names integration)'
complete -c packhorse -n '__fish_seen_subcommand_from history' -l device -x -d 'NAME'
complete -c packhorse -n '__fish_seen_subcommand_from history' -l since -x -d '2h'
complete -c packhorse -n '__fish_seen_subcommand_from history' -l failed
complete -c packhorse -n '__fish_seen_subcommand_from history' -l json
complete -c packhorse -n '__fish_seen_subcommand_from devices' -l json
complete -c packhorse -n '__fish_seen_subcommand_from watch' -l json
complete -c packhorse -n '__fish_seen_subcommand_from pause' -a '(__packhorse_names integration)'
complete -c packhorse -n '__fish_seen_subcommand_from resume' -a '(__packhorse_names integration)'
complete -c packhorse -n '__fish_seen_subcommand_from dead' -a '(__packhorse_names integration)'
complete -c packhorse -n '__fish_seen_subcommand_from dead' -l json
complete -c packhorse -n '__fish_seen_subcommand_from replay' -a '(__packhorse_names integration)'
complete -c packhorse -n '__fish_seen_subcommand_from replay' -l dead
complete -c packhorse -n '__fish_seen_subcommand_from replay' -l since -x -d '2h'
complete -c packhorse -n '__fish_seen_subcommand_from replay' -l all
complete -c packhorse -n '__fish_seen_subcommand_from purge' -a '(__packhorse_names integration)'
complete -c packhorse -n '__fish_seen_subcommand_from purge' -l yes
complete -c packhorse -n '__fish_seen_subcommand_from test' -a '(__packhorse_names integration)'
complete -c packhorse -n '__fish_seen_subcommand_from test' -l device -x -d 'NAME'
complete -c packhorse -n '__fish_seen_subcommand_from test' -l payload -x -d 'HEX'
complete -c packhorse -n '__fish_seen_subcommand_from test' -l port -x -d 'N'
complete -c packhorse -n '__fish_seen_subcommand_from test' -l json
complete -c packhorse -n '__fish_seen_subcommand_from spool' -a 'check export'
complete -c packhorse -n '__fish_seen_subcommand_from spool' -l file -x -d 'F'
complete -c packhorse -n '__fish_seen_subcommand_from spool' -l json
complete -c packhorse -n '__fish_seen_subcommand_from spool' -l dead
complete -c packhorse -n '__fish_seen_subcommand_from spool' -l integration -x -d 'NAME'
complete -c packhorse -n '__fish_seen_subcommand_from doctor' -l json
complete -c packhorse -n '__fish_seen_subcommand_from example' -a 'packhorse aws-iot-core azure-iot-hub datacake devices google-pubsub hivemq-cloud influxdb node-red tagoio thingsboard ubidots silo-level.js'
complete -c packhorse -n '__fish_seen_subcommand_from apply' -F
complete -c packhorse -n '__fish_seen_subcommand_from apply' -l confirm -x -d '120s'
complete -c packhorse -n '__fish_seen_subcommand_from decode' -a '(__packhorse_names function)'
complete -c packhorse -n '__fish_seen_subcommand_from decode' -l hex -x -d 'PAYLOAD'
complete -c packhorse -n '__fish_seen_subcommand_from decode' -l port -x -d 'N'
complete -c packhorse -n '__fish_seen_subcommand_from decode' -l json
complete -c packhorse -n '__fish_seen_subcommand_from decode' -l batch
complete -c packhorse -n '__fish_seen_subcommand_from simulate' -l to -x -d '127.0.0.1:1700'
complete -c packhorse -n '__fish_seen_subcommand_from simulate' -l rate -x -d '1'
complete -c packhorse -n '__fish_seen_subcommand_from simulate' -l count -x -d '0'
complete -c packhorse -n '__fish_seen_subcommand_from simulate' -l devices -x -d '8'
complete -c packhorse -n '__fish_seen_subcommand_from demo' -l before -x -d '300'
complete -c packhorse -n '__fish_seen_subcommand_from demo' -l outage -x -d '1000'
complete -c packhorse -n '__fish_seen_subcommand_from help' -a 'run check status history devices watch pause resume kick dead replay purge test spool doctor example reload apply confirm decode simulate demo help version'
