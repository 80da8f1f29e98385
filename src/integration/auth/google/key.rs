//! The key file of a service account, and what is signed with it.

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::delivery::outcome::{Failure, Layer};

/// Where Google's own key files point.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// How long an assertion is good, in seconds; Google takes no more.
const ASSERTION_SECONDS: i64 = 3_600;

/// Next step for whatever is wrong with a key file.
const GET_A_KEY: &str = "make one in the Google Cloud console: IAM, Service accounts, Keys, Add key, JSON";

/// The part of a key file that is used. Google's have more members, which are passed over.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kid: &'a str,
}

/// RFC 7523, section 3.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

/// Why a file is no key file. Neither text holds a part of it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) why: String,
    pub(super) hint: &'static str,
}

/// A service account that can sign. Has no `Debug`: it holds the key.
pub(super) struct Account {
    email: String,
    key_id: String,
    pair: RsaKeyPair,
}

impl Account {
    /// Reads a key file; gives the token URI that stands in it as well.
    pub(super) fn parse(text: &str) -> Result<(Account, String), Refusal> {
        let refusal = |why: String| Refusal { why, hint: GET_A_KEY };
        // What serde says could quote the file.
        let file: KeyFile = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            refusal(format!(
                "this is no key file of a service account: it is not such JSON (line {line}, column {column})"
            ))
        })?;
        if file.kind.as_deref() != Some("service_account") {
            return Err(refusal(
                "this is no key file of a service account: its type is not \"service_account\"".to_owned(),
            ));
        }
        let need = |member: Option<String>, name: &str| {
            member
                .filter(|value| !value.is_empty())
                .ok_or_else(|| refusal(format!("this key file of a service account has no {name}")))
        };
        let email = need(file.client_email, "client_email")?;
        let pem = need(file.private_key, "private_key")?;
        let unusable = || {
            refusal(
                "the private_key in this key file can't sign: RSA of 2048 to 4096 bits is needed".to_owned(),
            )
        };
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable())?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| unusable())?;
        let account = Account { email, key_id: file.private_key_id.unwrap_or_default(), pair };
        Ok((account, file.token_uri.unwrap_or_else(|| TOKEN_URI.to_owned())))
    }

    /// Which of the account's keys it is.
    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// A signed request for a token of `scope` from `audience`, at `now` in seconds since 1970: a JSON Web Token, RS256
    /// (RFC 7515, RFC 7518 section 3.3).
    pub(super) fn assertion(&self, scope: &str, audience: &str, now: i64) -> Result<String, Failure> {
        let header = Header { alg: "RS256", typ: "JWT", kid: &self.key_id };
        let exp = now.saturating_add(ASSERTION_SECONDS);
        let claims = Claims { iss: &self.email, scope, aud: audience, iat: now, exp };
        let unsigned = |_| Failure::link(Layer::Http, "the request for a token can't be signed");
        let [header, claims] = [serde_json::to_vec(&header), serde_json::to_vec(&claims)];
        let (header, claims) = (header.map_err(|_| unsigned(()))?, claims.map_err(|_| unsigned(()))?);
        let mut token = format!("{}.{}", BASE64URL_NOPAD.encode(&header), BASE64URL_NOPAD.encode(&claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|_| unsigned(()))?;
        token.push('.');
        token.push_str(&BASE64URL_NOPAD.encode(&signature));
        Ok(token)
    }
}
