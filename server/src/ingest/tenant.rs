//! Who sends: a header, the certificate of the client, or the default.

use engine::shard::ingest::check_tenant;
use http::HeaderMap;

use crate::edge::certificate::{ClientCertificate, SubjectField};

/// The header of Thanos' own components.
const THANOS_TENANT: &str = "THANOS-TENANT";

/// How the tenant of a request is found.
#[derive(Clone, Debug)]
pub struct Tenancy {
    /// The header that names it.
    pub header: String,
    /// The tenant of requests that name none.
    pub default: String,
    /// The field of the client's certificate that names it; none: the header does.
    pub field: Option<SubjectField>,
}

impl Tenancy {
    /// The tenant of a request; the error is a sentence for its sender.
    pub fn tenant(&self, headers: &HeaderMap, certificate: Option<&ClientCertificate>) -> Result<String, String> {
        let tenant = match self.field {
            Some(field) => certificate
                .and_then(|certificate| certificate.subject(field))
                .ok_or_else(|| format!("could not get {} field from client cert", field.name()))?,
            None => self.named_by_header(headers)?,
        };
        check(&tenant)?;
        Ok(tenant)
    }

    fn named_by_header(&self, headers: &HeaderMap) -> Result<String, String> {
        for name in [self.header.as_str(), THANOS_TENANT] {
            if let Some(value) = headers.get(name).filter(|value| !value.is_empty()) {
                let name = std::str::from_utf8(value.as_bytes());
                return name.map(str::to_owned).map_err(|_| "tenant name not valid".into());
            }
        }
        Ok(self.default.clone())
    }
}

/// Whether a tenant can have a folder. The error is Thanos' sentence.
pub fn check(tenant: &str) -> Result<(), String> {
    check_tenant(tenant).map_err(|_| "tenant name not valid".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_given_header_wins_over_thanos_own_and_the_default() {
        let tenancy = Tenancy { header: "X-Team".into(), default: "all".into(), field: None };
        let mut headers = HeaderMap::new();
        assert_eq!(tenancy.tenant(&headers, None), Ok("all".into()));
        headers.insert("thanos-tenant", "b".parse().unwrap());
        assert_eq!(tenancy.tenant(&headers, None), Ok("b".into()));
        headers.insert("x-team", "a".parse().unwrap());
        assert_eq!(tenancy.tenant(&headers, None), Ok("a".into()));
        headers.insert("x-team", http::HeaderValue::from_bytes("grün".as_bytes()).unwrap());
        assert_eq!(tenancy.tenant(&headers, None), Ok("grün".into()));
        let by_certificate = Tenancy { field: Some(SubjectField::CommonName), ..tenancy };
        assert!(by_certificate.tenant(&headers, None).unwrap_err().contains("commonName"));
    }

    #[test]
    fn names_of_several_folders_are_no_tenants() {
        for bad in ["", "a/b", "../x", "a\0"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["..", ".", ".uru", "lost+found", "team a-1_ä"] {
            assert!(check(good).is_ok(), "{good:?}");
        }
    }
}
