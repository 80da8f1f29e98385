//! The TLS settings of one integration, kept up to date with its files.
//!
//! A [`TlsSource`] is asked for the current `ClientConfig` at every connect. It looks at the files (a `stat` each), and
//! builds a new config only if one of them changed; otherwise it hands out the same `Arc`, because the session tickets
//! that make a reconnect cheap live in it. A file that can't be used any more leaves the old config in place and is
//! reported once for each change (RULES S26): half-written files and a certificate that arrives before its key are
//! the normal course of a renewal.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{self, Place, Problem, Severity, Spot};

/// More than any bundle of CAs a distribution ships (about 230 KiB).
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Sessions kept for resumption. An integration talks to one server, of which rustls keeps up to 8 tickets.
const RESUMABLE_SESSIONS: usize = 16;

/// Hands out the current TLS config of an integration. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct TlsSource(Arc<Source>);

#[derive(Debug)]
struct Source {
    recipe: Recipe,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ClientConfig>,
    /// How the files looked just before they were last read.
    seen: Seen,
}

/// What a config is made from.
#[derive(Debug)]
struct Recipe {
    key: String,
    settings: config::Tls,
    /// `None`: `settings.ca` has them.
    system_roots: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
}

impl TlsSource {
    pub(super) fn try_new(
        key: &str,
        settings: &config::Tls,
        system_roots: Option<Arc<RootCertStore>>,
        provider: Arc<CryptoProvider>,
        time: Arc<dyn TimeProvider>,
    ) -> Result<TlsSource, Vec<Problem>> {
        let recipe = Recipe { key: key.to_owned(), settings: settings.clone(), system_roots, provider, time };
        let seen = recipe.look();
        let config = Arc::new(recipe.build()?);
        Ok(TlsSource(Arc::new(Source { recipe, current: Mutex::new(Current { config, seen }) })))
    }

    /// The config for the next connection.
    pub fn current(&self) -> Arc<ClientConfig> {
        let recipe = &self.0.recipe;
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = recipe.look();
        if seen != current.seen {
            current.seen = seen;
            match recipe.build() {
                Ok(config) => {
                    log::info!("{}: certificate files changed; new connections use them", recipe.key);
                    current.config = Arc::new(config);
                }
                Err(problems) => {
                    for problem in problems {
                        log::warn!(
                            "certificate files changed and can't be used; the old ones stay: {problem}"
                        );
                    }
                }
            }
        }
        Arc::clone(&current.config)
    }
}

type Seen = [Option<Stamp>; 3];

/// What changes when a file is written, replaced or touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

impl Recipe {
    fn look(&self) -> Seen {
        [&self.settings.ca, &self.settings.cert, &self.settings.key]
            .map(|path| Some(Stamp::of(&std::fs::metadata(&path.as_ref()?.value).ok()?)))
    }

    fn build(&self) -> Result<ClientConfig, Vec<Problem>> {
        let mut problems = Vec::new();
        let roots = kept(self.roots(), &mut problems);
        let identity = kept(self.identity(), &mut problems);
        let protocols = kept(self.protocols(), &mut problems);
        match (roots, identity, protocols) {
            (Some(roots), Some(identity), Some(protocols)) => {
                self.assemble(roots, identity, protocols).map_err(|problem| vec![problem])
            }
            _ => Err(problems),
        }
    }

    fn assemble(
        &self,
        roots: Arc<RootCertStore>,
        identity: Option<Identity>,
        protocols: Vec<Vec<u8>>,
    ) -> Result<ClientConfig, Problem> {
        let builder = ClientConfig::builder_with_details(Arc::clone(&self.provider), Arc::clone(&self.time))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| self.problem(None, "", format!("TLS can't be set up: {error}")))?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key, place }) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| self.unusable_identity(&place, &error))?,
        };
        config.alpn_protocols = protocols;
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
        Ok(config)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, Problem> {
        let ca = match (&self.settings.ca, &self.system_roots) {
            (Some(ca), _) => ca,
            (None, Some(roots)) => return Ok(Arc::clone(roots)),
            (None, None) => return Err(self.problem(None, "ca", "there are no CA certificates".to_owned())),
        };
        let mut roots = RootCertStore::empty();
        for (n, certificate) in (1u32..).zip(self.certificates("ca", ca)?) {
            roots.add(certificate).map_err(|error| {
                let message = format!("certificate {n} in {} can't be used as a CA: {error}", ca.display());
                self.problem(Some(&ca.place), "ca", message)
            })?;
        }
        Ok(Arc::new(roots))
    }

    fn identity(&self) -> Result<Option<Identity>, Problem> {
        let (cert, key) = match (&self.settings.cert, &self.settings.key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(one), None) => return Err(self.half("cert", "key", one)),
            (None, Some(one)) => return Err(self.half("key", "cert", one)),
        };
        let chain = self.certificates("cert", cert)?;
        Ok(Some(Identity { chain, key: self.private_key(key)?, place: key.place.clone() }))
    }

    fn half(&self, given: &str, missing: &str, place: &Spot<std::path::PathBuf>) -> Problem {
        let message = format!("tls.{given} is set and tls.{missing} is not");
        self.problem(Some(&place.place), given, message)
            .hint("a client certificate needs both; without one, set neither")
    }

    fn protocols(&self) -> Result<Vec<Vec<u8>>, Problem> {
        let names = &self.settings.alpn;
        // RFC 7301, section 3.1: 1 to 255 bytes each.
        match names.iter().find(|name| name.is_empty() || name.len() > 255) {
            None => Ok(names.iter().map(|name| name.as_bytes().to_vec()).collect()),
            Some(_) => Err(self.problem(None, "alpn", "a protocol name has 1 to 255 bytes".to_owned())),
        }
    }

    /// All certificates of a PEM file; never none.
    fn certificates(
        &self,
        name: &str,
        path: &Spot<std::path::PathBuf>,
    ) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let problem = |message: String| self.problem(Some(&path.place), name, message);
        let bytes = read(path).map_err(problem)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            // DER begins with a SEQUENCE.
            Ok(_) if bytes.first() == Some(&0x30) => {
                Err(problem(format!("{} is in DER, not in PEM", path.display()))
                    .hint("convert it: openssl x509 -inform der -in FILE -out FILE.pem"))
            }
            Ok(_) => Err(problem(format!("{} holds no certificate", path.display()))
                .hint("it needs a section that begins with -----BEGIN CERTIFICATE-----")),
            Err(_) => Err(problem(format!("{} is damaged: its PEM can't be decoded", path.display()))),
        }
    }

    /// The first private key of a PEM file: PKCS#8, PKCS#1 or SEC1. Errors never quote the file.
    fn private_key(&self, path: &Spot<std::path::PathBuf>) -> Result<PrivateKeyDer<'static>, Problem> {
        let problem = |message: String| self.problem(Some(&path.place), "key", message);
        let bytes = read(path).map_err(problem)?;
        // "BEGIN ENCRYPTED PRIVATE KEY" (RFC 7468) and "Proc-Type: 4,ENCRYPTED" (RFC 1421).
        if bytes.windows(9).any(|window| window == b"ENCRYPTED") {
            return Err(problem(format!(
                "the key in {} is encrypted, which is not supported",
                path.display()
            ))
            .hint(
                "decrypt it and protect the file: openssl pkey -in FILE -out FILE.key; chmod 600 FILE.key",
            ));
        }
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
            problem(format!("{} holds no private key", path.display()))
                .hint("it needs a PEM section PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY")
        })
    }

    fn unusable_identity(&self, place: &Place, error: &rustls::Error) -> Problem {
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => self
                .problem(
                    Some(place),
                    "key",
                    "the key does not belong to the certificate in tls.cert".to_owned(),
                )
                .hint("the device's own certificate comes first in tls.cert, its CA after it"),
            other => {
                self.problem(Some(place), "key", format!("the client certificate can't be used: {other}"))
            }
        }
    }

    fn problem(&self, place: Option<&Place>, name: &str, message: String) -> Problem {
        let key = if name.is_empty() { self.key.clone() } else { format!("{}.{name}", self.key) };
        Problem { severity: Severity::Error, place: place.cloned(), key, message, hint: None }
    }
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Where the key's path stands.
    place: Place,
}

fn kept<T>(made: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    made.map_err(|problem| problems.push(problem)).ok()
}

/// A whole regular file of at most [`MAX_FILE_BYTES`]; the error is a sentence.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("{shown} can't be read: {error}");
    // Looked at before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(format!("{shown} is larger than 1 MiB"));
    }
    Ok(bytes)
}
