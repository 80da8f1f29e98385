//! What the tests of this room share: configurations made by hand, a certificate authority, and an endpoint.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod authority;
mod endpoint;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use authority::{Authority, Leaf, rsa_key};
pub(crate) use endpoint::{Endpoint, Reply};

use crate::clock::RELEASE_FLOOR_US;
use crate::config::{
    Auth, BatchFormat, Compress, Format, Http, Integration, IntegrationKind, Method, OnReject, Order, Place,
    Retry, Secret, Spot, Strategy, SuccessCodes, Tls,
};
use crate::uplink::{Flags, Kind, Moment, Rx, TimeSource, Uplink};

/// A data frame of 260b1f2e, heard when the clock was right.
pub(crate) fn uplink() -> Uplink {
    Uplink {
        id: uuid::Uuid::from_u128(0x01936b1e_0000_7000_8000_0000000000aa),
        source: Arc::from("concentrator"),
        kind: Kind::Lorawan,
        content: data_encoding::HEXLOWER.decode(b"402e1f0b26802900026a5bc1d2e3f405").unwrap(),
        dev_eui: None,
        f_cnt: None,
        rx: Rx::default(),
        at: Moment { boot_id: [7; 16], boot_ns: 1, wall_us: RELEASE_FLOOR_US, source: TimeSource::Ntp },
        flags: Flags::default(),
    }
}

pub(crate) fn spot<T>(value: T) -> Spot<T> {
    Spot { value, place: Place { file: Arc::from(Path::new("packhorse.toml")), line: 7, column: 3 } }
}

pub(crate) fn secret(value: &str) -> Secret {
    Secret::new(value.to_owned())
}

/// An integration named `api` with the defaults of the reference.
pub(crate) fn http_integration(url: &str, method: Method) -> Integration {
    Integration {
        name: spot("api".to_owned()),
        enabled: true,
        format: spot(Format::Json),
        body: None,
        order: spot(Order::OldestFirst),
        replay_rate: spot(0),
        retry: Retry {
            strategy: Strategy::Exponential,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            max_attempts: 0,
            probe: Duration::from_secs(300),
            on_reject: OnReject::DeadLetter,
        },
        auth: spot(Auth::None),
        tls: Tls::default(),
        kind: IntegrationKind::Http(Http {
            url: spot(url.to_owned()),
            method,
            headers: Vec::new(),
            content_type: spot("json".to_owned()),
            compress: spot(Compress::None),
            timeout: Duration::from_secs(10),
            success_codes: SuccessCodes(vec![200..=299]),
            parallel: 4,
            batch: spot(1),
            batch_format: BatchFormat::Array,
        }),
    }
}

/// The HTTP settings of an integration made by [`http_integration`].
pub(crate) fn http_of(integration: &mut Integration) -> &mut Http {
    match &mut integration.kind {
        IntegrationKind::Http(http) => http,
        IntegrationKind::Mqtt(_) => panic!("not an HTTP integration"),
    }
}

/// Writes `text` to `name` in `dir`, as a renewal does: a new file put in the place of the old.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> Spot<std::path::PathBuf> {
    let (path, fresh) = (dir.join(name), dir.join("fresh"));
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, &path).unwrap();
    spot(path)
}
