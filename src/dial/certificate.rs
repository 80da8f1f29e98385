//! What a certificate says of itself, as far as a person has to know it: who issued it, and until when it is good (RFC
//! 5280, section 4.1). Whether it can be trusted is for rustls to say; nothing is decided by what is read here.

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::printable::printable;

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Whose it is.
    pub(crate) subject: String,
    /// Who signed it.
    pub(crate) issuer: String,
    /// Seconds since 1970 at which it ends.
    pub(crate) not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Attributes that people know a CA by: common name, organization, unit.
const NAMES: [(&[u8], &str); 3] = [(&[0x55, 4, 3], "CN"), (&[0x55, 4, 10], "O"), (&[0x55, 4, 11], "OU")];

impl Certificate {
    /// Reads DER; `None` if it is no certificate.
    pub(crate) fn read(der: &[u8]) -> Option<Certificate> {
        let mut to_be_signed = Der(Der(der).take(SEQUENCE)?).take(SEQUENCE).map(Der)?;
        if to_be_signed.tag() == Some(VERSION) {
            to_be_signed.any()?;
        }
        // Serial number and algorithm.
        to_be_signed.any()?;
        to_be_signed.take(SEQUENCE)?;
        let issuer = name(to_be_signed.take(SEQUENCE)?);
        let mut validity = Der(to_be_signed.take(SEQUENCE)?);
        validity.any()?;
        let (tag, not_after) = validity.any()?;
        let subject = name(to_be_signed.take(SEQUENCE)?);
        Some(Certificate { subject, issuer, not_after: seconds(tag, not_after)? })
    }
}

/// `CN=…, O=…`: foreign text, fit to be shown.
fn name(der: &[u8]) -> String {
    let mut sets = Der(der);
    let mut parts = Vec::new();
    while let Some(set) = sets.take(SET) {
        let Some(mut attribute) = Der(set).take(SEQUENCE).map(Der) else { continue };
        let (Some(id), Some((_, value))) = (attribute.take(OBJECT_IDENTIFIER), attribute.any()) else {
            continue;
        };
        if let Some((_, label)) = NAMES.iter().find(|(known, _)| *known == id) {
            parts.push(format!("{label}={}", printable(&String::from_utf8_lossy(value))));
        }
    }
    if parts.is_empty() { "a CA without a name".to_owned() } else { parts.join(", ") }
}

fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year][month][day][hour][minute][second]Z");
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        GENERALIZED_TIME => text.to_owned(),
        // Two digits of the year: 1950 to 2049 (section 4.1.2.5.1).
        UTC_TIME if text.get(..2)?.parse::<u8>().ok()? < 50 => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        _ => return None,
    };
    Some(PrimitiveDateTime::parse(&text, FORMAT).ok()?.assume_utc().unix_timestamp())
}

/// What is left to be read.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.tag()? == tag { self.any().map(|(_, content)| content) } else { None }
    }

    /// The next element: tag and content.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Longer than 16 MiB is no certificate.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn made() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "farm \u{1b}[31mroot");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme");
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn issuer_and_end_are_read() {
        let read = Certificate::read(&made()).unwrap();
        assert_eq!((read.issuer.as_str(), read.not_after), ("CN=farm root, O=Acme", 1_935_792_000));
        assert_eq!(read.subject, read.issuer);
    }

    #[test]
    fn no_bytes_panic() {
        let whole = made();
        for len in 0..whole.len() {
            assert_eq!(Certificate::read(whole.get(..len).unwrap()), None, "{len}");
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            if let Some(byte) = broken.get_mut(at) {
                *byte ^= 0xff;
            }
            let _ = Certificate::read(&broken);
        }
    }
}
