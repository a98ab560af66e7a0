use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::prelude::*;
use session_core::Subject;

use super::{exchange::First, file::Credentials, *};
use crate::attempt::tests::attempt;

/// The example of RFC 7677, section 3.
const RFC_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const RFC_SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

#[test]
fn the_exchange_of_the_rfc_is_right() {
    let salt = BASE64.decode(RFC_SALT).unwrap();
    let of = Credentials::new(Digest::Sha256, "pencil", &salt, 4096);
    let first = First::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    let (_, state) = exchange::challenge(&first, &of, b"");
    // Our own nonces are Base64, and that of the example is not.
    let state = state
        .encode()
        .replace("rOprNGfwEbeRWgbNEkqO,s=", &format!("rOprNGfwEbeRWgbNEkqO{RFC_NONCE},s="));
    let state = state.replacen(
        "\nrOprNGfwEbeRWgbNEkqO\n",
        &format!("\nrOprNGfwEbeRWgbNEkqO{RFC_NONCE}\n"),
        1,
    );
    let state = State::decode(state.as_bytes()).unwrap();
    let proof = format!(
        "c=biws,r=rOprNGfwEbeRWgbNEkqO{RFC_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(
        exchange::judge(&state, &of, proof.as_bytes()).unwrap(),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
    let other = Credentials::new(Digest::Sha256, "pencils", &salt, 4096);
    assert_eq!(exchange::judge(&state, &other, proof.as_bytes()), Err("wrong password"));
}

/// What a client does.
struct Client {
    digest: Digest,
    bare: String,
    password: &'static str,
}

impl Client {
    fn new(digest: Digest, user: &str, password: &'static str) -> Self {
        Self { digest, bare: format!("n={user},r=clientnonce"), password }
    }

    fn first(&self) -> Secret {
        Secret::new(format!("n,,{}", self.bare))
    }

    /// The proof, and what the server has to answer.
    fn proof(&self, challenge: &[u8]) -> (Secret, String) {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let part =
            |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let (salt, rounds) = (BASE64.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
        let salted = self.digest.salted_password(self.password.as_bytes(), &salt, rounds);
        let client_key = self.digest.hmac(&salted, b"Client Key");
        let without = format!("c=biws,r={}", part("r="));
        let over = format!("{},{challenge},{without}", self.bare);
        let signature = self.digest.hmac(&self.digest.hash(&client_key), over.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let server = self.digest.hmac(&self.digest.hmac(&salted, b"Server Key"), over.as_bytes());
        (
            Secret::new(format!("{without},p={}", BASE64.encode(proof))),
            format!("v={}", BASE64.encode(server)),
        )
    }
}

fn provider() -> ScramProvider {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scram");
    assert!(!add_scram_user(&path, "alice", "secret").unwrap());
    assert!(add_scram_user(&path, "alice", "secret").unwrap());
    add_scram_user(&path, "b,=b", "x").unwrap();
    assert!(remove_scram_user(&path, "b,=b").unwrap());
    add_scram_user(&path, "b,=b", "x").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 4, "a line for each hash");
    let random = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    ScramProvider::with_random("scram", ScramFile::parse("s", &text).unwrap(), Arc::new(random))
        .unwrap()
}

fn begin(provider: &ScramProvider, client: &Client) -> (bytes::Bytes, bytes::Bytes) {
    let attempt = Attempt {
        method: Some(client.digest.method().into()),
        data: Some(client.first()),
        ..attempt("c")
    };
    match provider.begin(Time(0), &attempt) {
        Verdict::Continue { data, state } => (data, state),
        other => panic!("{other:?}"),
    }
}

fn step(digest: Digest, data: Secret, state: bytes::Bytes, again: bool) -> Step {
    let subject = Arc::new(Subject::default());
    Step { method: digest.method().into(), data: Some(data), again, subject, state }
}

fn prove(provider: &ScramProvider, client: &Client) -> Result<Identity, String> {
    let (challenge, state) = begin(provider, client);
    let (proof, expected) = client.proof(&challenge);
    match provider.step(Time(0), &step(client.digest, proof, state, false)) {
        Verdict::Accept(identity) => {
            assert_eq!(
                identity.data.as_deref(),
                Some(expected.as_bytes()),
                "the server proves itself too"
            );
            Ok(*identity)
        }
        Verdict::Refuse { why, .. } => Err(why.into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_knows_the_password_is_let_in_by_both_hashes() {
    let provider = provider();
    for digest in Digest::ALL {
        let identity = prove(&provider, &Client::new(digest, "alice", "secret")).unwrap();
        assert_eq!(identity.user.as_deref(), Some("alice"));
        let identity = prove(&provider, &Client::new(digest, "b=2C=3Db", "x")).unwrap();
        assert_eq!(identity.user.as_deref(), Some("b,=b"));
        assert_eq!(
            prove(&provider, &Client::new(digest, "alice", "Secret")).unwrap_err(),
            "wrong password"
        );
    }
}

#[test]
fn a_user_who_does_not_exist_cannot_be_told_from_one_who_does() {
    let provider = provider();
    let challenge = |user| {
        String::from_utf8(begin(&provider, &Client::new(Digest::Sha256, user, "x")).0.to_vec())
            .unwrap()
    };
    assert_eq!(challenge("nobody"), challenge("nobody"), "the same salt each time");
    assert_ne!(challenge("nobody"), challenge("somebody"));
    let shape = |text: String| text.split(',').map(str::len).collect::<Vec<_>>();
    assert_eq!(shape(challenge("nobody")), shape(challenge("alice")));
    assert_eq!(
        prove(&provider, &Client::new(Digest::Sha256, "nobody", "x")).unwrap_err(),
        "unknown user"
    );
}

#[test]
fn a_client_proves_itself_again_while_it_is_connected() {
    let provider = provider();
    let client = Client::new(Digest::Sha512, "alice", "secret");
    let again = step(client.digest, client.first(), bytes::Bytes::new(), true);
    let Verdict::Continue { data, state } = provider.step(Time(0), &again) else {
        panic!("no challenge")
    };
    let (proof, _) = client.proof(&data);
    let verdict = provider.step(Time(0), &step(client.digest, proof, state, false));
    assert!(matches!(verdict, Verdict::Accept(_)));
}

#[test]
fn what_is_no_message_of_an_exchange_is_refused() {
    let first = |text: &str| First::parse(text.as_bytes()).unwrap_err();
    for (text, expected) in [
        ("", "not all parts"),
        ("n,,", "no name and nonce"),
        ("p=tls-unique,,n=a,r=b", "channel binding"),
        ("x,,n=a,r=b", "begins otherwise"),
        ("n,a=admin,n=a,r=b", "somebody else"),
        ("n,,m=x,n=a,r=b", "no name and nonce"),
        ("n,,n=a", "no name and nonce"),
        ("n,,n=,r=b", "no name"),
        ("n,,n=a=2D,r=b", "not written as it should"),
        ("n,,n=a=,r=b", "not written as it should"),
        ("n,,n=a,r=", "no name and nonce"),
        ("n,,n=a\nb,r=b", "no name"),
    ] {
        assert!(first(text).contains(expected), "{text}: {}", first(text));
    }
    assert!(First::parse(&[b'n'; 5000]).is_err() && First::parse(b"n,,n=\xff,r=b").is_err());

    let provider = provider();
    let client = Client::new(Digest::Sha256, "alice", "secret");
    let (challenge, state) = begin(&provider, &client);
    let (proof, _) = client.proof(&challenge);
    let proof = String::from_utf8(proof.reveal().to_vec()).unwrap();
    let judged = |data: &str, state: &bytes::Bytes| match provider
        .step(Time(0), &step(client.digest, Secret::new(data.to_owned()), state.clone(), false))
    {
        Verdict::Refuse { why, .. } => why.to_string(),
        other => panic!("{other:?}"),
    };
    for (data, expected) in [
        (proof.replace("c=biws", "c=eSws"), "another beginning"),
        (proof.replace("r=clientnonce", "r=othernonce"), "another exchange"),
        (proof.split(",p=").next().unwrap().to_owned(), "missing"),
        (format!("{proof}!"), "Base64"),
        (proof.split(",p=").next().unwrap().to_owned() + ",p=AAAA", "another length"),
    ] {
        assert!(judged(&data, &state).contains(expected), "{data}: {}", judged(&data, &state));
    }
    assert!(judged(&proof, &bytes::Bytes::new()).contains("nobody began"));
}

#[test]
fn a_wrong_file_is_explained() {
    let good = "a:SCRAM-SHA-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert!(ScramFile::parse("s", &format!("# users\n\n{good}\n")).is_ok());
    let text = format!(
        "{good}\n{good}\nb\n:x\nc:SCRAM-SHA-1$1$x$y$z\nd:{}\ne:{}\n",
        good[2..].replace("4096", "1"),
        good[2..].replace("W22Z", "?")
    );
    let problems = ScramFile::parse("s", &text).unwrap_err();
    let expected = [
        "s:2: user \"a\" stands here twice",
        "s:3: there is no user",
        "s:4: there is no user",
        "s:5: user \"c\": write SCRAM",
        "s:6: user \"d\": its rounds",
        "s:7: user \"e\": its salt or keys are no",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_are_a_mistake_of_a_parser(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[n,=rpc2CDa$:]{0,40}") {
        let _ = (First::parse(&bytes), First::parse(text.as_bytes()), State::decode(&bytes));
        let _ = ScramFile::parse("s", &text);
    }
}
