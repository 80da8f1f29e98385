//! Killed at any moment, again and again: one spool, and as many lives of the agent as asked for.
//!
//! A life lasts up to half a second from its start, and some end before the spool is open. Meanwhile clients post, a forwarder
//! sends, and the far ends come and go. What was not delivered in one life is the next one's.

use std::time::{Duration, Instant};

use crate::support::Agent;
use crate::world::{
    API, CLIENTS, HTTP_PARALLEL, MQTT_WINDOW, SETTLEMENTS, World, assert_nothing_else_happened, is_open,
};

/// How many kills in CI, and the variable that asks for more.
const KILLS: u64 = 30;
const KILLS_VARIABLE: &str = "PACKHORSE_KILL_CYCLES";
const SEED_VARIABLE: &str = "PACKHORSE_KILL_SEED";

/// How long a life lasts at most, in microseconds: one that most often ends before the spool is open, and one with work in it.
const SHORT: u64 = 30_000;
const LONG: u64 = 450_000;

/// DESIGN section 4, invariants 1, 2 and 7.
#[test]
fn nothing_accepted_is_lost_whenever_the_agent_is_killed() {
    let kills = number_in(KILLS_VARIABLE).unwrap_or(KILLS);
    let seed = number_in(SEED_VARIABLE).unwrap_or_else(|| fastrand::u64(..));
    println!("{SEED_VARIABLE}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed);
    let (mut at_api, mut in_starts, mut outages) = (0, 0, [0, 0]);
    for _ in 0..kills {
        let is_there = random.u8(..10) > 0;
        outages[1] += usize::from(world.has_broker() && !is_there);
        world.set_broker(is_there);
        let durability = if random.bool() { "immediate" } else { "write-behind" };
        world.spool = format!("durability = \"{durability}\"");
        let life = live(&mut world, &mut random);
        in_starts += u64::from(!life.opened);
        outages[0] += life.outages;
        // A request whose answer was lost with the connection is made once more.
        let allowance = SETTLEMENTS + HTTP_PARALLEL * (1 + life.outages) + CLIENTS as usize;
        let [api, _] = world.look();
        at_api = api.max(at_api);
        assert!(api <= allowance, "S30: {api} duplicates after a kill");
    }
    let (agent, status) = world.drain();
    world.wait_for_promised();
    assert_nothing_else_happened(&status);
    assert!(agent.terminate().success());
    let [api, broker] = [&world.at_api, &world.at_broker].map(|seen| (seen.len(), seen.duplicates));
    let of_kills = usize::try_from(kills).unwrap() * (SETTLEMENTS + MQTT_WINDOW + CLIENTS as usize);
    assert!(broker.1 <= of_kills + outages[1] * MQTT_WINDOW, "S30: {broker:?}");
    println!(
        "{kills} kills, {in_starts} of them before the spool was open; {outages:?} outages; {} accepted over HTTP; \
         (uplinks, duplicates) at {API} {api:?}, at most {at_api} after a kill, at the broker {broker:?}",
        world.clients.n_accepted()
    );
}

/// What a life was like.
struct Life {
    opened: bool,
    /// How often the endpoint went away.
    outages: usize,
}

fn live(world: &mut World, random: &mut fastrand::Rng) -> Life {
    let agent = world.launch();
    let longest = if random.u8(..4) == 0 { SHORT } else { LONG };
    let until = Instant::now() + Duration::from_micros(random.u64(..longest));
    let mut life = Life { opened: false, outages: 0 };
    // What was committed, and posted, when this life began.
    let mut before = (0, 0);
    while Instant::now() < until {
        if !life.opened {
            if let Some(status) = agent.try_status().filter(is_open) {
                before = (status["committed"].as_u64().unwrap(), world.clients.attempts());
                world.radio.begin_life();
                world.clients.go_on();
                life.opened = true;
            }
        } else {
            world.radio.send(random.usize(1..=12));
            if random.u8(..4) == 0 {
                note_committed(world, &agent, before);
            }
            if random.u8(..16) == 0 {
                life.outages += usize::from(world.has_api());
                let is_there = !world.has_api();
                world.set_api(is_there);
            }
        }
        // The pace of the load, and what makes the moment of the kill one like any other.
        std::thread::sleep(Duration::from_micros(random.u64(..15_000)));
    }
    agent.kill();
    life
}

/// What is committed and was not posted came from the forwarder.
fn note_committed(world: &mut World, agent: &Agent, (committed, attempts): (u64, u64)) {
    let Some(status) = agent.try_status() else { return };
    let posted = world.clients.attempts() - attempts;
    let now = status["committed"].as_u64().unwrap();
    world.radio.are_committed(now.saturating_sub(committed + posted));
}

fn number_in(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect(variable))
}
