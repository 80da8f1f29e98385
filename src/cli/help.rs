//! What the commands say about themselves.

use super::{Exit, say};

const OVERVIEW: &str = "\
Packhorse keeps the uplinks of LoRaWAN devices on this gateway until every
HTTP or MQTT integration has acknowledged them.

Usage: packhorse COMMAND [--config FILE]

  run        run the agent in the foreground
  check      look for mistakes in the config without running it
  status     what the running agent heard, keeps and delivered
  history    what was sent where, and what was answered
  devices    who is heard, how well, and who is not
  watch      frames as they are heard
  pause      send nothing to an integration for now
  resume     go on sending to it
  kick       the link is up: try now
  dead       what an integration refused for good
  replay     send dead letters, or what is kept, once more
  purge      drop what waits for an integration
  test       send one made-up uplink to an integration, and show the answer
  spool      check or export the spool while the agent is stopped
  doctor     what may be wrong, from the clock to the far end
  example    annotated configs to copy from
  reload     become what the config says now
  apply      try another config out, with a way back
  confirm    keep the config that was applied
  decode     run a payload through a function of the config
  simulate   play a packet forwarder: send made-up uplinks to an agent
  demo       watch uplinks survive an outage; needs no config, no root
  help       this text, or `help COMMAND` for more
  version    print the version

  --config FILE   the config; default /etc/packhorse/packhorse.toml
  --verbose       log more

Exit codes: 0 done, 1 the thing asked about is bad, 2 wrong usage or no agent.
New here? `packhorse demo`, then edit the config and `packhorse check`.
Something wrong? `packhorse doctor`.";

const RUN: &str = "\
Usage: packhorse run [--config FILE] [--verbose]

Runs the agent in the foreground until SIGTERM or SIGINT, then finishes what is
under way, commits everything and ends with 0 within 15 seconds. Needs no root
and no service manager; under systemd it reports when it is ready.

The log goes to standard error. PACKHORSE_LOG sets its level, such as
PACKHORSE_LOG=debug or PACKHORSE_LOG=info,packhorse::integration=trace.";

const CHECK: &str = "\
Usage: packhorse check [--config FILE]

Reads the config as the agent would, with all files it names, and lists every
mistake with file, line and column. Nothing is started and nothing is sent.

Exit codes: 0 the agent can run it (there may be warnings), 1 it can't.";

const STATUS: &str = "\
Usage: packhorse status [--json] [--config FILE]

Asks the running agent through `control.socket` of the config.

  HEARD      uplinks taken in        COMMITTED  uplinks safe on the disk
  BACKLOG    waiting for it          DELIVERED  acknowledged by the far end
  DEAD       refused by the far end for good, kept
  LOST       dropped by age or size, see --json for the reasons

States: active; degraded (the last attempt failed); down (no success for 30 s);
blocked (the far end refuses us: fix what the error names, it goes on by itself);
paused (`packhorse resume` goes on); inactive (enabled = false); removed (no
longer in the config, backlog kept until `packhorse purge`). `via`: the member
of a failover group that is used now. OVERDUE: devices that should be heard.
SET ASIDE: a spool file that was damaged or of a newer version, and what came of
what was in it (`packhorse help spool`).

  --json     one JSON object; a stable contract for scripts

Exit codes: 0 answered, 2 no agent answers.";

const HISTORY: &str = "\
Usage: packhorse history [INTEGRATION] [--device NAME] [--since 2h] [--failed]
                         [--json] [--config FILE]

The last attempts of each integration, from memory: one entry an uplink, with
its last attempt, and one an outage of a broker: OFFLINE since when, or BACK
again, and why. How many are kept says `[history] records` of the config.

  --device NAME   of this device alone: its name, DevEUI or DevAddr
  --since 2h      not older than that: 30m, 2h, 7d
  --failed        only what went wrong
  --json          one object a line, with what was sent and answered

Exit codes: 0 answered, 2 no agent answers or nothing has that name.";

const DEVICES: &str = "\
Usage: packhorse devices [--json] [--config FILE]

Who was heard since the agent started, the last one first; configured devices
that were not heard stand at the end. MISSED counts frame counters that never
came: what the radio lost. OVERDUE: silent for longer than expect_every.

Exit codes: 0 answered, 2 no agent answers.";

const WATCH: &str = "\
Usage: packhorse watch [--json] [--config FILE]

Each frame as it is heard, also those that go no further; FATE says why. GAP
counts the frame counters missing before it. What a function makes of a frame
stands below it. Up to 4 may watch at a time; a slow connection misses frames
and is told so.

  --json     one object a line

Exit codes: 0 ended, 2 no agent answers any more.";

const PAUSE: &str = "\
Usage: packhorse pause INTEGRATION [--config FILE]

Sends nothing more to it; what is under way is finished. Uplinks for it are
kept, over restarts, too. `packhorse resume INTEGRATION` goes on.

Exit codes: 0 done, 1 it can't be, 2 no agent answers or nothing has that name.";

const RESUME: &str = "\
Usage: packhorse resume INTEGRATION [--config FILE]

Goes on after `packhorse pause`, with the oldest uplink that waits.

Exit codes: 0 done, 1 it can't be, 2 no agent answers or nothing has that name.";

const KICK: &str = "\
Usage: packhorse kick [--config FILE]

The link is up: every integration that waits for its next attempt, blocked ones
included, tries within two seconds.

Exit codes: 0 done, 2 no agent answers.";

const DEAD: &str = "\
Usage: packhorse dead INTEGRATION [--json] [--config FILE]

The uplinks that the far end refused for good, with the reason, the oldest
first. They are kept until they are replayed, purged, or make room for others.

Exit codes: 0 answered, 2 no agent answers or nothing has that name.";

const REPLAY: &str = "\
Usage: packhorse replay INTEGRATION (--dead | --since 2h [--all]) [--config FILE]

Sends uplinks once more, under the ids they had, marked \"replay\": true.

  --dead          the dead letters of this integration
  --since 2h      what was heard within that time and is still in the spool;
                  `spool.keep_delivered` says how long delivered uplinks stay
  --all           also uplinks that were never meant for this integration

Exit codes: 0 done, 1 it can't be, 2 no agent answers or nothing has that name.";

const PURGE: &str = "\
Usage: packhorse purge INTEGRATION [--yes] [--config FILE]

Drops what waits for it and its dead letters, and counts them. Others keep
theirs. An integration that is no longer in the config is forgotten with it; if
another one has its name now, put the type before it: http:factory-api.

  --yes, -y       do not ask

Exit codes: 0 done, 1 it can't be, 2 no agent answers or nothing has that name.";

const TEST: &str = "\
Usage: packhorse test INTEGRATION [--device NAME] [--payload HEX] [--port N]
                      [--json] [--config FILE]

Makes up an uplink, marked \"simulated\": true, renders and sends it as any other,
once, and prints what was sent and answered. Nothing is queued or counted. MQTT
goes out on the agent's live session; without an agent, on a connection of its
own. It is never retained.

  --device NAME   who it is from; default: the first device of the config
  --payload HEX   what it says, in clear; default 010203
  --port N        on which port; default 2

Exit codes: 0 delivered, 1 not, 2 nothing has that name.";

const SPOOL: &str = "\
Usage: packhorse spool check [--file F] [--json] [--config FILE]
       packhorse spool export [--dead] [--integration NAME] [--file F]
                              [--config FILE]

For a stopped agent; a running one is asked with `packhorse status`. Both only
read, and need no clean stop before.

`check` reads the whole file: every checksum, every uplink, and whether the
counts add up. `export` prints what waits, one JSON object a line, with the
uplink as it was heard (\"content\", base64) and who waits for it.

  --file F             another file: SPOOL.damaged or SPOOL.newer, which an agent
                       has set aside; what can be read of it is, the rest is told
  --dead               dead letters instead, with the reason
  --integration NAME   only what is for this one
  --json               one JSON object (check)

Exit codes: 0 sound, or everything printed; 1 damaged, or something could not be
read; 2 there is no such file, or an agent has it open.";

const DOCTOR: &str = "\
Usage: packhorse doctor [--json] [--config FILE]

Looks at the config, the agent, the clock, the default route, each far end (DNS,
TCP, TLS, its certificate and ours), the spool and its disk, what a power cut
now would lose, permissions, and whether anything is heard. One line each: ok,
warn or bad, and the next step. Needs no agent and no internet; sends nothing.

  --json     one JSON object

Exit codes: 0 nothing is bad, 1 something is.";

const EXAMPLE: &str = "\
Usage: packhorse example [NAME]

Prints an annotated config for a platform; without NAME, which ones there are.
`packhorse example packhorse` is the default config with every key.

Exit codes: 0 printed, 2 there is none of that name.";

const RELOAD: &str = "\
Usage: packhorse reload [--config FILE]
       packhorse apply NEW.toml [--confirm 120s] [--config FILE]
       packhorse confirm [--config FILE]

`reload` has the running agent read its config again; SIGHUP does the same.
Devices, functions, flows and integrations change while uplinks flow; only what
is other than before is restarted, nothing is lost, and a file with a mistake
changes nothing. The spool, the control socket and the sources need a restart,
and `reload` says so.

`apply` runs another config for a while. If it cuts you off, wait: without
`confirm` the old config runs again by itself, after a reboot too. `confirm`
copies the new one over the old.

Exit codes: 0 done, 1 refused, with the reason, 2 no agent answers.";

const DECODE: &str = "\
Usage: packhorse decode FUNCTION --hex PAYLOAD --port N [--json] [--config FILE]
       packhorse decode FUNCTION --batch [--port N] [--config FILE]

Runs a payload through [function.FUNCTION] of the config, in the same worker and
with the same limits as the agent. The rest of the config may be empty.

  --hex PAYLOAD   the decrypted payload: 01a2ff, 01:A2:FF, 0x01a2ff
  --port N        the LoRaWAN port, 0 to 255
  --json          one line: {\"data\":…,\"warnings\":[…]} or {\"errors\":[…]}, and
                  \"normalized\" where the script has normalizeUplink
  --batch         reads a JSON object a line on standard input and answers each
                  with one line as --json does, also lines it can't read:
                  {\"fPort\":2,\"bytes\":\"01a2ff\"}; bytes may be a list of numbers;
                  \"recvTime\" (RFC 3339) and \"variables\" (an object) are optional

What the script writes to its console goes to standard error.

Exit codes: 0 decoded (--batch: every line), 1 not, 2 there is no such function.";

const SIMULATE: &str = "\
Usage: packhorse simulate [--to 127.0.0.1:1700] [--rate 1] [--count 0] [--devices 8]

Plays a Semtech UDP packet forwarder: sends realistic LoRaWAN uplinks of made-up
devices and waits for the agent's acknowledgements. For trying a config out.

  --to ADDRESS    where the agent listens
  --rate N        uplinks a second
  --count N       stop after N; 0: until interrupted
  --devices N     how many devices take turns

Exit codes: 0 everything was acknowledged, 1 some was not.";

const DEMO: &str = "\
Usage: packhorse demo [--before 300] [--outage 1000] [--verbose]

The whole story in one process, in a temporary folder, on loopback only: a
simulated packet forwarder, the real agent with its spool, an HTTP endpoint and,
if mosquitto is installed, a real MQTT broker. The destinations go away, uplinks
keep coming, the agent is restarted, the destinations return.

  --before N      uplinks while everything is well
  --outage N      uplinks while the destinations are away

Exit codes: 0 every uplink arrived everywhere, 1 at least one did not.";

pub(super) fn print(topic: Option<&str>) -> Exit {
    say(text(topic));
    Exit::Done
}

/// What is said of a command; of none, or one that needs no words of its own: the overview.
pub(super) fn text(topic: Option<&str>) -> &'static str {
    match topic {
        Some("run") => RUN,
        Some("check") => CHECK,
        Some("status") => STATUS,
        Some("history") => HISTORY,
        Some("devices") => DEVICES,
        Some("watch") => WATCH,
        Some("pause") => PAUSE,
        Some("resume") => RESUME,
        Some("kick") => KICK,
        Some("dead") => DEAD,
        Some("replay") => REPLAY,
        Some("reload" | "apply" | "confirm") => RELOAD,
        Some("purge") => PURGE,
        Some("test") => TEST,
        Some("spool") => SPOOL,
        Some("doctor") => DOCTOR,
        Some("example") => EXAMPLE,
        Some("decode") => DECODE,
        Some("simulate") => SIMULATE,
        Some("demo") => DEMO,
        _ => OVERVIEW,
    }
}

pub(super) fn version() -> Exit {
    say(format_args!("packhorse {}", env!("CARGO_PKG_VERSION")));
    Exit::Done
}
