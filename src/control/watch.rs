//! `GET /watch`: each frame as it is heard, one JSON object a line, until the client leaves.
//!
//! A watcher who reads too slowly misses frames and is told how many; one who reads nothing for [`STUCK`] is let go. What
//! the frame says in clear is found out here, for watchers alone; the function's result is shared with the integrations.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use crate::clock::{Clock, rfc3339};
use crate::lorawan::network::NetId;
use crate::printable::printable;
use crate::render::Meaning;
use crate::sightings::{Row, Sighting, Who};
use crate::uplink::{DevAddr, Eui64, Kind, Rx, Uplink};

use super::answer::plain;
use super::status::StatusSource;

/// How long a watcher may not read.
const STUCK: Duration = Duration::from_secs(60);

/// A watcher.
#[derive(Debug)]
pub struct Watching {
    pub(super) sightings: broadcast::Receiver<Arc<Sighting>>,
    pub(super) status: Arc<StatusSource>,
    /// Its place among the watchers.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Watching {
    /// Writes until the client has left or is stuck.
    pub(super) async fn stream_to(mut self, mut stream: UnixStream) {
        loop {
            let mut unread = [0; 64];
            let line = tokio::select! {
                seen = self.sightings.recv() => match seen {
                    Ok(seen) => self.line(&seen).await,
                    Err(RecvError::Lagged(missed)) => json!({ "missed": missed }),
                    Err(RecvError::Closed) => return,
                },
                // Nothing more is asked here: an end, and anything else, is a goodbye.
                _ = stream.read(&mut unread) => return,
            };
            let line = plain(&line.to_string()) + "\n";
            match tokio::time::timeout(STUCK, stream.write_all(line.as_bytes())).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    async fn line(&self, seen: &Sighting) -> Value {
        let mut line = Map::new();
        let heard = self.status.clock.date(seen.at);
        line.insert("time".into(), json!(rfc3339(heard.wall_us)));
        line.insert("time_quality".into(), json!(heard.quality.as_str()));
        add_sender(&mut line, &seen.who, seen.dev_eui, seen.dev_addr);
        let kind = match seen.kind {
            Kind::Lorawan | Kind::App => "uplink",
            Kind::Join => "join",
            Kind::Other => "other",
        };
        line.insert("type".into(), json!(kind));
        add(&mut line, "f_cnt", seen.f_cnt);
        line.insert("gap".into(), json!(seen.gap));
        add(&mut line, "f_port", seen.f_port);
        line.insert("bytes".into(), json!(seen.len));
        add_radio(&mut line, &seen.rx);
        line.insert("fate".into(), json!(seen.fate));
        if let Some(uplink) = &seen.uplink {
            line.insert("id".into(), json!(uplink.id.to_string()));
            self.add_meaning(&mut line, uplink).await;
        }
        Value::Object(line)
    }

    async fn add_meaning(&self, line: &mut Map<String, Value>, uplink: &Uplink) {
        let Some(delivering) = self.status.delivering() else { return };
        let snapshot = delivering.interpreter.now();
        let Meaning::Message(message) = snapshot.interpret_async(uplink, None).await else {
            return;
        };
        let decoding = &message.decoding;
        if let Some(decoded) = decoding.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok()) {
            line.insert("decoded".into(), decoded);
        }
        if !decoding.errors.is_empty() {
            line.insert("decode_errors".into(), json!(decoding.errors));
        }
    }
}

/// A row of `devices`.
pub(super) fn row(row: &Row, clock: &dyn Clock) -> Map<String, Value> {
    let mut entry = Map::new();
    add_sender(&mut entry, &row.who, row.dev_eui, row.dev_addr);
    entry.insert("last_seen".into(), json!(row.last.and_then(|at| rfc3339(clock.date(at).wall_us))));
    entry.insert("silent_s".into(), json!(row.last.and_then(|at| clock.age_s(at))));
    entry.insert("heard".into(), json!(row.heard));
    entry.insert("missed".into(), json!(row.missed));
    add(&mut entry, "f_cnt", row.f_cnt);
    add_radio(&mut entry, &row.rx);
    entry.insert("overdue".into(), json!(row.overdue));
    entry
}

fn add_sender(entry: &mut Map<String, Value>, who: &Who, dev_eui: Option<Eui64>, dev_addr: Option<DevAddr>) {
    if let Who::Device(name) = who {
        entry.insert("device".into(), json!(printable(name)));
    }
    add(entry, "dev_eui", dev_eui.map(|eui| eui.to_string()));
    add(entry, "dev_addr", dev_addr.map(|addr| addr.to_string()));
    if let Some(network) = dev_addr.and_then(NetId::of) {
        entry.insert("net_id".into(), json!(network.to_string()));
        add(entry, "network", network.operator());
    }
}

/// What a forwarder or a network server reports is foreign.
fn add_radio(entry: &mut Map<String, Value>, rx: &Rx) {
    add(entry, "rssi", rx.rssi_dbm.filter(|dbm| dbm.is_finite()).map(short));
    add(entry, "snr", rx.snr_db.filter(|db| db.is_finite()).map(short));
    add(entry, "data_rate", Some(printable(&rx.data_rate)).filter(|rate| !rate.is_empty()));
    add(entry, "frequency", rx.frequency_hz);
}

/// An `f32` to the digit: as an `f64` it would grow a tail.
fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

fn add<T: serde::Serialize>(entry: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        entry.insert(key.into(), json!(value));
    }
}
