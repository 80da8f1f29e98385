//! What is known of an uplink at the moment it is sent.
//!
//! An [`Uplink`] is what was heard. A [`Message`] is what that means under the present config: whose it is, what it says in
//! clear, what the device is called. It is made anew for each attempt and borrows; formats and templates read nothing else.
//! What a function made of it comes on top, as a [`Decoding`].
//!
//! Nothing is invented: a frame whose device is not known, or no longer proved by its MIC, has no payload.

use serde_json::value::RawValue;

use crate::clock::Dated;
use crate::lorawan::frame::{self, Data, Frame, RejoinKind};
use crate::lorawan::{Device, Devices};
use crate::server_uplink::ServerUplink;
use crate::uplink::{DevAddr, Eui64, Kind, Rx, Uplink};

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What was heard.
    pub uplink: &'a Uplink,
    /// When, as far as it is known now: that may be better than what was known then.
    pub heard: Dated,
    /// The gateway's name.
    pub gateway: &'a str,
    /// The configured device that sent it.
    pub device: Option<&'a Device>,
    /// A network server's words, for [`Kind::App`].
    pub server: Option<ServerUplink>,
    /// The device's name: ours, else the network server's.
    pub device_name: Option<String>,
    /// DevEUI, if known or said.
    pub dev_eui: Option<Eui64>,
    /// JoinEUI, where the frame or the network server says it.
    pub join_eui: Option<Eui64>,
    /// DevAddr.
    pub dev_addr: Option<DevAddr>,
    /// FPort.
    pub f_port: Option<u8>,
    /// The counter: 32 bits where they are known, else the 16 of the frame.
    pub f_cnt: Option<u32>,
    /// The device asked for an acknowledgement.
    pub confirmed: Option<bool>,
    /// The network controls the data rate.
    pub adr: Option<bool>,
    /// The payload in clear; absent without the key.
    pub payload: Option<Vec<u8>>,
    /// What a function, or the network server's codec, made of it.
    pub decoding: Decoding,
    /// It was delivered or refused before and is sent again because somebody asked for it (RULES S13).
    pub replay: bool,
}

/// What was made of a payload.
#[derive(Clone, Debug, Default)]
pub struct Decoding {
    /// The result, as JSON text.
    pub data: Option<Box<RawValue>>,
    /// What `normalizeUplink` made of it.
    pub normalized: Option<Box<RawValue>>,
    /// The function's warnings.
    pub warnings: Vec<String>,
    /// Why there is no result.
    pub errors: Vec<String>,
    /// What the function wrote to its console. Foreign text, in no body.
    pub console: Vec<String>,
}

impl<'a> Message<'a> {
    /// What is known of `uplink`, dated as it was heard.
    pub fn of(gateway: &'a str, devices: &'a Devices, uplink: &'a Uplink) -> Message<'a> {
        let mut message = Message {
            uplink,
            heard: Dated::as_heard(uplink.at),
            gateway,
            device: None,
            server: None,
            device_name: None,
            dev_eui: uplink.dev_eui,
            join_eui: None,
            dev_addr: None,
            f_port: None,
            f_cnt: uplink.f_cnt,
            confirmed: None,
            adr: None,
            payload: None,
            decoding: Decoding::default(),
            replay: uplink.flags.replayed,
        };
        match uplink.kind {
            Kind::Lorawan => {
                if let Frame::Data(data) = frame::parse(&uplink.content) {
                    message.add_data(devices, &data);
                }
            }
            Kind::Join => message.add_join(),
            Kind::App => message.add_server(),
            Kind::Other => {}
        }
        message.device = message.device.or_else(|| devices.of_eui(message.dev_eui?));
        if let Some(device) = message.device {
            message.device_name = Some(device.name.clone());
        }
        message
    }

    /// What renderer and function had to say about it, for people.
    pub fn notes(&self, warnings: Vec<String>) -> Vec<String> {
        let decoding = &self.decoding;
        let said = decoding.errors.iter().chain(&decoding.warnings).cloned();
        let console = decoding.console.iter().map(|line| format!("console: {line}"));
        warnings.into_iter().chain(said).chain(console).collect()
    }

    /// What to call its sender in front of people.
    pub fn shown_device(&self) -> String {
        self.device_name.clone().unwrap_or_else(|| crate::lorawan::order_key(self.uplink).to_string())
    }

    /// The frame as it was on the air; a network server's JSON has none.
    pub fn frame(&self) -> Option<&[u8]> {
        (self.uplink.kind != Kind::App).then_some(self.uplink.content.as_slice())
    }

    /// The radio metadata: as heard, or as the network server says.
    pub fn rx(&self) -> &Rx {
        match &self.server {
            Some(server) if self.uplink.rx == Rx::default() => &server.rx,
            _ => &self.uplink.rx,
        }
    }

    /// Whether nothing but the network server's own codec had a say in [`decoding`](Self::decoding).
    pub(super) fn is_as_the_server_says(&self) -> bool {
        let text = |result: &Option<Box<RawValue>>| result.as_deref().map(|value| value.get().to_owned());
        let decoding = &self.decoding;
        let server = self.server.as_ref();
        text(&decoding.data) == server.and_then(|server| text(&server.decoded))
            && decoding.normalized.is_none()
            && decoding.warnings.is_empty()
            && decoding.errors.is_empty()
    }

    fn add_data(&mut self, devices: &'a Devices, data: &Data<'_>) {
        self.dev_addr = Some(data.dev_addr);
        self.f_port = data.f_port;
        self.confirmed = Some(data.confirmed);
        self.adr = Some(data.adr);
        let Some(f_cnt) = self.uplink.f_cnt else {
            self.f_cnt = Some(u32::from(data.f_cnt));
            // Without a session an address is all there is, and it must be one device's alone.
            let mut nameless = devices.of_address(data.dev_addr).filter(|device| !device.has_session());
            self.device = nameless.next().filter(|_| nameless.next().is_none());
            return;
        };
        match devices.sender_of(&self.uplink.content, data, f_cnt) {
            Some(device) => {
                self.device = Some(device);
                self.dev_eui = self.dev_eui.or(device.dev_eui);
                self.payload = device.decrypt(data, f_cnt);
            }
            // RULES S7: what was proved when it was heard can't be read any more.
            None => self.decoding.errors.push(
                "the device is no longer configured, or its keys have changed since this was heard"
                    .to_owned(),
            ),
        }
    }

    fn add_join(&mut self) {
        match frame::parse(&self.uplink.content) {
            Frame::Join(join) => {
                self.dev_eui = Some(join.dev_eui);
                self.join_eui = Some(join.join_eui);
            }
            Frame::Rejoin(rejoin) => {
                self.dev_eui = Some(rejoin.dev_eui);
                if let RejoinKind::Restore { join_eui } = rejoin.kind {
                    self.join_eui = Some(join_eui);
                }
            }
            _ => {}
        }
    }

    fn add_server(&mut self) {
        let Ok(server) = ServerUplink::parse(&self.uplink.content) else { return };
        self.dev_eui = self.dev_eui.or(server.dev_eui);
        self.join_eui = server.join_eui;
        self.dev_addr = server.dev_addr;
        self.f_port = server.f_port;
        self.f_cnt = self.f_cnt.or(server.f_cnt);
        self.confirmed = server.confirmed;
        self.payload.clone_from(&server.payload);
        self.device_name.clone_from(&server.device_name);
        self.decoding.data.clone_from(&server.decoded);
        self.server = Some(server);
    }
}
