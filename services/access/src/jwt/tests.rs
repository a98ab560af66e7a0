use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};
use session_core::Subject;

use super::*;
use crate::{Fetch, FetchError, Fetched, Jwks, JwksConfig, Secret, attempt::tests::attempt};

const SECRET: &[u8] = b"a secret of at least 32 bytes, as it has to be";
const RSA: &[u8] = include_bytes!("test-rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("test-rsa.pub.pem");
/// Seconds.
const NOW: u64 = 1_800_000_000;

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET), claims)
}

fn provider(algorithm: &str, key: &[u8], config: ClaimsConfig) -> JwtProvider {
    let algorithms = vec![algorithm.to_owned()];
    let keys = JwtKeys { algorithms, keys: Usable::Key(key.to_vec()) };
    JwtProvider::new("jwt", keys, config).unwrap()
}

fn with_secret(config: ClaimsConfig) -> JwtProvider {
    provider("HS256", SECRET, config)
}

fn show(provider: &JwtProvider, token: &str) -> Verdict {
    let password = Some(Secret::new(token.as_bytes().to_vec()));
    let attempt = Attempt { user_name: Some("u".into()), password, ..attempt("c") };
    provider.begin(Time(NOW * 1000), &attempt)
}

fn accepted(verdict: Verdict) -> Identity {
    match verdict {
        Verdict::Accept(identity) => *identity,
        other => panic!("{other:?}"),
    }
}

/// Why it was refused.
fn refused(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Refuse { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn good() -> Value {
    json!({ "sub": "alice", "exp": NOW + 60 })
}

#[test]
fn tokens_of_every_algorithm_are_verified() {
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    for (algorithm, signing, public) in [
        (Algorithm::HS512, EncodingKey::from_secret(SECRET), SECRET.to_vec()),
        (Algorithm::RS256, rsa.clone(), RSA_PUBLIC.to_vec()),
        (Algorithm::PS384, rsa, RSA_PUBLIC.to_vec()),
        (
            Algorithm::ES256,
            EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap(),
            ec.public_key_pem().into(),
        ),
        (
            Algorithm::EdDSA,
            EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap(),
            ed.public_key_pem().into(),
        ),
    ] {
        let provider = provider(&format!("{algorithm:?}"), &public, ClaimsConfig::default());
        let token = sign(algorithm, &signing, &good());
        assert_eq!(
            accepted(show(&provider, &token)).user.as_deref(),
            Some("alice"),
            "{algorithm:?}"
        );
        // One other character anywhere, and it is another token.
        for at in [10, token.len() / 2, token.len() - 5] {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let verdict = show(&provider, &String::from_utf8(forged).unwrap());
            assert!(
                matches!(verdict, Verdict::Refuse { .. } | Verdict::Skip { .. }),
                "{algorithm:?} {at}"
            );
        }
    }
}

/// The public key as a secret of HS256, and no signature at all: what tokens say of themselves is not believed.
#[test]
fn the_algorithm_is_the_brokers_choice_and_not_the_tokens() {
    let provider = provider("RS256", RSA_PUBLIC, ClaimsConfig::default());
    let confused = sign(Algorithm::HS256, &EncodingKey::from_secret(RSA_PUBLIC), &good());
    assert!(refused(&show(&provider, &confused)).contains("signed by HS256"));
    let other = sign(Algorithm::PS256, &EncodingKey::from_rsa_pem(RSA).unwrap(), &good());
    assert!(refused(&show(&provider, &other)).contains("signed by PS256"));
    let base64 = |text: &str| {
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text)
    };
    let claims = good().to_string();
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"None","typ":"JWT"}"#, r#"{"typ":"JWT"}"#] {
        let unsigned = format!("{}.{}.", base64(header), base64(&claims));
        assert!(refused(&show(&provider, &unsigned)).contains("header"), "{header}");
    }
}

#[test]
fn keys_that_do_not_fit_their_algorithms_are_refused_at_the_start() {
    let ec = KeyPair::generate().unwrap().public_key_pem();
    let open = |algorithms: &[&str], key: &[u8]| {
        let algorithms = algorithms.iter().map(|name| (*name).to_owned()).collect();
        let keys = JwtKeys { algorithms, keys: Usable::Key(key.to_vec()) };
        JwtProvider::new("jwt", keys, ClaimsConfig::default()).map(drop).unwrap_err()
    };
    for (algorithms, key, expected) in [
        (&["HS256"][..], &b"short"[..], "less than 32 bytes"),
        (&["HS256"], RSA_PUBLIC, "need a secret"),
        (&["RS256"], SECRET, "no public key (PEM)"),
        (&["RS256"], ec.as_bytes(), "no public key for these"),
        (&["RS256", "HS256"], RSA_PUBLIC, "cannot be used with all"),
        (&["none"], SECRET, "`none` is no algorithm"),
        (&[], SECRET, "is empty"),
    ] {
        let error = open(algorithms, key);
        assert!(error.contains(expected), "{algorithms:?}: {error}");
    }
}

#[test]
fn a_token_holds_from_its_beginning_to_its_end() {
    let provider = with_secret(ClaimsConfig { leeway_s: 5, ..ClaimsConfig::default() });
    let with = |exp: Value, nbf: Value| {
        show(&provider, &hs256(&json!({ "sub": "a", "exp": exp, "nbf": nbf })))
    };
    let ends = accepted(with(json!(NOW + 1), json!(NOW))).expires;
    assert_eq!(ends, Some(Time((NOW + 6) * 1000)));
    assert_eq!(
        accepted(with(json!(NOW - 4), json!(NOW + 5))).expires,
        Some(Time((NOW + 1) * 1000))
    );
    assert!(refused(&with(json!(NOW - 5), json!(0))).contains("lapsed"));
    assert!(refused(&with(json!(NOW + 60), json!(NOW + 6))).contains("not valid yet"));
    for wrong in [json!("soon"), json!(-1), json!(1e300), json!({}), json!(null)] {
        assert!(refused(&with(wrong.clone(), json!(0))).contains("no time"), "{wrong}");
    }
    let for_ever = hs256(&json!({ "sub": "a" }));
    assert!(refused(&show(&provider, &for_ever)).contains("never lapses"));
    let lenient = with_secret(ClaimsConfig { may_last_for_ever: true, ..ClaimsConfig::default() });
    assert_eq!(accepted(show(&lenient, &for_ever)).expires, None);
}

#[test]
fn claims_have_to_be_what_is_wanted() {
    let required = BTreeMap::from([
        ("id".to_owned(), "${clientid}".to_owned()),
        ("name".to_owned(), "${username}".to_owned()),
        ("level".to_owned(), "3".to_owned()),
    ]);
    let config = ClaimsConfig {
        issuer: Some("me".into()),
        audience: Some("mqtt".into()),
        required,
        ..ClaimsConfig::default()
    };
    let provider = with_secret(config);
    let all = json!({ "sub": "a", "exp": NOW + 60, "iss": "me", "aud": ["x", "mqtt"], "id": "c", "name": "u", "level": 3 });
    accepted(show(&provider, &hs256(&all)));
    for (claim, value) in [
        ("iss", json!("you")),
        ("iss", Value::Null),
        ("aud", json!("mqttx")),
        ("aud", json!([])),
        ("id", json!("d")),
        ("id", json!("+")),
        ("name", json!(["u"])),
        ("level", json!(4)),
        ("level", json!({})),
    ] {
        let mut claims = all.clone();
        claims[claim] = value.clone();
        assert!(
            matches!(show(&provider, &hs256(&claims)), Verdict::Refuse { .. }),
            "{claim} {value}"
        );
    }
    // A client without a name has none that could fit.
    let attempt = Attempt { password: Some(Secret::new(hs256(&all))), ..attempt("c") };
    assert!(matches!(provider.begin(Time(NOW * 1000), &attempt), Verdict::Refuse { .. }));
    let odd = ClaimsConfig {
        required: BTreeMap::from([("a".into(), "x${clientid}".into())]),
        ..ClaimsConfig::default()
    };
    let keys = JwtKeys { algorithms: vec!["HS256".into()], keys: Usable::Key(SECRET.into()) };
    assert!(JwtProvider::new("jwt", keys, odd).unwrap_err().contains("x${clientid}"));
}

#[test]
fn rights_and_more_come_with_the_token() {
    let provider = with_secret(ClaimsConfig::default());
    let claims = json!({
        "sub": "alice", "exp": NOW + 60, "groups": ["a", "b"], "client_type": "device",
        "publish": ["up/${clientid}/#"], "subscribe": "down/${username}/+",
    });
    let identity = accepted(show(&provider, &hs256(&claims)));
    assert_eq!(identity.groups, ["a".into(), "b".into()]);
    assert_eq!(identity.client_type.as_deref(), Some("device"));
    let own = identity.own.unwrap();
    let qos = codec::QoS::AtLeastOnce;
    assert!(own.may_publish("up/c/x", qos, false) && !own.may_publish("up/d/x", qos, false));
    assert!(own.may_subscribe("down/alice/+", qos) && own.may_receive("down/alice/1"));
    assert!(!own.may_subscribe("down/u/+", qos), "the proved name, not the one that it says");
    let none =
        accepted(show(&provider, &hs256(&json!({ "exp": NOW + 60, "publish": [] })))).own.unwrap();
    assert!(!none.may_publish("x", qos, false), "an empty list is no right");
    assert!(accepted(show(&provider, &hs256(&good()))).own.is_none());
    for wrong in [json!([1]), json!({}), json!(["a/#/b"]), json!(["${x}"])] {
        let claims = json!({ "exp": NOW + 60, "publish": wrong });
        assert!(matches!(show(&provider, &hs256(&claims)), Verdict::Refuse { .. }), "{claims}");
    }
}

#[test]
fn a_password_that_is_no_token_is_somebody_elses() {
    let provider = with_secret(ClaimsConfig::default());
    for password in ["", "secret", "a.b.c", "ey.x", "eyJ.eyJ.x.y", "ey.ä.x"] {
        assert!(matches!(show(&provider, password), Verdict::Skip { .. }), "{password}");
    }
    assert!(matches!(show(&provider, "eyJ.eyJ.x"), Verdict::Refuse { .. }));
    let by_method = Attempt {
        method: Some("JWT".into()),
        data: Some(Secret::new(hs256(&good()))),
        ..attempt("c")
    };
    accepted(provider.begin(Time(NOW * 1000), &by_method));
    let other = Attempt { method: Some("SCRAM-SHA-256".into()), ..by_method };
    assert!(matches!(provider.begin(Time(NOW * 1000), &other), Verdict::Skip { .. }));
}

#[test]
fn a_token_is_renewed_while_the_client_is_connected() {
    let provider = with_secret(ClaimsConfig::default());
    let subject = Arc::new(Subject {
        client_id: "c".into(),
        user: Some("alice".into()),
        ..Subject::default()
    });
    let step = |token: &str, again| Step {
        method: "JWT".into(),
        data: Some(Secret::new(token.as_bytes().to_vec())),
        again,
        subject: Arc::clone(&subject),
        state: bytes::Bytes::new(),
    };
    let later = Time((NOW + 50) * 1000);
    let renewed = hs256(&json!({ "sub": "alice", "exp": NOW + 600 }));
    assert_eq!(
        accepted(provider.step(later, &step(&renewed, true))).expires,
        Some(Time((NOW + 610) * 1000))
    );
    for verdict in [
        provider.step(Time((NOW + 99) * 1000), &step(&hs256(&good()), true)),
        provider.step(later, &step("secret", true)),
        provider.step(later, &step(&renewed, false)),
    ] {
        assert!(matches!(verdict, Verdict::Refuse { .. }), "{verdict:?}");
    }
}

/// A server that publishes keys, and may be away.
struct Server(Mutex<Result<String, ()>>);

impl Fetch for Server {
    fn fetch(&self, _: Option<&[u8]>) -> Result<Fetched, FetchError> {
        match &*self.0.lock().unwrap() {
            Ok(document) => Ok(Fetched { status: 200, body: document.clone().into() }),
            Err(()) => Err(FetchError::Timeout),
        }
    }
}

#[test]
fn keys_of_a_server_are_chosen_by_their_name() {
    let key = EncodingKey::from_rsa_pem(RSA).unwrap();
    let mut jwk =
        serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap()).unwrap();
    jwk["kid"] = json!("one");
    let odd = json!({ "kty": "strange", "kid": "two" });
    let server = Arc::new(Server(Mutex::new(Ok(json!({ "keys": [odd, jwk] }).to_string()))));
    let fetch: Arc<dyn Fetch> = server.clone();
    let now = Time(NOW * 1000);
    let jwks = Jwks::new(now, "test", fetch, Duration::ZERO, JwksConfig::default());
    let keys = JwtKeys {
        algorithms: vec!["RS256".into(), "PS256".into()],
        keys: Usable::Published(Box::new(jwks)),
    };
    let provider = JwtProvider::new("jwt", keys, ClaimsConfig::default()).unwrap();
    let token = |kid: &str, algorithm| {
        let header = Header { kid: Some(kid.into()), ..Header::new(algorithm) };
        encode(&header, &good(), &key).unwrap()
    };
    accepted(show(&provider, &token("one", Algorithm::RS256)));
    assert!(
        refused(&show(&provider, &token("one", Algorithm::PS256))).contains("nobody knows the key"),
        "the key says RS256"
    );
    assert!(
        refused(&show(&provider, &token("two", Algorithm::RS256))).contains("nobody knows the key")
    );
    *server.0.lock().unwrap() = Err(());
    accepted(show(&provider, &token("one", Algorithm::RS256)));

    // A reload does not lose them.
    let fetch: Arc<dyn Fetch> = server.clone();
    let jwks = Jwks::new(now, "test", fetch, Duration::ZERO, JwksConfig::default());
    let keys =
        JwtKeys { algorithms: vec!["RS256".into()], keys: Usable::Published(Box::new(jwks)) };
    let newer = Arc::new(JwtProvider::new("jwt", keys, ClaimsConfig::default()).unwrap());
    let chain = |provider: Arc<dyn Provider>| {
        crate::Chain::new(vec![crate::Link { provider, on_error_skip: false, listeners: None }])
    };
    chain(newer.clone()).succeed(&chain(Arc::new(provider)));
    accepted(show(&newer, &token("one", Algorithm::RS256)));

    let secret = JwtKeys {
        algorithms: vec!["HS256".into()],
        keys: Usable::Published(Box::new(Jwks::new(
            now,
            "test",
            server,
            Duration::ZERO,
            JwksConfig::default(),
        ))),
    };
    assert!(
        JwtProvider::new("jwt", secret, ClaimsConfig::default()).unwrap_err().contains("no secret")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_is_a_token_by_chance(text in "(ey[A-Za-z0-9_-]{0,20}|[ -~]{0,10})(\\.[A-Za-z0-9_-]{0,20}){0,3}") {
        let verdict = show(&with_secret(ClaimsConfig::default()), &text);
        let is_let_in = matches!(verdict, Verdict::Accept(_) | Verdict::Continue { .. });
        prop_assert!(!is_let_in);
    }
}
