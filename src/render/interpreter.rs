//! Finds out what an uplink means under the present config.
//!
//! An [`Interpreter`] is shared by all integrations: it holds the gateway's name and the device directory, and makes a
//! [`Message`] of an uplink whenever one is to be sent.

use std::sync::Arc;

use crate::lorawan::Devices;
use crate::uplink::Uplink;

use super::Message;

/// See the [module](self). Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Interpreter {
    gateway: Arc<str>,
    devices: Arc<Devices>,
}

impl Interpreter {
    /// For the gateway with this name, and these devices.
    pub fn new(gateway: &str, devices: Arc<Devices>) -> Interpreter {
        Interpreter { gateway: Arc::from(gateway), devices }
    }

    /// The gateway's name.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// What `uplink` means.
    pub fn message<'a>(&'a self, uplink: &'a Uplink) -> Message<'a> {
        Message::of(&self.gateway, &self.devices, uplink)
    }
}
