//! Certificates made for one test. Shared with the tests that run the real binary (`tests/integrations`).

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority of the test's own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
pub(crate) struct Leaf {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, &KeyPair::generate().unwrap())
    }

    /// For this key. The name is the common name, too.
    pub(crate) fn leaf_with(&self, name: &str, key: &KeyPair) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        self.leaf_of(params, key)
    }

    /// Valid from the first of January of `from` to that of `to`.
    pub(crate) fn leaf_between(&self, name: &str, from: i32, to: i32) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        self.leaf_of(params, &KeyPair::generate().unwrap())
    }

    fn leaf_of(&self, params: CertificateParams, key: &KeyPair) -> Leaf {
        let cert = params.signed_by(key, &self.0).unwrap();
        Leaf { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Leaf {
    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = vec![CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()];
        (chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }
}

/// Makes an RSA key of so many bits with OpenSSL, in PKCS#8.
pub(crate) fn rsa_key(folder: &Path, bits: u32) -> String {
    let path = folder.join("key.pem");
    let size = format!("rsa_keygen_bits:{bits}");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", &size, "-out"])
        .arg(&path)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    std::fs::read_to_string(path).unwrap()
}
