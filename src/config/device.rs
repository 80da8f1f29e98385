//! `[[device]]`: the sensors, in `packhorse.toml` and in device files.

use std::time::Duration;

use super::problem::Problem;
use super::reader::{Table, Value, quoted};
use super::schema::{Device, Spot};
use super::secret::{Inline, Secret};

/// What `device` is, for "expected …".
pub(super) const SHAPE: &str = "a list of tables: [[device]]";

/// Reads one device. With errors in it, its name may be empty.
pub(super) fn read(value: &Value<'_>) -> Option<Device> {
    value.table("a table: [[device]]", |table| {
        let dev_eui = table.get("dev_eui").map(|value| hex::<8>(&value, "a DevEUI", "0004a30b001c0530"));
        let dev_addr = table.get("dev_addr").map(|value| hex::<4>(&value, "a DevAddr", "260b1f2e"));
        if dev_eui.is_none() && dev_addr.is_none() {
            let message =
                "a device needs dev_eui, dev_addr or both: nothing else says which uplinks are its own";
            table.report(Problem::error(&table.place(), table.path("dev_eui"), message));
        }
        let (nwk_s_key, app_s_key) = (session_key(table, "nwk_s_key"), session_key(table, "app_s_key"));
        if (nwk_s_key.is_some() || app_s_key.is_some()) && dev_addr.is_none() {
            table.missing("dev_addr", "dev_addr = \"260b1f2e\" (session keys belong to a DevAddr)");
        }
        let (dev_eui, dev_addr) = (dev_eui.flatten(), dev_addr.flatten());
        let expect_every = table
            .duration("expect_every", Duration::ZERO, Duration::ZERO..=Duration::from_secs(366 * 86_400))
            .value;
        Device {
            name: name(table, dev_eui, dev_addr),
            dev_eui,
            dev_addr,
            nwk_s_key,
            app_s_key,
            labels: table.texts("labels").into_iter().map(|label| label.value).collect(),
            variables: table.sub("variables", variables),
            function: table.text("function"),
            reset_counters: table.flag("reset_counters", false),
            expect_every,
        }
    })
}

/// The device's name, by default its DevEUI, else its DevAddr.
fn name(table: &mut Table<'_>, dev_eui: Option<[u8; 8]>, dev_addr: Option<[u8; 4]>) -> Spot<String> {
    let Some(name) = table.text("name") else {
        let eui = dev_eui.map(|eui| shown(&eui));
        return table.absent(eui.or_else(|| dev_addr.map(|address| shown(&address))).unwrap_or_default());
    };
    if name.chars().count() > 100 || name.chars().any(char::is_control) {
        let message = "a device's name has at most 100 characters and no control characters";
        table.report(Problem::error(&name.place, table.path("name"), message));
    }
    name
}

/// An EUI or address as the file and all output show it.
pub(super) fn shown(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// `N` bytes in hexadecimal, most significant first; `-` and `:` may stand between digits.
fn hex<const N: usize>(value: &Value<'_>, what: &str, example: &str) -> Option<[u8; N]> {
    let text = value.str(&format!("{what} in quotes"))?;
    let bytes = hex_bytes(text);
    if bytes.is_none() {
        let hint = format!("write {} hexadecimal digits, such as {example:?}", N * 2);
        value.refuse_with(format!("{} is not {what}", quoted(text)), hint);
    }
    bytes
}

/// The bytes of a hexadecimal text, if they are exactly `N`.
pub(super) fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// An AES-128 session key, checked without quoting it.
fn session_key(table: &mut Table<'_>, key: &'static str) -> Option<Secret> {
    let value = table.get(key)?;
    let secret = value.secret(Inline::Secret)?;
    let bytes: Option<[u8; 16]> = hex_bytes(secret.expose());
    if bytes.is_none() {
        value.refuse_with("this is not a session key", "a key is 32 hexadecimal digits, alone in its file");
    }
    Some(Secret::new(shown(&bytes?)))
}

fn variables(table: &mut Table<'_>) -> Vec<(String, Secret)> {
    let entries = table.entries();
    let read = |entry: super::reader::Named<'_>| Some((entry.name.value, entry.value.secret(Inline::Plain)?));
    entries.into_iter().filter_map(read).collect()
}
