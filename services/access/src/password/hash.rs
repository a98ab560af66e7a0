//! Hashes of passwords: those that mosquitto has written, and Argon2id, which is written here.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

/// What a line may ask for at most, so that none can take the machine: kibibytes, passes, lanes.
const ARGON2_MAX: (u32, u32, u32) = (256 * 1024, 64, 16);
/// The most rounds of PBKDF2.
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;
/// What is written: 19 MiB, two passes, one lane (OWASP, Password Storage Cheat Sheet).
const ARGON2_WRITTEN: (u32, u32, u32) = (19 * 1024, 2, 1);
const SALT_BYTES: usize = 16;
const ARGON2_BYTES: usize = 32;

/// Base64 with or without `=`: both forms are in use.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Hash {
    /// `$7$rounds$salt$hash`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 { rounds: u32, salt: Vec<u8>, hash: Vec<u8> },
    /// `$6$salt$hash`: SHA-512 of password and salt.
    Sha512 { salt: Vec<u8>, hash: Vec<u8> },
    /// `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    Argon2id { params: (u32, u32, u32), salt: Vec<u8>, hash: Vec<u8> },
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pbkdf2 { .. } => "$7$***",
            Self::Sha512 { .. } => "$6$***",
            Self::Argon2id { .. } => "$argon2id$***",
        })
    }
}

impl Hash {
    /// Reads a hash.
    ///
    /// # Errors
    /// It is none, or asks for more work than it may; the text does not hold it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('$').collect();
        let hash = match *parts {
            ["", "7", rounds, salt, hash] => {
                let rounds = rounds.parse().ok().filter(|r| (1..=PBKDF2_ROUNDS_MAX).contains(r));
                let rounds =
                    rounds.ok_or(format!("its rounds must be 1 to {PBKDF2_ROUNDS_MAX}"))?;
                Self::Pbkdf2 { rounds, salt: decode(salt)?, hash: decode(hash)? }
            }
            ["", "6", salt, hash] => Self::Sha512 { salt: decode(salt)?, hash: decode(hash)? },
            ["", "argon2id", "v=19", params, salt, hash] => {
                let params = parse_params(params)?;
                Self::Argon2id { params, salt: decode(salt)?, hash: decode(hash)? }
            }
            _ => return Err("write $7$…, $6$… or $argon2id$v=19$…".to_owned()),
        };
        let (salt, bytes) = hash.parts();
        // An empty hash would be equal to every other one.
        if bytes.len() < 16 || salt.len() < 8 || bytes.len() > 128 || salt.len() > 128 {
            return Err("its salt or hash is too short or too long".to_owned());
        }
        Ok(hash)
    }

    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new(password: &[u8]) -> Result<Self, String> {
        let mut salt = vec![0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| format!("no random numbers: {error}"))?;
        let hash = argon2id(password, &salt, ARGON2_WRITTEN, ARGON2_BYTES)
            .ok_or("the password cannot be hashed")?;
        Ok(Self::Argon2id { params: ARGON2_WRITTEN, salt, hash })
    }

    /// A hash that no password has: verifying against it takes as long as against one of a user who exists.
    pub(crate) fn of_nobody() -> Self {
        let (salt, hash) = (vec![0; SALT_BYTES], vec![0; ARGON2_BYTES]);
        Self::Argon2id { params: ARGON2_WRITTEN, salt, hash }
    }

    /// Whether this is the hash of a password. Takes milliseconds, by intention.
    pub(crate) fn is_of(&self, password: &[u8]) -> bool {
        let (_, hash) = self.parts();
        let found = match self {
            Self::Pbkdf2 { rounds, salt, hash } => {
                let mut out = vec![0; hash.len()];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *rounds, &mut out);
                Some(out)
            }
            Self::Sha512 { salt, .. } => {
                let digest = Sha512::new().chain_update(password).chain_update(salt).finalize();
                Some(digest.to_vec())
            }
            Self::Argon2id { params, salt, hash } => argon2id(password, salt, *params, hash.len()),
        };
        found.is_some_and(|found| bool::from(found.as_slice().ct_eq(hash)))
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        match self {
            Self::Pbkdf2 { salt, hash, .. }
            | Self::Sha512 { salt, hash }
            | Self::Argon2id { salt, hash, .. } => (salt, hash),
        }
    }

    /// The form in which it stands in a file.
    pub(crate) fn text(&self) -> String {
        let (salt, hash) = self.parts();
        let (salt, hash) = (BASE64.encode(salt), BASE64.encode(hash));
        match self {
            Self::Pbkdf2 { rounds, .. } => format!("$7${rounds}${salt}${hash}"),
            Self::Sha512 { .. } => format!("$6${salt}${hash}"),
            Self::Argon2id { params: (memory, passes, lanes), .. } => {
                format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
            }
        }
    }
}

fn argon2id(
    password: &[u8],
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
    bytes: usize,
) -> Option<Vec<u8>> {
    let params = Params::new(memory, passes, lanes, Some(bytes)).ok()?;
    let mut out = vec![0; bytes];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, salt, &mut out).ok()?;
    Some(out)
}

fn parse_params(text: &str) -> Result<(u32, u32, u32), String> {
    let mut values = [None; 3];
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or("its parameters must be m=…,t=…,p=…")?;
        let place = ["m", "t", "p"].iter().position(|known| *known == name);
        let place = place.and_then(|place| values.get_mut(place));
        *place.ok_or("its parameters must be m=…,t=…,p=…")? = value.parse::<u32>().ok();
    }
    let (memory_max, passes_max, lanes_max) = ARGON2_MAX;
    match values {
        [Some(memory), Some(passes), Some(lanes)]
            if (8..=memory_max).contains(&memory)
                && (1..=passes_max).contains(&passes)
                && (1..=lanes_max).contains(&lanes)
                && memory >= 8 * lanes =>
        {
            Ok((memory, passes, lanes))
        }
        _ => Err(format!(
            "its parameters must be m=8 to {memory_max}, t=1 to {passes_max}, p=1 to {lanes_max}"
        )),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|_| "its salt or hash is no Base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by mosquitto_passwd 2.0.11 of Debian for the password `secret`.
    const OF_MOSQUITTO: &[&str] = &[
        "$7$101$BbYUBYJ6N46vI5na$nNPYJ6kvFEYVn4D6qlhLQCN6kwVZCjGNd1zMshRgLDXiPZbexqKloCUixj0YES6in8Jgf12AoLumHUrjkKPrXw==",
        "$6$cwbMBtIvi0w+Owdc$205kwHgrOV6xOX38OeHqGX/DVm9g7I3mgIKs54krYodDCVG+7r5ZZGOJ0fIJOQpNsNp7dgZw1G83Y33WuVEXDA==",
    ];

    #[test]
    fn hashes_of_mosquitto_are_verified() {
        for text in OF_MOSQUITTO {
            let hash = Hash::parse(text).expect(text);
            assert!(hash.is_of(b"secret"), "{text}");
            for wrong in [&b""[..], b"Secret", b"secret ", b"secre"] {
                assert!(!hash.is_of(wrong), "{text}");
            }
        }
    }

    #[test]
    fn argon2id_of_another_program_is_verified() {
        // From the test vectors of the reference implementation (argon2 -id -t 2 -m 16 -p 1, "somesalt").
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$\
                    CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = Hash::parse(text).expect("valid");
        assert!(hash.is_of(b"password") && !hash.is_of(b"passwor"));
        assert_eq!(hash.text(), text);
    }

    #[test]
    fn what_is_written_is_read() {
        let hash = Hash::new("pä ss".as_bytes()).expect("random numbers");
        assert!(hash.text().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let read = Hash::parse(&hash.text()).expect("what is written");
        assert!(read == hash && read.is_of("pä ss".as_bytes()) && !read.is_of(b"pass"));
        assert!(Hash::new(b"x").unwrap().text() != Hash::new(b"x").unwrap().text(), "salted");
    }

    #[test]
    fn nobodys_hash_fits_no_password() {
        for password in [&b""[..], b"\0", &[0; 32]] {
            assert!(!Hash::of_nobody().is_of(password));
        }
    }

    /// CVE-2018-12551: a malformed line was a user without a password.
    #[test]
    fn a_malformed_hash_is_never_a_hash() {
        let wrong = [
            "",
            "$",
            "$6$$",
            "$7$101$$",
            "$6$c2FsdHNhbHQ$",
            "$7$0$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdHNhbHQ",
            "$7$99999999$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdHNhbHQ",
            "$7$1$c2FsdHNhbHRzYWx0$????",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=64,t=2$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2i$v=19$m=64,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "secret",
        ];
        for text in wrong {
            assert!(Hash::parse(text).is_err(), "{text}");
        }
    }
}
