//! The devices that the operator configured.
//!
//! [`Devices`] is the directory of them, made once of a config and shared by all rooms: `session` asks whose a frame is,
//! `flow` who carries a label, `render` for name, keys and variables at the moment of sending. Looking one up costs the
//! same among ten and ten thousand. It is never changed; a reload makes a new one.
//!
//! What tells devices apart: the DevEUI where there is one. A DevAddr alone names nobody (several devices may share it, and
//! so may strangers), so for a frame the MIC decides; see [`Devices::of_address`].

use std::collections::{BTreeMap, HashMap};

use crate::config::{self, Problem};
use crate::uplink::{DevAddr, Eui64};

use super::crypto::{self, Key};
use super::frame::Data;

/// A device, as it is used.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name; its DevEUI or DevAddr by default.
    pub name: String,
    /// Its DevEUI.
    pub dev_eui: Option<Eui64>,
    /// Its address in its network.
    pub dev_addr: Option<DevAddr>,
    /// Its groups.
    pub labels: Vec<String>,
    /// Its key/values that functions may see (RULES S34).
    pub variables: BTreeMap<String, String>,
    /// Those that they may not: for URL, header and body alone.
    pub secret_variables: BTreeMap<String, config::Secret>,
    /// Its default function.
    pub function: Option<String>,
    /// It restarts its counter at 0.
    pub reset_counters: bool,
    nwk_s_key: Option<Key>,
    app_s_key: Option<Key>,
}

impl Device {
    /// Whether its frames can be proved to be its own.
    pub fn has_session(&self) -> bool {
        self.nwk_s_key.is_some()
    }

    /// Whether it sent `phy` with the counter `f_cnt`.
    pub fn has_sent(&self, phy: &[u8], data: &Data<'_>, f_cnt: u32) -> bool {
        self.nwk_s_key.as_ref().is_some_and(|key| crypto::has_valid_mic(key, phy, data, f_cnt))
    }

    /// The payload in clear, if its key is known. Whether the frame is the device's is for the caller to have proved.
    pub fn decrypt(&self, data: &Data<'_>, f_cnt: u32) -> Option<Vec<u8>> {
        let key = if data.f_port? == 0 { self.nwk_s_key.as_ref() } else { self.app_s_key.as_ref() };
        Some(crypto::decrypt(key?, data, f_cnt))
    }

    /// An uplink of it, as it would send it; `None` if it has no address, or no frame can hold that much.
    pub fn frame(&self, f_cnt: u32, f_port: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let keys = self.nwk_s_key.as_ref().zip(self.app_s_key.as_ref());
        crypto::seal(keys, self.dev_addr?, f_cnt, f_port, payload)
    }

    /// Four bytes that change with address and key and tell neither.
    pub fn session_fingerprint(&self) -> u32 {
        self.nwk_s_key
            .as_ref()
            .map_or(0, |key| crypto::fingerprint(key, self.dev_addr.unwrap_or(DevAddr([0; 4]))))
    }

    fn of(config: &config::Device) -> Device {
        let (plain, secret): (Vec<_>, Vec<_>) =
            config.variables.iter().cloned().partition(|(_, value)| value.is_plain());
        let key =
            |secret: &Option<config::Secret>| secret.as_ref().and_then(|key| Key::from_hex(key.expose()));
        Device {
            name: config.name.value.clone(),
            dev_eui: config.dev_eui.map(Eui64),
            dev_addr: config.dev_addr.map(DevAddr),
            labels: config.labels.clone(),
            variables: plain.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect(),
            secret_variables: secret.into_iter().collect(),
            function: config.function.as_ref().map(|function| function.value.clone()),
            reset_counters: config.reset_counters,
            nwk_s_key: key(&config.nwk_s_key),
            app_s_key: key(&config.app_s_key),
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    devices: Vec<Device>,
    by_eui: HashMap<Eui64, usize>,
    by_addr: HashMap<DevAddr, Vec<usize>>,
}

impl Devices {
    /// The devices of a config.
    ///
    /// # Errors
    /// Keys that serve no purpose: an AppSKey without the NwkSKey that proves whose a frame is.
    pub fn try_new(config: &[config::Device]) -> Result<Devices, Vec<Problem>> {
        let lonely = config.iter().filter(|device| device.app_s_key.is_some() && device.nwk_s_key.is_none());
        let problems: Vec<Problem> = lonely
            .map(|device| {
                let key = format!("device.{}.nwk_s_key", device.name.value);
                Problem::error(&device.name.place, key, "app_s_key is set and nwk_s_key is not")
                    .hint("both are needed: nothing is decrypted before the NwkSKey has proved whose it is")
            })
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut all = Devices::default();
        for device in config.iter().map(Device::of) {
            let index = all.devices.len();
            if let Some(eui) = device.dev_eui {
                all.by_eui.insert(eui, index);
            }
            if let Some(addr) = device.dev_addr {
                all.by_addr.entry(addr).or_default().push(index);
            }
            all.devices.push(device);
        }
        Ok(all)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// All, in the order of the config.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// The device with this DevEUI.
    pub fn of_eui(&self, eui: Eui64) -> Option<&Device> {
        self.devices.get(*self.by_eui.get(&eui)?)
    }

    /// The devices that have this address; most often one, and none of them proved to be the sender.
    pub fn of_address(&self, addr: DevAddr) -> impl Iterator<Item = &Device> {
        self.by_addr.get(&addr).into_iter().flatten().filter_map(|index| self.devices.get(*index))
    }

    /// The device that sent `phy` with the counter `f_cnt`, proved by the MIC.
    pub fn sender_of(&self, phy: &[u8], data: &Data<'_>, f_cnt: u32) -> Option<&Device> {
        self.of_address(data.dev_addr).find(|device| device.has_sent(phy, data, f_cnt))
    }
}
