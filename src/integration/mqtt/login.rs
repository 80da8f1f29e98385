//! User name and password of a connection.
//!
//! A password is what the config says, or a signature that is made for each connection and lasts no longer than it may
//! ([`Login::entry`]).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{self, Auth, Problem, Secret};
use crate::delivery::outcome::Failure;
use crate::dial::Dial;
use crate::integration::auth::{Sas, SasSettings, Scope, blamed_on_clock, own_name};

/// The version of the protocol that Azure IoT Hub is asked for.
const API_VERSION: &str = "2021-04-12";

/// Makes user name and password.
pub(super) struct Login {
    username: Option<String>,
    password: Password,
    clock: Arc<dyn Clock>,
}

enum Password {
    Fixed(Secret),
    Signed(Box<Sas>),
}

/// What one connection is opened with.
pub(super) struct Entry {
    pub(super) username: Option<String>,
    pub(super) password: Secret,
    /// How long the far end may let us stay; `None`: as long as we like.
    pub(super) stay: Option<Duration>,
}

impl Login {
    /// `client_id` is the one that is sent, `host` the broker's.
    pub(super) fn try_new(
        gateway: &str,
        integration: &config::Integration,
        mqtt: &config::Mqtt,
        client_id: &str,
        dial: &Dial,
    ) -> Result<Login, Vec<Problem>> {
        let clock = Arc::clone(dial.clock());
        let key = |name: &str| format!("integration.{}.{name}", integration.name.value);
        let place = &integration.auth.place;
        let (username, password) = match &integration.auth.value {
            Auth::None => {
                let none = || Secret::new(String::new());
                (mqtt.username.clone(), Password::Fixed(mqtt.password.clone().unwrap_or_else(none)))
            }
            Auth::AzureSas { key: secret, device, policy, ttl } => {
                let device = device.as_ref().map(|device| own_name(device, gateway));
                if device.is_some_and(|device| device.as_deref() != Some(client_id)) {
                    let message = "Azure IoT Hub takes the device as client id, and client_id names another";
                    let problem = Problem::error(&mqtt.client_id.place, key("client_id"), message);
                    return Err(vec![problem.hint("leave client_id out, or auth.device")]);
                }
                let host = mqtt.host.value.as_str();
                let policy = policy.as_ref().map(|policy| policy.value.as_str());
                let scope = match policy {
                    Some(_) => Scope::hub(host),
                    None => Scope::device(host, client_id),
                };
                let settings = SasSettings { key: secret, policy, ttl: *ttl };
                let sas = Sas::try_new(&key("auth"), place, &settings, scope, Arc::clone(&clock))?;
                let username = mqtt.username.clone();
                let username =
                    username.unwrap_or_else(|| format!("{host}/{client_id}/?api-version={API_VERSION}"));
                (Some(username), Password::Signed(Box::new(sas)))
            }
            _ => {
                let message = "this kind of authentication is for HTTP";
                let problem = Problem::error(place, key("auth.type"), message);
                return Err(vec![
                    problem.hint("use username and password, azure-sas, or a client certificate under tls"),
                ]);
            }
        };
        Ok(Login { username, password, clock })
    }

    /// User name and password for a new connection.
    ///
    /// # Errors
    /// Why none can be made.
    pub(super) fn entry(&self) -> Result<Entry, Failure> {
        let (password, stay) = match &self.password {
            Password::Fixed(password) => (password.clone(), None),
            Password::Signed(sas) => {
                let (signature, use_for) = sas.fresh()?;
                (Secret::new(signature), Some(use_for))
            }
        };
        Ok(Entry { username: self.username.clone(), password, stay })
    }

    /// What a failed connection means: a signature that is refused may be our clock's fault.
    pub(super) fn explained(&self, failure: Failure) -> Failure {
        match self.password {
            Password::Fixed(_) => failure,
            Password::Signed(_) => blamed_on_clock(failure, self.clock.as_ref()),
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login([secret])")
    }
}
