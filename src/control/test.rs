//! `test`: one attempt with a made-up uplink, and all that is to be told of it (RULES S29).
//!
//! A running agent is asked for it, so that MQTT goes out on the live session; without one the command does it itself.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::clock::{Clock, rfc3339};
use crate::delivery::outcome::{Outcome, Report};
use crate::integration::Tester;
use crate::lorawan::{Devices, simulated};
use crate::printable::{printable, printable_up_to};
use crate::uplink::Uplink;

use super::api::put;
use super::names;
use super::request::Request;

/// The longest body that is shown, in characters.
const BODY: usize = 16 << 10;

/// What the uplink is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Whose; none: the first device of the config, or nobody's.
    pub(crate) device: Option<String>,
    /// What it says.
    pub(crate) payload: Option<Vec<u8>>,
    /// On which port.
    pub(crate) port: Option<u8>,
}

impl Wanted {
    /// What a request asks for.
    pub(super) fn of(request: &Request) -> Result<Wanted, String> {
        let payload =
            request.get("payload").map(|text| data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()));
        let port = request.get("port").map(str::parse);
        Ok(Wanted {
            device: request.get("device").map(str::to_owned),
            payload: payload.transpose().map_err(|_| "payload is hexadecimal, such as 01a2")?,
            port: port.transpose().map_err(|_| "port is a number from 0 to 255")?,
        })
    }

    /// The uplink.
    ///
    /// # Errors
    /// There is no such device, or the payload is too long.
    pub(crate) fn uplink(&self, devices: &Devices, clock: &dyn Clock) -> Result<Uplink, String> {
        let device = match &self.device {
            Some(asked) => {
                Some(names::device(devices, asked).ok_or_else(|| names::no_device(devices, asked))?)
            }
            None => devices.iter().next(),
        };
        let payload = self.payload.as_deref().unwrap_or(&simulated::PAYLOAD);
        simulated::uplink(device, payload, self.port.unwrap_or(simulated::F_PORT), clock)
    }
}

/// Makes the attempt and says what came of it.
pub(crate) async fn run(name: &str, tester: &Tester, uplink: Uplink, via: Option<&str>) -> Value {
    log::info!("{}: tested by the operator, with the simulated uplink {}", printable(name), uplink.id);
    let uplink = Arc::new(uplink);
    let report = tester.attempt(Arc::clone(&uplink), via).await;
    shown(name, &uplink, via, report)
}

fn shown(name: &str, uplink: &Uplink, via: Option<&str>, report: Report) -> Value {
    let Report { outcome, exchange } = report;
    let exchange = exchange.unwrap_or_default();
    let (status, error) = match &outcome {
        Outcome::Delivered(_) => ("delivered", None),
        Outcome::Filtered => ("filtered", None),
        Outcome::Failed(failure) => {
            let message = printable_up_to(&failure.message, 1_024);
            ("failed", Some(json!({ "layer": failure.layer.as_str(), "message": message })))
        }
    };
    let mut result = Map::new();
    put(&mut result, "id", json!(uplink.id.to_string()));
    put(&mut result, "time", json!(rfc3339(uplink.at.wall_us)));
    put(&mut result, "integration", json!(name));
    if let Some(via) = via {
        put(&mut result, "via", json!(via));
    }
    put(&mut result, "device", json!(printable(&exchange.device)));
    put(&mut result, "simulated", json!(true));
    put(&mut result, "status", json!(status));
    put(&mut result, "duration_ms", json!(u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX)));
    let headers: Vec<String> = exchange.headers.iter().map(|header| printable(header)).collect();
    let body = printable_up_to(&exchange.body, BODY);
    let target = printable_up_to(&exchange.target, 1_024);
    put(&mut result, "request", json!({ "target": target, "headers": headers, "body": body }));
    let response =
        exchange.code.as_ref().map(|code| json!({ "code": code, "body": printable(&exchange.answer) }));
    put(&mut result, "response", json!(response));
    put(&mut result, "error", json!(error));
    let notes: Vec<String> = exchange.notes.iter().map(|note| printable(note)).collect();
    put(&mut result, "notes", json!(notes));
    Value::Object(result)
}
