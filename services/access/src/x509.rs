//! Identity from a verified chain of certificates.

use codec::ReasonCode;
use regex::Regex;
use session_core::{Origin, Time};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::{Attempt, Identity, Provider, Verdict, Work};

/// Which of a certificate's names is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// The Common Name of its subject.
    #[default]
    CommonName,
    /// A DNS name, e-mail address or URI of its Subject Alternative Names.
    AlternativeName,
}

/// How a certificate becomes an identity.
#[derive(Clone, Debug, Default)]
pub struct X509Config {
    /// Which name is looked at.
    pub name: CertificateName,
    /// Which certificates of the chain are looked at: 0 is the client's own; absent: each, in this order.
    pub depth: Option<usize>,
    /// The whole name has to fit; its group `user`, or else the whole, is the user. Absent: any name.
    pub pattern: Option<Regex>,
    /// The Client Identifier has to be the user.
    pub client_id_is_user: bool,
    /// The Common Name that a trusted proxy has verified counts as one of the client's own certificate.
    pub trust_proxy: bool,
    /// A client without a certificate that fits is refused, and no other provider is asked.
    pub required: bool,
}

/// The regular expression for [`X509Config::pattern`].
///
/// # Errors
/// The text is none, in words.
pub fn name_pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text)
        .map_err(|error| format!("`{text}` is no regular expression: {error}").replace('\n', " "))
}

/// Lets in who has shown a certificate.
#[derive(Clone, Debug)]
pub struct X509Provider {
    name: Box<str>,
    config: X509Config,
}

impl X509Provider {
    /// A provider of this name.
    pub fn new(name: &str, config: X509Config) -> Self {
        Self { name: name.into(), config }
    }

    /// The user that a name stands for.
    fn user<'n>(&self, name: &'n str) -> Option<&'n str> {
        // CR, LF or NUL would mean something else where the name is written.
        if name.is_empty() || name.contains(char::is_control) {
            return None;
        }
        let Some(pattern) = &self.config.pattern else { return Some(name) };
        let found = pattern.captures(name)?;
        let whole = found.get(0).filter(|whole| whole.len() == name.len())?;
        Some(found.name("user").unwrap_or(whole).as_str()).filter(|user| !user.is_empty())
    }

    fn find(&self, origin: &Origin) -> Option<String> {
        let chain = origin.certificates.iter().enumerate();
        let wanted = chain.filter(|(at, _)| self.config.depth.is_none_or(|depth| depth == *at));
        let mut names = wanted.flat_map(|(_, der)| names(der, self.config.name));
        let of_certificate = names.find_map(|name| self.user(&name).map(str::to_owned));
        of_certificate.or_else(|| {
            let proxied = origin.proxied.as_ref().filter(|_| self.config.trust_proxy)?;
            self.user(proxied.common_name.as_deref()?).map(str::to_owned)
        })
    }
}

impl Provider for X509Provider {
    fn name(&self) -> &str {
        &self.name
    }

    fn work(&self) -> Work {
        Work::None
    }

    fn begin(&self, _now: Time, attempt: &Attempt) -> Verdict {
        let refuse = |why: &str| {
            let (reason, why) = (ReasonCode::NotAuthorized, why.into());
            Verdict::Refuse { reason, why }
        };
        let Some(user) = self.find(&attempt.origin) else {
            let why = match attempt.origin.certificates.is_empty() {
                true => "no certificate",
                false => "no name of its certificates fits",
            };
            return if self.config.required {
                refuse(why)
            } else {
                Verdict::Skip { why: why.into() }
            };
        };
        if self.config.client_id_is_user && *attempt.client_id != *user {
            return refuse("its Client Identifier is not the name in its certificate");
        }
        Verdict::Accept(Box::new(Identity { user: Some(user.into()), ..Identity::default() }))
    }
}

/// The Common Name of whoever connects: of its own certificate, or as a trusted proxy has told it. A name with
/// control characters is none.
pub(crate) fn common_name(origin: &Origin) -> Option<Box<str>> {
    let own = origin
        .certificates
        .first()
        .and_then(|der| names(der, CertificateName::CommonName).into_iter().next());
    let proxied = || origin.proxied.as_ref()?.common_name.as_deref().map(str::to_owned);
    own.or_else(proxied).filter(|name| !name.contains(char::is_control)).map(Into::into)
}

/// All names of this kind. What cannot be read has none.
fn names(der: &[u8], kind: CertificateName) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    match kind {
        CertificateName::CommonName => {
            let names = certificate.subject().iter_common_name();
            names.filter_map(|name| name.as_str().ok().map(str::to_owned)).collect()
        }
        CertificateName::AlternativeName => {
            let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
            let text = |name: &GeneralName<'_>| match name {
                GeneralName::DNSName(name)
                | GeneralName::RFC822Name(name)
                | GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            };
            names.value.general_names.iter().filter_map(text).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use session_core::Proxied;

    use super::*;
    use crate::attempt::tests::attempt;

    fn certificate(common_name: &str, names: &[&str]) -> bytes::Bytes {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate.der().to_vec().into()
    }

    fn judged(config: X509Config, chain: &[bytes::Bytes]) -> Result<String, bool> {
        let mut attempt = attempt("alice");
        attempt.origin.certificates = chain.to_vec();
        of(config, &attempt)
    }

    /// The user, or whether it was refused and not skipped.
    fn of(config: X509Config, attempt: &Attempt) -> Result<String, bool> {
        match X509Provider::new("x509", config).begin(Time(0), attempt) {
            Verdict::Accept(identity) => Ok(identity.user.unwrap().into()),
            Verdict::Refuse { .. } => Err(true),
            _ => Err(false),
        }
    }

    #[test]
    fn the_common_name_is_the_user() {
        let chain = [certificate("alice", &["a.example"]), certificate("ca", &[])];
        assert_eq!(judged(X509Config::default(), &chain), Ok("alice".into()));
        assert_eq!(
            judged(X509Config { depth: Some(1), ..Default::default() }, &chain),
            Ok("ca".into())
        );
        assert_eq!(judged(X509Config { depth: Some(2), ..Default::default() }, &chain), Err(false));
        let name = CertificateName::AlternativeName;
        assert_eq!(
            judged(X509Config { name, ..Default::default() }, &chain),
            Ok("a.example".into())
        );
    }

    #[test]
    fn a_pattern_fits_the_whole_name_and_may_name_a_part() {
        let pattern =
            |text| X509Config { pattern: Some(Regex::new(text).unwrap()), ..Default::default() };
        let chain = [certificate("device-17", &[]), certificate("plant-3", &[])];
        assert_eq!(judged(pattern("device-(?P<user>[0-9]+)"), &chain), Ok("17".into()));
        assert_eq!(
            judged(pattern("plant-[0-9]"), &chain),
            Ok("plant-3".into()),
            "any of the chain"
        );
        assert_eq!(judged(pattern("device"), &chain), Err(false), "a part of a name");
        assert_eq!(judged(pattern("(?P<user>)device-17"), &chain), Err(false), "an empty user");
    }

    #[test]
    fn the_client_identifier_may_have_to_be_the_name() {
        let config = || X509Config { client_id_is_user: true, ..Default::default() };
        assert_eq!(judged(config(), &[certificate("alice", &[])]), Ok("alice".into()));
        assert_eq!(judged(config(), &[certificate("bob", &[])]), Err(true));
    }

    #[test]
    fn no_certificate_is_skipped_unless_one_is_required() {
        assert_eq!(judged(X509Config::default(), &[]), Err(false));
        assert_eq!(judged(X509Config { required: true, ..Default::default() }, &[]), Err(true));
        let rubbish = bytes::Bytes::from_static(b"rubbish");
        assert_eq!(judged(X509Config::default(), &[rubbish]), Err(false));
    }

    /// Line breaks in names went into the headers of requests (EMQX #17309).
    #[test]
    fn a_name_with_control_characters_is_no_name() {
        for name in ["a\r\nX: y", "a\0", "\u{7f}"] {
            assert_eq!(
                judged(X509Config::default(), &[certificate(name, &[])]),
                Err(false),
                "{name:?}"
            );
            let mut attempt = attempt("c");
            attempt.origin.certificates = vec![certificate(name, &[])];
            assert_eq!(common_name(&attempt.origin), None);
        }
    }

    #[test]
    fn a_proxy_is_believed_only_if_it_is_trusted() {
        let mut attempt = attempt("c");
        let common_name = Some("carol".into());
        attempt.origin.proxied = Some(Box::new(Proxied { common_name, ..Proxied::default() }));
        assert_eq!(of(X509Config::default(), &attempt), Err(false));
        let trusting = X509Config { trust_proxy: true, ..Default::default() };
        assert_eq!(of(trusting, &attempt), Ok("carol".into()));
    }
}
