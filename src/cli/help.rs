//! What the commands say about themselves.

use super::{Exit, say};

const OVERVIEW: &str = "\
Packhorse keeps the uplinks of LoRaWAN devices on this gateway until every
HTTP or MQTT integration has acknowledged them.

Usage: packhorse COMMAND [--config FILE]

  run        run the agent in the foreground
  check      look for mistakes in the config without running it
  status     what the running agent heard, keeps and delivered
  decode     run a payload through a function of the config
  simulate   play a packet forwarder: send made-up uplinks to an agent
  demo       watch uplinks survive an outage; needs no config, no root
  help       this text, or `help COMMAND` for more
  version    print the version

  --config FILE   the config; default /etc/packhorse/packhorse.toml
  --verbose       log more

Exit codes: 0 done, 1 the thing asked about is bad, 2 wrong usage or no agent.
New here? `packhorse demo`, then edit the config and `packhorse check`.";

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
inactive (enabled = false); removed (no longer in the config, backlog kept).

  --json     one JSON object; a stable contract for scripts

Exit codes: 0 answered, 2 no agent answers.";

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
    say(match topic {
        Some("run") => RUN,
        Some("check") => CHECK,
        Some("status") => STATUS,
        Some("decode") => DECODE,
        Some("simulate") => SIMULATE,
        Some("demo") => DEMO,
        _ => OVERVIEW,
    });
    Exit::Done
}

pub(super) fn version() -> Exit {
    say(format_args!("packhorse {}", env!("CARGO_PKG_VERSION")));
    Exit::Done
}
