//! The far ends: names, connections, certificates. All at the same time, because each may take its time.

use std::net::IpAddr;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::agent::Agent as Rooms;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Integration, IntegrationKind, SourceKind};
use crate::dial::certificate::Certificate;
use crate::dial::reach::{Reach, Reached, Stopped};

use super::super::table::duration;
use super::Finding;

/// A certificate that ends sooner is somebody's business now.
const SOON: i64 = 30 * 86_400;

/// Whether anything is beyond this machine.
pub(super) fn needs_a_route(config: &Config) -> bool {
    let is_here = |host: &str| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let is_tapped_from_afar = config.sources.iter().any(|source| match &source.kind {
        SourceKind::SemtechUdp(udp) => {
            udp.forward_to.iter().any(|server| server.rsplit_once(':').is_none_or(|(host, _)| !is_here(host)))
        }
        SourceKind::Mqtt(_) | SourceKind::Http(_) => false,
    });
    is_tapped_from_afar
        || config.integrations.iter().filter(|it| it.enabled).any(|it| match &it.kind {
            IntegrationKind::Http(http) => {
                let rest = http.url.value.split("://").nth(1).unwrap_or_default();
                let authority = rest.split(['/', '?']).next().unwrap_or_default();
                let host = match authority.rsplit_once(':') {
                    Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
                    _ => authority,
                };
                !is_here(host)
            }
            IntegrationKind::Mqtt(mqtt) => !is_here(&mqtt.host),
        })
}

pub(super) fn integrations(config: &Config, rooms: &Rooms, report: &mut impl FnMut(Finding)) {
    let enabled: Vec<&Integration> = config.integrations.iter().filter(|it| it.enabled).collect();
    let reaches: Vec<Option<Reach>> =
        enabled.iter().map(|it| rooms.tester(&it.name).and_then(|tester| tester.reach())).collect();
    std::thread::scope(|scope| {
        let tries: Vec<_> = reaches
            .iter()
            .map(|reach| reach.as_ref().map(|reach| scope.spawn(move || reach.try_it())))
            .collect();
        for ((it, reach), tried) in enabled.iter().zip(&reaches).zip(tries) {
            if let (Some(reach), Some(Ok(tried))) = (reach, tried.map(|tried| tried.join())) {
                report(reached(it, reach, tried));
            }
            own_certificate(it, report);
        }
    });
}

fn reached(it: &Integration, reach: &Reach, tried: Result<Reached, Stopped>) -> Finding {
    let name = it.name.value.as_str();
    let Reached { addresses, lookup, took, certificate } = match tried {
        Ok(reached) => reached,
        Err(Stopped { failure, issuer: None }) => {
            return Finding::bad(name, failure.to_string(), format!("packhorse test {name} tries it whole"));
        }
        Err(Stopped { failure, issuer: Some(issuer) }) => {
            let trusted = match &it.tls.ca {
                Some(ca) => format!("is not in {}", ca.display()),
                None => "is none of this machine's".to_owned(),
            };
            return Finding::bad(
                name,
                failure.to_string(),
                format!(
                    "it was signed by \"{issuer}\", which {trusted} (or one of that name, with another key): name the right CA's file in tls.ca"
                ),
            );
        }
    };
    let by = addresses.first().map_or_else(String::new, |address| format!(" ({})", address.ip()));
    let what = if reach.tls.is_some() { "TLS" } else { "TCP" };
    let says = format!("{}{by}: DNS {} ms, {what} {} ms", reach.peer, lookup.as_millis(), took.as_millis());
    match certificate.map(|certificate| left(&certificate)) {
        Some(left) if left < SOON => Finding::warn(
            name,
            format!("{says}; its certificate ends in {}", duration(left.try_into().unwrap_or(0))),
            "tell whoever runs it to renew it",
        ),
        _ => Finding::ok(name, says),
    }
}

/// The client certificate. That its key fits was found when the integration was built.
fn own_certificate(it: &Integration, report: &mut impl FnMut(Finding)) {
    let Some(path) = &it.tls.cert else { return };
    let what = format!("{} cert", it.name.value);
    let Some(certificate) = read(path) else {
        let says = format!("{} can't be read", path.display());
        return report(Finding::bad(what, says, "packhorse check says why"));
    };
    let (left, shown) = (left(&certificate), path.display());
    report(match u64::try_from(left) {
        Err(_) | Ok(0) => {
            Finding::bad(what, format!("{shown} has expired"), "get a new one from whoever made it")
        }
        Ok(left) if i64::try_from(left).is_ok_and(|left| left < SOON) => Finding::warn(
            what,
            format!("{shown} ends in {}", duration(left)),
            "get a new one; it is used from the next connection on, without a restart",
        ),
        Ok(left) => Finding::ok(what, format!("{shown} is good for {}, and fits its key", duration(left))),
    });
}

fn read(path: &Path) -> Option<Certificate> {
    Certificate::read(&CertificateDer::from_pem_file(path).ok()?)
}

/// Seconds until it ends.
fn left(certificate: &Certificate) -> i64 {
    certificate.not_after.saturating_sub(SystemClock::new().wall_us() / 1_000_000)
}
