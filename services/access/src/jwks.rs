//! Keys that another server publishes (a JWKS document): fetched, kept, and fetched again.

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use session_core::Time;
use tracing::{info, warn};

use crate::{Endpoint, EndpointConfig, Fetch, turns::Turns};

/// Logins that wait for keys while these are being fetched; more fail at once, so that tokens with invented
/// keys cannot take all threads.
const WAITING_MAX: usize = 16;

/// Keys as whoever verifies tokens wants them.
pub trait KeySet: Send + Sync + Sized + 'static {
    /// Reads a JWKS document.
    ///
    /// # Errors
    /// It is none, in words. The keys that were known before stay.
    fn parse(document: &str) -> Result<Self, String>;

    /// Whether there is a key of this identifier.
    fn has(&self, kid: &str) -> bool;
}

/// When keys are fetched, and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwksConfig {
    /// They are fetched again when they are needed and so old, seconds: a key that was withdrawn is believed for
    /// as long.
    pub refresh_s: u32,
    /// But not more often than this, seconds: neither when the server cannot be reached, nor when tokens name
    /// a key that nobody knows.
    pub retry_s: u32,
    /// While the server cannot be reached they are believed for so long, seconds.
    pub keep_s: u32,
    /// Where they are kept over a restart of the broker; absent: they are not.
    pub cache_file: Option<PathBuf>,
}

impl Default for JwksConfig {
    fn default() -> Self {
        Self { refresh_s: 300, retry_s: 30, keep_s: 7 * 86_400, cache_file: None }
    }
}

/// When to fetch. Pure.
#[derive(Clone, Debug, Default)]
struct Schedule {
    /// When the keys came that are used; it may be before the start.
    came: Option<Time>,
    /// When they were last fetched since the start, with success or without.
    tried: Option<Time>,
    /// The last try brought none.
    has_failed: bool,
}

impl Schedule {
    /// Whether to fetch now. `is_known`: what is asked for is there.
    fn is_due(&self, now: Time, is_known: bool, config: &JwksConfig) -> bool {
        let Some(tried) = self.tried else { return true };
        let age_s = now.since_ms(tried) / 1000;
        let wanted = is_known && !self.has_failed;
        let pause_s = if wanted { config.refresh_s.max(config.retry_s) } else { config.retry_s };
        age_s >= pause_s.into()
    }

    /// Whether the keys may be used.
    fn is_fresh(&self, now: Time, config: &JwksConfig) -> bool {
        self.came.is_some_and(|came| now.since_ms(came) / 1000 < config.keep_s.into())
    }
}

/// What is kept in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Keys of one server are nothing for tokens of another.
    source: String,
    fetched_ms: u64,
    document: String,
}

/// A source of keys, which outlives an outage of the server that has them.
pub struct Jwks<K> {
    source: String,
    config: JwksConfig,
    fetch: Arc<dyn Fetch>,
    /// One fetches at a time.
    fetching: Turns,
    patience: Duration,
    state: Mutex<State<K>>,
}

struct State<K> {
    schedule: Schedule,
    keys: Option<Arc<K>>,
    /// Why there are none, or no new ones.
    trouble: Option<Box<str>>,
}

impl<K> fmt::Debug for Jwks<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<K: KeySet> Jwks<K> {
    /// The keys of this address, and those that were kept. Nothing is fetched yet.
    ///
    /// # Errors
    /// What is wrong with the configuration, in a line.
    pub fn open(now: Time, endpoint: &EndpointConfig, config: JwksConfig) -> Result<Self, String> {
        // What stands behind the `?` may be secret.
        let source = endpoint.url.split('?').next().unwrap_or_default();
        let patience = Duration::from_millis(endpoint.timeout_ms);
        Ok(Self::new(now, source, Arc::new(Endpoint::open(endpoint)?), patience, config))
    }

    /// The same by any means. `source` is the server's name: keys that were kept are those of this name.
    /// `patience` is how long a login waits while another one fetches.
    pub fn new(
        now: Time,
        source: &str,
        fetch: Arc<dyn Fetch>,
        patience: Duration,
        config: JwksConfig,
    ) -> Self {
        let mut state = State { schedule: Schedule::default(), keys: None, trouble: None };
        if let Some(path) = &config.cache_file {
            match kept::<K>(path, source) {
                Ok(None) => {}
                Ok(Some((keys, came))) => {
                    state.keys = Some(Arc::new(keys));
                    // A clock that was put back makes nothing younger than now.
                    state.schedule.came = Some(came.min(now));
                }
                Err(problem) => warn!("{}: {problem}; its keys are not used", path.display()),
            }
        }
        Self {
            source: source.into(),
            config,
            fetch,
            fetching: Turns::new(1, WAITING_MAX),
            patience,
            state: Mutex::new(state),
        }
    }

    /// The keys to verify a token by, which names this one. They are fetched before if it is time, or if the
    /// key is not known; whether it is among them then is for the caller to find out.
    ///
    /// # Errors
    /// There are no keys, in words; nobody may be let in.
    pub fn keys(&self, now: Time, kid: Option<&str>) -> Result<Arc<K>, String> {
        let is_known = self.state().knows(now, kid, &self.config);
        if self.is_due(now, kid) {
            // Whoever can go on does not wait for whoever fetches.
            let patience = if is_known { Duration::ZERO } else { self.patience };
            let turn = self.fetching.take(patience);
            // Somebody else may have fetched meanwhile.
            match turn {
                Some(_turn) if self.is_due(now, kid) => self.refresh(now),
                None if !is_known => return Err("keys are being fetched".into()),
                _ => {}
            }
        }
        let state = self.state();
        match &state.keys {
            Some(keys) if state.schedule.is_fresh(now, &self.config) => Ok(Arc::clone(keys)),
            Some(_) => Err(format!("the keys are too old; {}", state.why())),
            None => Err(format!("there are no keys; {}", state.why())),
        }
    }

    /// Takes over the keys that another one has of the same server, if they are newer. They are fetched again
    /// all the same when they are needed next.
    pub fn succeed(&self, older: &Self) {
        if self.source != older.source {
            return;
        }
        let (keys, came) = {
            let older = older.state();
            (older.keys.clone(), older.schedule.came)
        };
        let mut state = self.state();
        if came > state.schedule.came {
            state.keys = keys;
            state.schedule.came = came;
        }
    }

    /// Fetches the keys, however old they are. What is wrong leaves the present ones in place.
    pub fn refresh(&self, now: Time) {
        self.state().schedule.tried = Some(now);
        let fetched = self.fetched();
        let mut state = self.state();
        state.schedule.has_failed = fetched.is_err();
        match fetched {
            Ok((document, keys)) => {
                if state.trouble.take().is_some() {
                    info!(source = self.source, "keys can be fetched again");
                }
                state.keys = Some(Arc::new(keys));
                state.schedule.came = Some(now);
                drop(state);
                self.keep(now, document);
            }
            Err(why) => {
                if state.trouble.is_none() {
                    warn!(source = self.source, "keys cannot be fetched: {why}");
                }
                state.trouble = Some(why.into());
            }
        }
    }

    fn fetched(&self) -> Result<(String, K), String> {
        let fetched = self.fetch.fetch(None).map_err(|error| format!("their server: {error}"))?;
        if !(200..300).contains(&fetched.status) {
            return Err(format!("their server answers with status {}", fetched.status));
        }
        let document = String::from_utf8(fetched.body)
            .map_err(|_| "their server answers with bytes that are no text".to_owned())?;
        let keys = K::parse(&document)?;
        Ok((document, keys))
    }

    fn keep(&self, now: Time, document: String) {
        let Some(path) = &self.config.cache_file else { return };
        let kept = Kept { source: self.source.clone(), fetched_ms: now.0, document };
        if let Err(error) = write(path, &kept) {
            warn!("{}: keys cannot be kept over a restart: {error}", path.display());
        }
    }

    fn is_due(&self, now: Time, kid: Option<&str>) -> bool {
        let state = self.state();
        let is_known = state.knows(now, kid, &self.config);
        state.schedule.is_due(now, is_known, &self.config)
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: KeySet> State<K> {
    /// Whether there is something to verify a token of this key by.
    fn knows(&self, now: Time, kid: Option<&str>, config: &JwksConfig) -> bool {
        let has = |keys: &Arc<K>| kid.is_none_or(|kid| keys.has(kid));
        self.keys.as_ref().is_some_and(has) && self.schedule.is_fresh(now, config)
    }

    fn why(&self) -> &str {
        self.trouble.as_deref().unwrap_or("nobody has fetched them yet")
    }
}

/// What was kept of this source, and since when it is known.
fn kept<K: KeySet>(path: &Path, source: &str) -> Result<Option<(K, Time)>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let kept: Kept = serde_json::from_str(&text).map_err(|error| {
        format!("is damaged at line {} column {}", error.line(), error.column())
    })?;
    if kept.source != source {
        return Err("holds the keys of another server".into());
    }
    Ok(Some((K::parse(&kept.document)?, Time(kept.fetched_ms))))
}

/// Replaces the file in one step. Nobody else may read it: a JWKS document may hold a shared key.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    file.write_all(serde_json::to_string(kept)?.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        os::unix::fs::PermissionsExt,
        sync::mpsc::{Receiver, Sender, channel},
        thread,
    };

    use super::*;
    use crate::{
        FetchError, Fetched,
        http::server::{Server, response},
    };

    /// Names of keys, with spaces between them.
    #[derive(Debug, PartialEq, Eq)]
    struct Names(Vec<String>);

    impl KeySet for Names {
        fn parse(document: &str) -> Result<Self, String> {
            let names: Vec<_> = document.split(' ').map(Into::into).collect();
            let is_sound = names.iter().all(|name: &String| name.starts_with('k'));
            is_sound.then_some(Self(names)).ok_or_else(|| "they are no keys".into())
        }

        fn has(&self, kid: &str) -> bool {
            self.0.iter().any(|name| name == kid)
        }
    }

    type Answer = Result<Fetched, FetchError>;

    #[derive(Default)]
    struct Script(Mutex<VecDeque<Answer>>);

    impl Fetch for Script {
        fn fetch(&self, body: Option<&[u8]>) -> Answer {
            assert_eq!(body, None);
            self.0.lock().unwrap().pop_front().expect("it is fetched once too often")
        }
    }

    fn ok(document: &str) -> Answer {
        Ok(Fetched { status: 200, body: document.into() })
    }

    fn away() -> Answer {
        Err(FetchError::Timeout)
    }

    /// The keys of a server that answers so, with a refresh after 300 s and a retry after 30 s.
    fn jwks(config: JwksConfig, now_s: u64, answers: impl Into<VecDeque<Answer>>) -> Jwks<Names> {
        let fetch = Arc::new(Script(Mutex::new(answers.into())));
        Jwks::new(s(now_s), "https://keys.example/", fetch, Duration::ZERO, config)
    }

    fn s(s: u64) -> Time {
        Time(s * 1000)
    }

    /// The keys then, or why there are none.
    fn at(jwks: &Jwks<Names>, now_s: u64, kid: &str) -> String {
        match jwks.keys(s(now_s), Some(kid)) {
            Ok(keys) => keys.0.join(" "),
            Err(why) => why,
        }
    }

    #[test]
    fn keys_are_fetched_when_they_are_needed_and_again_when_they_are_old() {
        let jwks = jwks(JwksConfig::default(), 0, [ok("k1"), ok("k1 k2")]);
        assert_eq!(at(&jwks, 10, "k1"), "k1");
        assert_eq!(at(&jwks, 309, "k1"), "k1");
        assert_eq!(at(&jwks, 310, "k1"), "k1 k2");
        assert_eq!(jwks.keys(s(311), None).unwrap().0.len(), 2, "a token need not name its key");
    }

    #[test]
    fn an_unknown_key_is_looked_for_at_most_every_so_often() {
        let jwks = jwks(JwksConfig::default(), 0, [ok("k1"), ok("k1"), ok("k1 k9")]);
        assert_eq!(at(&jwks, 0, "k1"), "k1");
        for now in [1, 15, 29] {
            assert_eq!(at(&jwks, now, "k9"), "k1", "the server was asked a moment ago");
        }
        assert_eq!(at(&jwks, 30, "k9"), "k1");
        assert_eq!(at(&jwks, 59, "k9"), "k1");
        assert_eq!(at(&jwks, 60, "k9"), "k1 k9");
    }

    #[test]
    fn an_outage_leaves_the_keys_in_place_and_is_tried_again_every_so_often() {
        let jwks = jwks(JwksConfig::default(), 0, [ok("k1"), away(), away(), ok("k2")]);
        assert_eq!(at(&jwks, 0, "k1"), "k1");
        assert_eq!(at(&jwks, 300, "k1"), "k1");
        assert_eq!(at(&jwks, 329, "k1"), "k1");
        assert_eq!(at(&jwks, 330, "k1"), "k1");
        assert_eq!(at(&jwks, 360, "k1"), "k2", "a key that was withdrawn is gone");
    }

    #[test]
    fn a_document_that_is_broken_leaves_the_keys_in_place() {
        let broken = [
            ok("no keys"),
            Ok(Fetched { status: 404, body: b"k2".to_vec() }),
            Ok(Fetched { status: 302, body: b"k2".to_vec() }),
            Ok(Fetched { status: 200, body: vec![b'k', 0xFF] }),
            Err(FetchError::TooLarge(1)),
        ];
        let answers = [ok("k1")].into_iter().chain(broken).collect::<VecDeque<_>>();
        let jwks = jwks(JwksConfig::default(), 0, answers);
        for now in [0, 300, 330, 360, 390, 420] {
            assert_eq!(at(&jwks, now, "k1"), "k1");
        }
    }

    #[test]
    fn without_keys_nobody_gets_any() {
        let jwks = jwks(JwksConfig::default(), 0, [away(), ok("no keys"), ok("k1")]);
        let why = "there are no keys; their server: no answer in time";
        assert_eq!(at(&jwks, 0, "k1"), why);
        assert_eq!(at(&jwks, 29, "k1"), why, "it is not asked at each login");
        assert_eq!(at(&jwks, 30, "k1"), "there are no keys; they are no keys");
        assert_eq!(at(&jwks, 60, "k1"), "k1");
    }

    #[test]
    fn keys_are_not_believed_for_ever() {
        let config = JwksConfig { keep_s: 1000, ..JwksConfig::default() };
        let answers = [ok("k1"), away(), away(), away(), ok("k1")];
        let jwks = jwks(config, 0, answers);
        assert_eq!(at(&jwks, 0, "k1"), "k1");
        assert_eq!(at(&jwks, 300, "k1"), "k1");
        assert_eq!(at(&jwks, 999, "k1"), "k1");
        assert_eq!(at(&jwks, 1000, "k1"), "the keys are too old; their server: no answer in time");
        assert_eq!(at(&jwks, 1029, "k1"), "the keys are too old; their server: no answer in time");
        assert_eq!(at(&jwks, 1100, "k1"), "k1");
    }

    #[test]
    fn keys_survive_a_restart_while_the_server_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let config =
            JwksConfig { cache_file: Some(path.clone()), keep_s: 1000, ..JwksConfig::default() };
        assert_eq!(at(&jwks(config.clone(), 100, [ok("k1")]), 100, "k1"), "k1");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody else may read it");
        let restarted = jwks(config.clone(), 500, [away(), away()]);
        assert_eq!(at(&restarted, 500, "k1"), "k1");
        assert!(
            at(&restarted, 1100, "k1").starts_with("the keys are too old"),
            "they came at 100 s"
        );
        assert_eq!(at(&jwks(config.clone(), 500, [ok("k2")]), 500, "k1"), "k2", "fetched at once");
        // The clock was put back: what was fetched later than now was fetched now.
        let restarted = jwks(config, 200, [away(), away()]);
        assert_eq!(at(&restarted, 200, "k2"), "k2");
        assert!(at(&restarted, 1200, "k2").starts_with("the keys are too old"));
    }

    #[test]
    fn keys_survive_a_reload_while_the_server_is_away() {
        let config = JwksConfig { keep_s: 1000, ..JwksConfig::default() };
        let older = jwks(config.clone(), 0, [ok("k1")]);
        assert_eq!(at(&older, 100, "k1"), "k1");
        let newer = jwks(config.clone(), 200, [away(), away()]);
        newer.succeed(&older);
        assert_eq!(at(&newer, 200, "k1"), "k1");
        assert!(at(&newer, 1100, "k1").starts_with("the keys are too old"), "they came at 100 s");
        let fetched = jwks(config.clone(), 200, [ok("k2")]);
        assert_eq!(at(&fetched, 200, "k2"), "k2");
        fetched.succeed(&older);
        assert_eq!(at(&fetched, 201, "k2"), "k2", "newer ones stay");
        let fetch = Arc::new(Script(Mutex::new([away()].into())));
        let other: Jwks<Names> =
            Jwks::new(s(0), "https://other.example/", fetch, Duration::ZERO, config);
        other.succeed(&older);
        assert!(at(&other, 200, "k1").starts_with("there are no keys"), "another server's");
    }

    #[test]
    fn a_cache_file_that_is_broken_or_of_another_server_is_as_if_it_were_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let config = JwksConfig { cache_file: Some(path.clone()), ..JwksConfig::default() };
        for text in [
            "",
            "k1",
            r#"{"source": "https://keys.example/", "fetched_ms": 0, "document": "no keys"}"#,
            r#"{"source": "https://other.example/", "fetched_ms": 0, "document": "k1"}"#,
        ] {
            fs::write(&path, text).unwrap();
            let why = at(&jwks(config.clone(), 0, [away()]), 0, "k1");
            assert_eq!(why, "there are no keys; their server: no answer in time", "{text}");
        }
        assert_eq!(at(&jwks(config, 0, [ok("k1")]), 0, "k1"), "k1", "and it is written anew");
        assert!(fs::read_to_string(&path).unwrap().contains("\"k1\""));
    }

    #[test]
    fn who_knows_the_key_does_not_wait_for_whoever_fetches() {
        struct Slow(Sender<()>, Mutex<Receiver<Answer>>);
        impl Fetch for Slow {
            fn fetch(&self, _: Option<&[u8]>) -> Answer {
                self.0.send(()).unwrap();
                self.1.lock().unwrap().recv().unwrap()
            }
        }
        let ((asks, is_asked), (answer, answers)) = (channel(), channel());
        let fetch = Arc::new(Slow(asks, Mutex::new(answers)));
        let config = JwksConfig::default();
        let jwks: Jwks<Names> = Jwks::new(s(0), "", fetch, Duration::from_secs(60), config);
        answer.send(ok("k1")).unwrap();
        assert_eq!(at(&jwks, 0, "k1"), "k1");
        is_asked.recv().unwrap();
        thread::scope(|scope| {
            let fetches = scope.spawn(|| at(&jwks, 300, "k1"));
            is_asked.recv().unwrap();
            assert_eq!(at(&jwks, 300, "k1"), "k1", "the old ones do");
            let waits = scope.spawn(|| at(&jwks, 330, "k2"));
            while jwks.fetching.waiting() == 0 {
                thread::yield_now();
            }
            // The one that waited finds what it wants, and need not fetch.
            answer.send(ok("k1 k2")).unwrap();
            assert_eq!(fetches.join().unwrap(), "k1 k2");
            assert_eq!(waits.join().unwrap(), "k1 k2");
        });
    }

    #[test]
    fn keys_come_by_http() {
        let server = Server::answering(|head, _| match head.starts_with("GET /auth HTTP/1.1") {
            true => response("200 OK", "", "k1 k2"),
            false => response("405 Method Not Allowed", "", ""),
        });
        let endpoint = EndpointConfig { timeout_ms: 60_000, ..EndpointConfig::new(&server.url()) };
        let jwks = Jwks::<Names>::open(Time(0), &endpoint, JwksConfig::default()).unwrap();
        assert_eq!(at(&jwks, 0, "k1"), "k1 k2");
    }
}
