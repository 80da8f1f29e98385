//! Finds out what an uplink means under the present config.
//!
//! A [`Snapshot`] holds the device directory and the functions of one config, and makes a [`Message`] of an uplink. An
//! [`Interpreter`] is shared by all integrations and gives the snapshot of now: a reload puts another in its place, and
//! what is sent from then on is made by that one (RULES S23).
//!
//! When it was heard is a matter of now, too: a boot that has learnt the time since dates what waits (RULES S22), for every
//! format, template and function alike.
//!
//! A function is called where there is something for it to read: a payload in clear, on an application's port. Which one is
//! the flow's say, else the device's. It may fail in any way; the uplink is then sent undecoded, with the reasons in it
//! (RULES S7). Only one that returned `null`, and is configured with `drop_null`, ends the uplink's way here.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::lorawan::Devices;
use crate::uplink::Uplink;

use super::function::{self, Functions, Input, Output};
use super::{Message, helium_object};

/// What an uplink means, for one flow.
#[derive(Clone, Debug)]
pub enum Meaning<'a> {
    /// This is to be sent.
    Message(Box<Message<'a>>),
    /// The function dropped it.
    Dropped,
}

/// Gives the snapshot of now. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Interpreter {
    gateway: Arc<str>,
    now: Arc<RwLock<Arc<Snapshot>>>,
}

impl Interpreter {
    /// One that gives `snapshot` until told otherwise.
    pub fn new(snapshot: Snapshot) -> Interpreter {
        Interpreter { gateway: Arc::clone(&snapshot.gateway), now: Arc::new(RwLock::new(Arc::new(snapshot))) }
    }

    /// For a gateway without devices and functions.
    pub fn plain(gateway: &str) -> Interpreter {
        let clock = Arc::new(SystemClock::new());
        Interpreter::new(Snapshot::new(gateway, Arc::default(), Functions::none(), &[], clock))
    }

    /// The gateway's name, which stays.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The snapshot of now.
    pub fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on `snapshot` is given.
    pub fn set(&self, snapshot: Snapshot) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Snapshot {
    gateway: Arc<str>,
    devices: Arc<Devices>,
    functions: Functions,
    clock: Arc<dyn Clock>,
    /// Functions whose `null` drops the uplink.
    droppers: HashSet<String>,
}

impl Snapshot {
    /// For the gateway with this name. `configs` are the tables that `functions` were made of; `clock` knows when uplinks
    /// were heard (RULES S22).
    pub fn new(
        gateway: &str,
        devices: Arc<Devices>,
        functions: Functions,
        configs: &[config::Function],
        clock: Arc<dyn Clock>,
    ) -> Snapshot {
        let droppers = configs.iter().filter(|function| function.drop_null);
        Snapshot {
            gateway: Arc::from(gateway),
            devices,
            functions,
            clock,
            droppers: droppers.map(|function| function.name.value.clone()).collect(),
        }
    }

    /// The configured devices.
    pub fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// What `uplink` means, if no function has to be asked for it.
    pub fn interpret_now<'a>(&'a self, uplink: &'a Uplink, function: Option<&str>) -> Option<Meaning<'a>> {
        let message = self.message(uplink);
        let asks = asked(&message, function).is_some();
        (!asks).then(|| Meaning::Message(Box::new(message)))
    }

    /// What `uplink` means; waits for the function. `function`: the flow's, instead of the device's.
    pub fn interpret<'a>(&'a self, uplink: &'a Uplink, function: Option<&str>) -> Meaning<'a> {
        let message = self.message(uplink);
        match question(&message, function) {
            Some((function, input)) => {
                self.answered(message, &function, &self.functions.call(&function, &input))
            }
            None => Meaning::Message(Box::new(message)),
        }
    }

    /// The same without blocking the thread.
    pub async fn interpret_async<'a>(&'a self, uplink: &'a Uplink, function: Option<&str>) -> Meaning<'a> {
        let message = self.message(uplink);
        match question(&message, function) {
            Some((function, input)) => {
                let output = self.functions.call_async(&function, &input).await;
                self.answered(message, &function, &output)
            }
            None => Meaning::Message(Box::new(message)),
        }
    }

    /// What `uplink` means before any function.
    pub fn message<'a>(&'a self, uplink: &'a Uplink) -> Message<'a> {
        let heard = self.clock.date(uplink.at);
        Message { heard, ..Message::of(&self.gateway, &self.devices, uplink) }
    }

    fn answered<'a>(&self, mut message: Message<'a>, function: &str, output: &Output) -> Meaning<'a> {
        let decoding = &mut message.decoding;
        // What the network server's codec made of it gives way.
        (decoding.data, decoding.normalized) = (None, None);
        match &output.decoding {
            function::Decoding::Decoded { data, warnings, normalized } => {
                decoding.data = Some(data.clone());
                decoding.normalized.clone_from(normalized);
                decoding.warnings.clone_from(warnings);
            }
            function::Decoding::Null if self.droppers.contains(function) => return Meaning::Dropped,
            function::Decoding::Null => {
                decoding.errors.push(format!("function {function} returned null instead of an object"));
            }
            function::Decoding::Failed { errors } => decoding.errors.extend(errors.iter().cloned()),
        }
        decoding.console = output.console.iter().map(|line| line.text.clone()).collect();
        Meaning::Message(Box::new(message))
    }
}

/// Which function is asked, and about which port and payload.
fn asked<'m>(message: &'m Message<'_>, function: Option<&'m str>) -> Option<(&'m str, u8, &'m [u8])> {
    let function = function.or_else(|| message.device?.function.as_deref())?;
    let f_port = message.f_port.filter(|port| *port != 0)?;
    Some((function, f_port, message.payload.as_deref()?))
}

/// The function, and all that it is told.
fn question(message: &Message<'_>, function: Option<&str>) -> Option<(String, Input)> {
    let (function, f_port, payload) = asked(message, function)?;
    let input = Input {
        uplink_id: message.uplink.id,
        bytes: payload.to_vec(),
        f_port,
        recv_time_us: Some(message.heard.wall_us),
        variables: message.device.map(|device| device.variables.clone()).unwrap_or_default(),
        uplink: helium_object(message),
    };
    Some((function.to_owned(), input))
}

#[cfg(test)]
mod tests {
    use super::super::testing::uplink;
    use super::*;
    use crate::clock::{ManualClock, Quality};
    use crate::uplink::Kind;

    /// RULES S22: heard in 1970, interpreted when the clock is right; the record is what it was.
    #[test]
    fn an_uplink_is_dated_when_it_is_interpreted() {
        let clock = Arc::new(ManualClock::new());
        let good_us = clock.wall_us();
        clock.step_wall(-good_us);
        clock.set_trusted(false);
        let heard = Uplink { at: clock.now(), ..uplink(Kind::Other, "ff") };
        let snapshot = Snapshot::new("roof", Arc::default(), Functions::none(), &[], clock.clone());
        let dated = || {
            let heard = snapshot.message(&heard).heard;
            (heard.wall_us, heard.quality)
        };
        assert_eq!(dated(), (0, Quality::Untrusted));
        clock.step_wall(good_us + 1);
        assert_eq!(dated(), (good_us + 1, Quality::Untrusted), "plausible, and no more");
        clock.set_trusted(true);
        assert_eq!(dated(), (good_us + 1, Quality::Corrected));
    }
}
