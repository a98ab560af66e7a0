//! The name in a client's certificate.

use session_core::Origin;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The Common Name of the client's verified certificate. What a proxy tells counts only if no certificate came
/// as far as this: else the proxy's word would go before the broker's own eyes.
pub(crate) fn common_name(origin: &Origin) -> Option<Box<str>> {
    let Some(der) = origin.certificates.first() else {
        return origin.proxied.as_ref()?.common_name.clone();
    };
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    names.next()?.as_str().ok().map(Into::into)
}
