//! Fields of a certificate that the TLS library does not tell.
//!
//! ```text
//! Certificate  SEQ { tbs SEQ { [0] version?, serial, signature SEQ, issuer SEQ, validity SEQ, subject SEQ,
//!                              key SEQ, [1] issuer's id?, [2] subject's id?, [3] SEQ of extension? },
//!                    signature SEQ, bits }
//! key          SEQ { algorithm SEQ, bits }
//! validity     SEQ { time, time }
//! extension    SEQ { OID, critical?, octets }
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use time::{Date, Month, PrimitiveDateTime, Time};

/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;
/// The tag of a set.
pub const SET: u8 = 0x31;
/// The tag of an object identifier.
pub const OID: u8 = 0x06;

const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const OCTETS: u8 = 0x04;
const BITS: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// 2.5.29.15.
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x0f];
/// 2.5.29.17.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];
/// 2.5.29.19.
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
/// 2.5.29.30.
const NAME_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x1e];
/// 2.5.29.37.
const USAGES: [u8; 3] = [0x55, 0x1d, 0x25];

/// Of the first byte of a key's usages, the one that signs certificates.
const SIGNS_CERTIFICATES: u8 = 0x04;

/// The usage of servers' certificates, 1.3.6.1.5.5.7.3.1.
pub const SERVER_USAGE: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// The usage of clients' certificates, 1.3.6.1.5.5.7.3.2.
pub const CLIENT_USAGE: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// Names of the subject: mail, host, URI, address.
const MAIL: u8 = 0x81;
const HOST: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;

/// Parts of a certificate, as they are encoded.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// Whether it is of the first version, which has no extensions.
    pub is_version_one: bool,
    /// What is signed.
    pub signed: &'a [u8],
    /// What the sequence of the signature's algorithm holds.
    pub signature_algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
    /// What the sequence of the issuer holds.
    pub issuer: &'a [u8],
    validity: &'a [u8],
    /// What the sequence of the subject holds.
    pub subject: &'a [u8],
    /// The subject's key.
    pub key: &'a [u8],
    after_key: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The parts of a certificate; `None` when it is none.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (_, certificate, _) = element(der)?;
        let (SEQUENCE, mut rest, after) = element(certificate)? else { return None };
        let signed = before(certificate, after)?;
        let (SEQUENCE, signature_algorithm, after) = element(after)? else { return None };
        let signature = bits(after)?;
        let is_version_one = rest.first() != Some(&VERSION);
        if !is_version_one {
            rest = element(rest)?.2;
        }
        // The serial number.
        rest = element(rest)?.2;
        let (SEQUENCE, promised, rest) = element(rest)? else { return None };
        if promised != signature_algorithm {
            return None;
        }
        let (SEQUENCE, issuer, rest) = element(rest)? else { return None };
        let (SEQUENCE, validity, rest) = element(rest)? else { return None };
        let (SEQUENCE, subject, rest) = element(rest)? else { return None };
        let (SEQUENCE, _, after_key) = element(rest)? else { return None };
        let key = before(rest, after_key)?;
        Some(Self { is_version_one, signed, signature_algorithm, signature, issuer, validity, subject, key, after_key })
    }

    /// When the certificate begins and ends to hold, in Unix seconds.
    pub fn validity(&self) -> Option<(i64, i64)> {
        let (tag, begin, rest) = element(self.validity)?;
        let (end_tag, end, _) = element(rest)?;
        Some((seconds(tag, begin)?, seconds(end_tag, end)?))
    }

    /// The subject's alternative names, as Go writes them: hosts, mail addresses, IP addresses, URIs.
    pub fn alternative_names(&self) -> Vec<String> {
        self.extension(&ALTERNATIVE_NAMES).and_then(names).unwrap_or_default()
    }

    /// Whether it may sign others (`CA:TRUE`).
    pub fn is_authority(&self) -> bool {
        let constraints = self.extension(&BASIC_CONSTRAINTS).and_then(element);
        let first = constraints.filter(|(tag, ..)| *tag == SEQUENCE).and_then(|(_, content, _)| element(content));
        first.is_some_and(|(tag, content, _)| tag == BOOLEAN && content == [0xff])
    }

    /// Whether others that it has signed are good: it is of version 1, or may sign others and has a key for that.
    pub fn vouches(&self) -> bool {
        self.is_version_one || (self.is_authority() && self.has_key_for_certificates())
    }

    /// Whether its key is one for signing certificates: it lists that usage, or none.
    fn has_key_for_certificates(&self) -> bool {
        let Some(extension) = self.extension(&KEY_USAGE) else { return true };
        // The first byte of the content is the number of bits that the last one lacks.
        let Some((BITS, [_, usages @ ..], _)) = element(extension) else { return false };
        usages.iter().all(|byte| *byte == 0) || usages.first().is_some_and(|byte| byte & SIGNS_CERTIFICATES != 0)
    }

    /// Whether it limits the names of those that it signs.
    pub fn limits_names(&self) -> bool {
        self.extension(&NAME_CONSTRAINTS).is_some()
    }

    /// Whether it is for `usage`: it lists that, or lists none.
    pub fn is_for(&self, usage: &[u8]) -> bool {
        let Some(extension) = self.extension(&USAGES) else { return true };
        let Some((SEQUENCE, mut usages, _)) = element(extension) else { return false };
        while let Some((OID, found, after)) = element(usages) {
            if found == usage {
                return true;
            }
            usages = after;
        }
        false
    }

    /// What the sequence of the key's algorithm holds, and the key's bits.
    pub fn key_parts(&self) -> Option<(&'a [u8], &'a [u8])> {
        let (SEQUENCE, key, _) = element(self.key)? else { return None };
        let (SEQUENCE, algorithm, rest) = element(key)? else { return None };
        Some((algorithm, bits(rest)?))
    }

    fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.after_key;
        let extensions = loop {
            let (tag, content, after) = element(rest)?;
            if tag == EXTENSIONS {
                break content;
            }
            rest = after;
        };
        let (SEQUENCE, mut extensions, _) = element(extensions)? else { return None };
        while let Some((SEQUENCE, extension, after)) = element(extensions) {
            let (OID, found, mut value) = element(extension)? else { return None };
            if found == oid {
                // Whether the extension is critical may stand before its value.
                while let Some((tag, content, after)) = element(value) {
                    if tag == OCTETS {
                        return Some(content);
                    }
                    value = after;
                }
            }
            extensions = after;
        }
        None
    }
}

/// The tag and content of the first element of `der`, and what follows it.
pub fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// What `der` holds before `rest`, which is its end.
fn before<'a>(der: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
    der.get(..der.len().checked_sub(rest.len())?)
}

/// The bytes of the bits that `der` starts with; they end with a whole one.
fn bits(der: &[u8]) -> Option<&[u8]> {
    let (BITS, bits, _) = element(der)? else { return None };
    bits.strip_prefix(&[0])
}

fn names(extension: &[u8]) -> Option<Vec<String>> {
    let (SEQUENCE, mut rest, _) = element(extension)? else { return None };
    let mut found = Vec::new();
    while let Some((tag, content, after)) = element(rest) {
        let text = || std::str::from_utf8(content).ok().map(str::to_owned);
        found.extend(match tag {
            MAIL | HOST | URI => text(),
            ADDRESS => address(content),
            _ => None,
        });
        rest = after;
    }
    Some(found)
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
}

/// A time such as `261123073000Z`, or with four digits of the year.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let number = |from: usize, len: usize| text.get(from..from + len)?.parse::<u8>().ok();
    let (year, at) = match tag {
        UTC_TIME => (i32::from(number(0, 2)?), 2),
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, 4),
        _ => return None,
    };
    let year = match (tag, year) {
        (UTC_TIME, 50..) => 1900 + year,
        (UTC_TIME, _) => 2000 + year,
        _ => year,
    };
    let date = Date::from_calendar_date(year, Month::try_from(number(at, 2)?).ok()?, number(at + 2, 2)?).ok()?;
    let time = Time::from_hms(number(at + 4, 2)?, number(at + 6, 2)?, number(at + 8, 2)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names_are_found_and_damage_is_no_panic() {
        let names = ["host.example", "10.1.2.3", "::1"].map(str::to_owned).to_vec();
        let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
        params.not_before = rcgen::date_time_ymd(1980, 2, 3);
        params.not_after = rcgen::date_time_ymd(2060, 4, 5);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let fields = Fields::parse(certificate.der()).unwrap();
        assert_eq!(fields.alternative_names(), names);
        assert_eq!(fields.validity(), Some((318_384_000, 2_848_348_800)));
        assert!(!fields.is_version_one && fields.issuer == fields.subject && fields.key_parts().is_some());
        for at in 0..certificate.der().len() {
            let mut damaged = certificate.der().to_vec();
            damaged[at] ^= 0xff;
            for der in [&damaged[..], &certificate.der()[..at]] {
                let _ = Fields::parse(der).map(|fields| (fields.validity(), fields.alternative_names()));
            }
        }
    }
}
