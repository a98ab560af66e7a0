//! The messages of an exchange (RFC 5802, section 7).

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use subtle::ConstantTimeEq as _;

use super::file::Credentials;

/// The longest message; names and nonces of clients are much shorter.
const MESSAGE_MAX: usize = 4096;

/// The client's first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct First {
    /// `n,,` or the like: repeated in the proof.
    header: String,
    /// What the proof is over.
    bare: String,
    pub(super) user: String,
    nonce: String,
}

impl First {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = text(bytes)?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("its first message has not all parts");
        };
        match flag {
            "n" | "y" => {}
            // There is no channel that both sides could name here.
            flag if flag.starts_with("p=") => return Err("it wants channel binding"),
            _ => return Err("its first message begins otherwise"),
        }
        // To act for somebody else is nobody's right.
        if !authzid.is_empty() {
            return Err("it wants to be somebody else");
        }
        let mut attributes = bare.split(',');
        let name = attributes.next().and_then(|name| name.strip_prefix("n="));
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let (Some(name), Some(nonce)) = (name, nonce.filter(|nonce| is_printable(nonce))) else {
            // `m=` would be an extension that we do not know.
            return Err("its first message has no name and nonce");
        };
        let user = unescaped(name).ok_or("its name is not written as it should be")?;
        if user.is_empty() || user.contains(char::is_control) {
            return Err("its name is no name");
        }
        Ok(Self {
            header: format!("{flag},,"),
            bare: bare.to_owned(),
            user,
            nonce: nonce.to_owned(),
        })
    }
}

/// What is remembered until the proof comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) user: String,
    header: String,
    nonce: String,
    bare: String,
    challenge: String,
}

impl State {
    pub(super) fn encode(&self) -> String {
        // A name may hold anything but control characters.
        [&*self.user, &self.header, &self.nonce, &self.bare, &self.challenge].join("\n")
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('\n').map(str::to_owned);
        let state = Self {
            user: parts.next()?,
            header: parts.next()?,
            nonce: parts.next()?,
            bare: parts.next()?,
            challenge: parts.next()?,
        };
        parts.next().is_none().then_some(state)
    }
}

/// The server's first message.
pub(super) fn challenge(first: &First, of: &Credentials, nonce: &[u8]) -> (String, State) {
    let nonce = format!("{}{}", first.nonce, BASE64.encode(nonce));
    let message = format!("r={nonce},s={},i={}", BASE64.encode(&of.salt), of.rounds);
    let state = State {
        user: first.user.clone(),
        header: first.header.clone(),
        nonce,
        bare: first.bare.clone(),
        challenge: message.clone(),
    };
    (message, state)
}

/// Judges the client's proof; the server's own, if it is right.
pub(super) fn judge(state: &State, of: &Credentials, bytes: &[u8]) -> Result<String, &'static str> {
    let text = text(bytes)?;
    let (without_proof, proof) = text.rsplit_once(",p=").ok_or("its proof is missing")?;
    let mut attributes = without_proof.split(',');
    let header = attributes.next().and_then(|header| header.strip_prefix("c="));
    if header != Some(&*BASE64.encode(&state.header)) {
        return Err("its proof is of another beginning");
    }
    let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
    if nonce != Some(&*state.nonce) {
        return Err("its proof is of another exchange");
    }
    let proof = BASE64.decode(proof).map_err(|_| "its proof is no Base64")?;
    let over = format!("{},{},{without_proof}", state.bare, state.challenge);
    let signature = of.digest.hmac(&of.stored_key, over.as_bytes());
    if proof.len() != signature.len() {
        return Err("its proof has another length");
    }
    let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    if !bool::from(of.digest.hash(&client_key).ct_eq(&of.stored_key)) {
        return Err("wrong password");
    }
    Ok(format!("v={}", BASE64.encode(of.digest.hmac(&of.server_key, over.as_bytes()))))
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    if bytes.len() > MESSAGE_MAX {
        return Err("its message is too long");
    }
    std::str::from_utf8(bytes).map_err(|_| "its message is no text")
}

/// Printable ASCII without a comma.
fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b',')
}

/// A name with `=2C` for a comma and `=3D` for an equals sign.
fn unescaped(name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = name;
    while let Some((before, behind)) = rest.split_once('=') {
        out.push_str(before);
        let (code, behind) = behind.split_at_checked(2)?;
        out.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = behind;
    }
    out.push_str(rest);
    Some(super::file::prepared(&out))
}
