//! Names that somebody typed: whom they mean, and what to say where they mean nobody.

use crate::config::nearest;
use crate::lorawan::{Device, Devices};
use crate::printable::printable;

/// Names that are listed where none is near.
const AT_MOST: usize = 8;

/// The configured device that is named: by its name, its DevEUI or its DevAddr.
pub(crate) fn device<'d>(devices: &'d Devices, asked: &str) -> Option<&'d Device> {
    devices.iter().find(|device| all_of(device).any(|name| name.eq_ignore_ascii_case(asked)))
}

/// All that the device may be called that is named, in what was sent and heard.
///
/// # Errors
/// There is no such device.
pub(super) fn of_device(devices: &Devices, asked: &str) -> Result<Vec<String>, String> {
    if let Some(device) = device(devices, asked) {
        return Ok(all_of(device).collect());
    }
    // Whatever looks like an EUI or address may be a stranger's.
    let is_number = matches!(asked.len(), 8 | 16) && asked.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { Ok(vec![asked.to_owned()]) } else { Err(no_device(devices, asked)) }
}

/// That there is no such device.
pub(super) fn no_device(devices: &Devices, asked: &str) -> String {
    let names = devices.iter().map(|device| device.name.as_str());
    format!("there is no device {:?}{}", printable(asked), hint(asked, names))
}

fn all_of(device: &Device) -> impl Iterator<Item = String> {
    let eui = device.dev_eui.map(|eui| eui.to_string());
    let addr = device.dev_addr.map(|addr| addr.to_string());
    std::iter::once(device.name.clone()).chain(eui).chain(addr)
}

/// What to do about a name that nobody has.
pub(crate) fn hint<'n>(asked: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if let Some(near) = nearest(asked, names.iter().copied()) {
        return format!("; did you mean {:?}?", printable(near));
    }
    let all: Vec<String> = names.iter().take(AT_MOST + 1).map(|name| printable(name)).collect();
    match all.len() {
        0 => "; there is none at all".to_owned(),
        1..=AT_MOST => format!("; there is {}", all.join(", ")),
        _ => String::new(),
    }
}
