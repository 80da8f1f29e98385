//! `[integration.NAME.tls]`. The files are read, and judged, where connections are made.

use super::super::problem::Problem;
use super::super::reader::Table;
use super::super::schema::{Spot, Tls};
use super::{Kind, Peer};

pub(super) fn read(table: &mut Table<'_>, peer: Option<&Peer<'_>>, kind: Kind) -> Tls {
    let tls = Tls {
        ca: table.file("ca"),
        cert: table.file("cert"),
        key: table.file("key"),
        server_name: server_name(table),
        alpn: table.texts("alpn").into_iter().map(|name| name.value).collect(),
    };
    for (has, lacks, missing) in [(&tls.cert, &tls.key, "key"), (&tls.key, &tls.cert, "cert")] {
        if let (Some(given), None) = (has, lacks) {
            let message =
                "cert and key go together: the chain that is shown, and the private key that proves it";
            table.report(Problem::error(&given.place, table.path(missing), message));
        }
    }
    if let Some(name) = tls.server_name.as_ref().filter(|_| kind == Kind::Mqtt) {
        let message = "server_name is for HTTP: rumqttc takes the name from the URL";
        let problem = Problem::error(&name.place, table.path("server_name"), message);
        table.report(problem.hint("put the name that the certificate holds into url"));
    }
    if let Some(peer) = peer.filter(|peer| !peer.tls) {
        refuse_without_tls(table, &tls, peer);
    }
    tls
}

fn refuse_without_tls(table: &mut Table<'_>, tls: &Tls, peer: &Peer<'_>) {
    let files = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
    let files = files.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?.place.clone())));
    let name = tls.server_name.as_ref().map(|name| ("server_name", name.place.clone()));
    let alpn = table.get("alpn").filter(|_| !tls.alpn.is_empty()).map(|value| ("alpn", value.place()));
    for (key, place) in files.chain(name).chain(alpn) {
        let problem =
            Problem::error(&place, table.path(key), "the URL has no TLS, so this would have no effect");
        table.report(problem.hint(format!("use {}://, or remove this key", peer.safe)));
    }
}

/// An empty one is none.
fn server_name(table: &mut Table<'_>) -> Option<Spot<String>> {
    let value = table.get("server_name")?;
    if value.raw().as_str() == Some("") { None } else { value.text() }
}
