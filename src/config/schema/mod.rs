//! The configuration as the rooms see it: plain types, every value checked for shape, every default filled in.
//!
//! One struct a table of the file. A value that a room judges further (a URL, a template, a path) is a [`Spot`], so that
//! the room can say where in which file the trouble lies. What this version reads but does not act on yet is kept too:
//! `check` names it, instead of the reader calling a documented key unknown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

mod integration;

use super::problem::Place;
use super::secret::Secret;

pub use integration::*;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Spot<T> {
    /// The value itself.
    pub value: T,
    /// Where it stands in which file; for a default, where its table stands.
    pub place: Place,
}

/// Where a value stands does not make it another.
impl<T: PartialEq> PartialEq for Spot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> std::ops::Deref for Spot<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A whole configuration: `packhorse.toml` and the device files that it names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[spool]`
    pub spool: Spool,
    /// `[control]`
    pub control: Control,
    /// `[source.NAME]`, in the order of the file.
    pub sources: Vec<Source>,
    /// `[[device]]`, from the file itself and from `device_files`.
    pub devices: Vec<Device>,
    /// `[function.NAME]`
    pub functions: Vec<Function>,
    /// `[integration.NAME]`, in the order of the file.
    pub integrations: Vec<Integration>,
    /// `[[flow]]`, in the order of the file.
    pub flows: Vec<Flow>,
    /// `[history]`
    pub history: History,
    /// `[metrics]`
    pub metrics: Metrics,
}

/// `[gateway]`: the box we run on.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// The name in bodies, topics and birth messages; the host name by default.
    pub name: String,
}

/// `[spool]`: the durable queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Spool {
    /// The one file.
    pub path: Spot<PathBuf>,
    /// Disk space in bytes, reserve included; `None`: the smaller of 64 MiB and a quarter of what is free.
    pub max_size: Option<u64>,
    /// How old an uplink may grow before it expires (RULES S2).
    pub max_age: Duration,
    /// What happens at `max_size` (RULES S11).
    pub on_full: Spot<OnFull>,
    /// When a record is forced to the disk.
    pub durability: Spot<Durability>,
    /// Write-behind's loss window.
    pub commit_after: Duration,
    /// How long delivered uplinks stay for `replay`; zero: not at all.
    pub keep_delivered: Spot<Duration>,
}

/// `on_full`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Free the oldest.
    DropOldest,
    /// Refuse what comes in for the fullest integration.
    RefuseNew,
}

/// `durability`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A commit at most 200 ms after the first waiting record.
    Immediate,
    /// What is delivered within `commit_after` never reaches the flash.
    WriteBehind,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// The Unix socket of the local API.
    pub socket: Spot<PathBuf>,
}

/// `[source.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The table's name.
    pub name: Spot<String>,
    /// What kind of source, with its settings.
    pub kind: SourceKind,
}

/// `type` of a source.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// `semtech-udp`
    SemtechUdp(SemtechUdp),
    /// `mqtt`
    Mqtt(MqttSource),
    /// `http`
    Http(HttpSource),
}

/// A Semtech UDP (GWMP) listener.
#[derive(Clone, Debug, PartialEq)]
pub struct SemtechUdp {
    /// Where packet forwarders send to.
    pub listen: Spot<SocketAddr>,
    /// Who may send.
    pub allow: Vec<Network>,
    /// What is taken in; empty: everything.
    pub accept: Vec<Spot<String>>,
    /// Uplinks a second and gateway EUI; 0: no limit.
    pub rate_limit: u32,
    /// Other GWMP servers that everything is passed on to.
    pub forward_to: Vec<Spot<String>>,
}

/// An IP network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address.
    pub address: std::net::IpAddr,
    /// Leading bits that count, 0 to 32 or 128.
    pub prefix: u8,
}

impl Network {
    /// Whether `address` lies in this network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        let prefix = u32::from(self.prefix);
        match (self.address.to_canonical(), address.to_canonical()) {
            (V4(ours), V4(theirs)) => {
                let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix)).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            (V6(ours), V6(theirs)) => {
                let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix)).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// A local network server's broker.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttSource {
    /// The broker. Never holds credentials.
    pub url: Spot<String>,
    /// Its scheme.
    pub scheme: MqttScheme,
    /// Its host; an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Topic filters to subscribe to.
    pub topics: Vec<Spot<String>>,
    /// The JSON that arrives there.
    pub format: Spot<Format>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
}

/// `POST /uplinks`
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSource {
    /// Where to listen.
    pub listen: Spot<SocketAddr>,
    /// The bearer token, required off loopback.
    pub token: Option<Secret>,
}

/// `[[device]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// The device's name; its DevEUI by default.
    pub name: Spot<String>,
    /// DevEUI, most significant byte first.
    pub dev_eui: Option<[u8; 8]>,
    /// DevAddr, most significant byte first.
    pub dev_addr: Option<[u8; 4]>,
    /// LoRaWAN 1.0 network session key, 32 lower-case hexadecimal digits.
    pub nwk_s_key: Option<Secret>,
    /// LoRaWAN 1.0 application session key, 32 lower-case hexadecimal digits.
    pub app_s_key: Option<Secret>,
    /// Groups.
    pub labels: Vec<String>,
    /// Key/values for functions and templates; functions see only plain ones (RULES S34, [`Secret::is_plain`]).
    pub variables: Vec<(String, Secret)>,
    /// The default function.
    pub function: Option<Spot<String>>,
    /// The device restarts its counter at 0.
    pub reset_counters: bool,
    /// Report the device overdue when silent for longer; zero: never.
    pub expect_every: Duration,
}

/// `[function.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// The table's name.
    pub name: Spot<String>,
    /// The script.
    pub file: Spot<PathBuf>,
    /// CPU time a call may take.
    pub time_limit: Duration,
    /// Memory a call may take, in bytes.
    pub memory_limit: u64,
    /// Whether `null` drops the uplink on that flow.
    pub drop_null: bool,
}

/// `[[flow]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// The flow's name.
    pub name: Spot<String>,
    /// Whose uplinks.
    pub from: From,
    /// `uplink`, `join`, `other`
    pub events: Vec<Event>,
    /// Only these FPorts; empty: all.
    pub ports: Vec<u8>,
    /// Overrides the device's function.
    pub function: Option<Spot<String>>,
    /// Where to.
    pub to: Vec<Target>,
    /// `mode = "failover"`: the next target only while the first is down.
    pub failover: bool,
}

/// `from` of a flow.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// Everything that was heard.
    All,
    /// Every configured device.
    Known,
    /// Devices with one of these labels.
    Labels(Vec<String>),
    /// These devices, by name or DevEUI.
    Devices(Vec<Spot<String>>),
}

/// `events` of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// LoRaWAN data uplinks and messages of local network servers.
    Uplink,
    /// Join requests.
    Join,
    /// Everything else that was on the air.
    Other,
}

/// One entry of a flow's `to`.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The integration's name.
    pub integration: Spot<String>,
    /// Overrides the topic.
    pub topic: Option<Spot<String>>,
    /// Overrides the format.
    pub format: Option<Format>,
}

/// `[history]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct History {
    /// Records an integration, in RAM.
    pub records: usize,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// TCP address of `/metrics` and `/healthz`; none: the control socket only.
    pub listen: Option<Spot<SocketAddr>>,
}

/// The spellings of an enum: one table for the reader, for messages and for `Display`.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every spelling the file may hold, with its meaning.
            pub const NAMES: &'static [(&'static str, $type)] = &[$(($name, $type::$variant)),+];
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($type::$variant => $name),+ })
            }
        }
    };
}

use names;

names!(OnFull { DropOldest = "drop-oldest", RefuseNew = "refuse-new" });
names!(Durability { Immediate = "immediate", WriteBehind = "write-behind" });
names!(Event { Uplink = "uplink", Join = "join", Other = "other" });
