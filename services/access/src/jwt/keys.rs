//! Keys of tokens: from a file, or those that a server publishes.

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Map, Value};
use session_core::Time;

use crate::{Jwks, KeySet, Work};

/// A secret that is shorter can be guessed (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Keys, and the algorithms that they are used with. Others are refused, whatever a token says of itself.
#[derive(Debug)]
pub struct JwtKeys {
    /// Such as `RS256`; `none` is no algorithm.
    pub algorithms: Vec<String>,
    /// The keys.
    pub keys: Usable,
}

/// Where keys come from.
pub enum Usable {
    /// A public key (PEM), or the bytes of a secret for HS256, HS384 and HS512.
    Key(Vec<u8>),
    /// Keys that a server publishes.
    Published(Box<Jwks<JwtKeySet>>),
}

impl fmt::Debug for Usable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("***"),
            Self::Published(jwks) => jwks.fmt(f),
        }
    }
}

/// A JWKS document.
#[derive(Debug)]
pub struct JwtKeySet(JwkSet);

impl KeySet for JwtKeySet {
    fn parse(document: &str) -> Result<Self, String> {
        // What keys of other kinds there are does no harm; what is no document at all does.
        let document: Value = serde_json::from_str(document).map_err(|_| "it is no JSON")?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
        let keys = keys.iter().filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let keys: Vec<Jwk> = keys.collect();
        match keys.is_empty() {
            true => Err("it has no key that can be used".to_owned()),
            false => Ok(Self(JwkSet { keys })),
        }
    }

    fn has(&self, kid: &str) -> bool {
        self.0.find(kid).is_some()
    }
}

/// Why a token is not verified.
pub(super) enum Unverified {
    /// By its own fault.
    Token(String),
    /// Because keys are missing.
    Keys(String),
}

pub(super) enum KeySource {
    Key { algorithms: Vec<Algorithm>, key: Box<DecodingKey> },
    Published { algorithms: Vec<Algorithm>, jwks: Box<Jwks<JwtKeySet>> },
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys")
    }
}

impl KeySource {
    pub(super) fn new(keys: JwtKeys) -> Result<Self, String> {
        let algorithms = parse_algorithms(&keys.algorithms)?;
        match keys.keys {
            Usable::Published(_) if algorithms.iter().any(|one| is_secret(*one)) => {
                Err("what a server publishes is no secret: HS algorithms need a file".to_owned())
            }
            Usable::Published(jwks) => Ok(Self::Published { algorithms, jwks }),
            Usable::Key(bytes) => {
                let key = Box::new(decoding_key(&algorithms, &bytes)?);
                Ok(Self::Key { algorithms, key })
            }
        }
    }

    pub(super) const fn work(&self) -> Work {
        match self {
            Self::Key { .. } => Work::Compute,
            Self::Published { .. } => Work::Wait,
        }
    }

    /// Takes over what another one has fetched.
    pub(super) fn succeed(&self, older: &Self) {
        if let (Self::Published { jwks, .. }, Self::Published { jwks: older, .. }) = (self, older) {
            jwks.succeed(older);
        }
    }

    /// The claims of a token that one of the keys has signed. Whether they hold is another question.
    pub(super) fn verified(
        &self,
        now: Time,
        token: &str,
    ) -> Result<Map<String, Value>, Unverified> {
        let header = decode_header(token)
            .map_err(|_| Unverified::Token("the header of its token cannot be read".into()))?;
        let (Self::Key { algorithms, .. } | Self::Published { algorithms, .. }) = self;
        if !algorithms.contains(&header.alg) {
            let why = format!("its token is signed by {:?}, which is not allowed here", header.alg);
            return Err(Unverified::Token(why));
        }
        match self {
            Self::Key { key, .. } => verify(token, header.alg, key),
            Self::Published { jwks, .. } => {
                let kid = header.kid.as_deref();
                let set = jwks.keys(now, kid).map_err(Unverified::Keys)?;
                let key = find(&set.0, kid, header.alg)
                    .ok_or_else(|| Unverified::Token("nobody knows the key of its token".into()))?;
                verify(token, header.alg, &key)
            }
        }
    }
}

fn verify(
    token: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
) -> Result<Map<String, Value>, Unverified> {
    let mut validation = Validation::new(algorithm);
    // Claims are looked at elsewhere, by the broker's own time.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let verified = decode::<Map<String, Value>>(token, key, &validation);
    verified
        .map(|data| data.claims)
        .map_err(|_| Unverified::Token("its token is not signed by a key that is known".into()))
}

/// The key of this name that fits the algorithm; of a document with one key, this one.
fn find(set: &JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let key = match (kid, &*set.keys) {
        (Some(kid), _) => set.find(kid)?,
        (None, [only]) => only,
        (None, _) => return None,
    };
    let said = key.common.key_algorithm.map(|said| said.to_string());
    if said.is_some_and(|said| said != format!("{algorithm:?}")) {
        return None;
    }
    DecodingKey::from_jwk(key).ok()
}

fn parse_algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    let parse = |name: &String| {
        name.parse::<Algorithm>().map_err(|_| {
            format!("`{name}` is no algorithm; write HS256, RS256, PS256, ES256, EdDSA or another of them")
        })
    };
    let algorithms = names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if algorithms.is_empty() {
        return Err("`algorithms` is empty: which are tokens signed by?".to_owned());
    }
    Ok(algorithms)
}

const fn is_secret(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

fn decoding_key(algorithms: &[Algorithm], bytes: &[u8]) -> Result<DecodingKey, String> {
    use Algorithm::{ES256, ES384, EdDSA};
    let is_pem = bytes.starts_with(b"-----BEGIN");
    if algorithms.iter().all(|one| is_secret(*one)) {
        // A public key as a secret would be known to everybody.
        if is_pem {
            return Err("the file holds a PEM, and HS algorithms need a secret".to_owned());
        }
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(format!("the secret has less than {SECRET_BYTES_MIN} bytes"));
        }
        return Ok(DecodingKey::from_secret(bytes));
    }
    if !is_pem {
        return Err("the file holds no public key (PEM)".to_owned());
    }
    let is_ec = algorithms.iter().all(|one| matches!(one, ES256 | ES384));
    let key = if is_ec {
        DecodingKey::from_ec_pem(bytes)
    } else if algorithms.iter().all(|one| *one == EdDSA) {
        DecodingKey::from_ed_pem(bytes)
    } else if algorithms.iter().all(|one| !is_secret(*one) && !matches!(one, ES256 | ES384 | EdDSA))
    {
        DecodingKey::from_rsa_pem(bytes)
    } else {
        return Err("one key cannot be used with all of these `algorithms`".to_owned());
    };
    key.map_err(|_| "the file holds no public key for these `algorithms`".to_owned())
}

/// Whether a text has the form of a token: a password that does is meant as one.
pub(super) fn is_token(text: &str) -> bool {
    let mut parts = 0;
    let is_base64 = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    for part in text.split('.') {
        parts += 1;
        if !is_base64(part) {
            return false;
        }
    }
    parts == 3 && text.starts_with("ey")
}
