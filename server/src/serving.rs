//! The broker at work, and how it goes on by another configuration: all of it, or nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use runtime_mio::{Desk, Stopper};
use session_core::{Authentication, Command, Reply, Settings, ShardMap};
use settings::{Entry, Kind};
use tracing::{error, info};

use crate::{
    census::Census,
    config::{Config, DurabilityMode, SettingsArguments},
    control::{self, Control},
    durable::Storage,
    guarded::{self, Doorman, Guarded},
    http::Http,
    listen::{self, Open},
    log::Log,
    notify,
    traces::Traces,
    watch::{Watch, Watched},
};

/// Keys that are in force from the next start on.
const NEED_A_RESTART: &[&str] =
    &["workers", "store.data_dir", "store.repair", "limits.packet_id_max"];

/// The broker at work.
pub(crate) struct Serving {
    pub(crate) arguments: SettingsArguments,
    pub(crate) desk: Desk,
    pub(crate) map: ShardMap,
    pub(crate) stopper: Stopper,
    pub(crate) guarded: Arc<Guarded>,
    pub(crate) doorman: Arc<Doorman>,
    pub(crate) log: Log,
    pub(crate) watch: Watch,
    pub(crate) http: Http,
    /// Absent if nothing is kept.
    pub(crate) storage: Option<Storage>,
    pub(crate) started: Instant,
    pub(crate) state: Mutex<State>,
    /// Held while the configuration is read again.
    pub(crate) reloading: Mutex<()>,
    pub(crate) draining: AtomicBool,
    pub(crate) census: Census,
    pub(crate) traces: Traces,
    /// Absent if nobody wants it.
    pub(crate) control: Mutex<Option<Control>>,
}

/// What is in force.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) entries: Vec<Entry>,
    pub(crate) open: Vec<Open>,
}

impl Serving {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration again and goes on by it. Returns what has changed, one line each.
    ///
    /// # Errors
    /// Everything that is wrong, one line each; nothing has changed then.
    pub(crate) fn reload(self: &Arc<Self>) -> Result<Vec<String>, Vec<String>> {
        notify::reloading();
        let result = self.try_reload();
        notify::ready();
        match &result {
            Ok(changes) => {
                info!(changes = changes.len(), "the configuration was read again");
                changes.iter().for_each(|change| info!("{change}"));
            }
            Err(problems) => problems.iter().for_each(|problem| {
                error!(
                    "the configuration was read again, and what was in force stays so: {problem}"
                );
            }),
        }
        result
    }

    fn try_reload(self: &Arc<Self>) -> Result<Vec<String>, Vec<String>> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        // What can fail may take its time, such as asking for names: nobody else waits for it.
        let present = self.state().clone();
        let (mut config, entries) = Config::load(&self.arguments)?;
        keep_what_needs_a_restart(&mut config, &present.config)?;
        let wanted = listen::resolve(&config.listeners).map_err(one)?;
        let exposed = listen::exposed(&wanted, &config);
        if !exposed.is_empty() {
            return Err(exposed);
        }
        let prepared = self.guarded.prepare(&config)?;
        let http = self.http.prepare(&config.http).map_err(one)?;
        let log = self.log.prepare(&present.config.log, &config.log).map_err(one)?;
        let change = listen::change(&present.open, wanted, &config.limits).map_err(one)?;
        let control = self.open_control(&present.config, &config).map_err(one)?;

        // Nothing fails from here on.
        let changes = difference(&present.entries, &entries);
        self.doorman.reconfigure(&config.doorway);
        let settings = Command::Reconfigure(Box::new(settings(&config)));
        // Somebody has to be there before anybody is asked, and until nobody is.
        if config.access.is_some() {
            self.guarded.install(prepared);
            self.desk.command_all(&settings);
            self.tell_rights_changed();
        } else {
            self.desk.command_all(&settings);
            self.guarded.install(prepared);
        }
        let open = self.change_listeners(change);
        self.log.install(config.log.level, log);
        if let (Some(storage), true) = (&self.storage, present.config.store != config.store) {
            storage.reconfigure(&config.store);
        }
        if let Some(control) = control {
            *self.control.lock().unwrap_or_else(PoisonError::into_inner) = control;
        }
        self.http.install(http);
        let state = State { config, entries, open };
        self.watch.set(watched(self, &state));
        *self.state() = state;
        Ok(changes)
    }

    /// The socket for operators, if it is another one: absent, it stays as it is.
    fn open_control(
        self: &Arc<Self>,
        present: &Config,
        wanted: &Config,
    ) -> Result<Option<Option<Control>>, String> {
        let path = control::socket_of(wanted);
        if path == control::socket_of(present) {
            if let Some(path) = path.filter(|_| wanted.control.mode != present.control.mode) {
                let mode = fs::Permissions::from_mode(wanted.control.mode);
                fs::set_permissions(&path, mode)
                    .map_err(|error| format!("cannot change {}: {error}", path.display()))?;
            }
            return Ok(None);
        }
        let control = control::open(wanted)?;
        if let Some(control) = &control {
            control.start(Arc::clone(self))?;
        }
        Ok(Some(control))
    }

    fn change_listeners(&self, change: listen::Change) -> Vec<Open> {
        let mut open = change.kept;
        for one in &open {
            // The files were read a moment ago; whoever removes them now is told by the log.
            if let Some(Err(error)) = one.tls.as_ref().map(|door| door.reload()) {
                error!("{}: {error}", one.name);
            }
        }
        for (one, fittings) in change.refitted {
            match self.desk.refit(one.door, &one.config.name(), fittings) {
                Ok(door) => open.push(one.behind(door)),
                Err(error) => error!("{}: {error}", one.name),
            }
        }
        for bound in change.bound {
            let (listener, remember) = bound.split();
            match self.desk.open(listener) {
                Ok(door) => {
                    let one = remember(door);
                    info!("listening on {}", one.name);
                    open.push(one);
                }
                Err(error) => error!("{error}"),
            }
        }
        for one in change.closed {
            self.desk.close(one.door);
            info!("not listening on {} any more", one.name);
        }
        open
    }

    /// Has everybody judged again.
    pub(crate) fn tell_rights_changed(&self) {
        for shard in self.desk.shards() {
            self.desk.tell(shard, Command::RightsChanged);
        }
    }

    /// Accepts no more, and sends all clients away in batches; `tell` hears how many are left.
    ///
    /// # Errors
    /// It does so already.
    pub(crate) fn drain(
        &self,
        server_reference: Option<String>,
        mut tell: impl FnMut(u32),
    ) -> Result<(), String> {
        if self.draining.swap(true, Ordering::SeqCst) {
            return Err("the broker drains already".to_owned());
        }
        notify::stopping();
        let config = self.state().config.drain.clone();
        let server_reference = server_reference.or(config.server_reference).map(Into::into);
        info!("draining: clients are sent away, and nobody else is let in");
        self.desk.stop_accepting();
        let batch = Command::Drain { max: config.batch, server_reference };
        loop {
            let left = self.desk.command_all(&batch).iter().fold(0_u32, |sum, reply| match reply {
                Reply::Left(left) => sum.saturating_add(*left),
                _ => sum,
            });
            tell(left);
            if left == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(config.pause_ms));
        }
        info!("drained");
        Ok(())
    }

    /// Whether all that is promised can be kept: workers answer, somebody listens, and the disk takes messages.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::SeqCst) {
            return Err("draining");
        }
        if self.state().open.is_empty() {
            return Err("no listener is open");
        }
        if self.storage.as_ref().is_some_and(Storage::is_full) {
            return Err("the disk has no room");
        }
        if self.alive() { Ok(()) } else { Err("a worker does not answer") }
    }

    /// Whether all workers answer.
    pub(crate) fn alive(&self) -> bool {
        self.desk.look_at_all(|_| ()).len() == self.desk.shards().count()
    }
}

fn one(problem: String) -> Vec<String> {
    vec![problem]
}

/// # Errors
/// What is kept on disk cannot begin, or end, while the broker runs.
fn keep_what_needs_a_restart(config: &mut Config, present: &Config) -> Result<(), Vec<String>> {
    let is_kept = |config: &Config| config.store.durability != DurabilityMode::Memory;
    if is_kept(config) != is_kept(present) {
        let why = "`store.durability` changes from or to \"memory\" by a restart only";
        return Err(one(why.to_owned()));
    }
    config.workers = present.workers;
    config.limits.packet_id_max = present.limits.packet_id_max;
    config.store.data_dir.clone_from(&present.store.data_dir);
    config.store.repair = present.store.repair;
    config.store.faults = present.store.faults;
    Ok(())
}

/// What of a configuration shards go by.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        authentication: match config.access {
            Some(_) => Authentication::Ask,
            None => Authentication::Anonymous,
        },
        denied_publish_v3: config.denied_publish_v3,
        features: config.features.clone(),
        limits: config.limits.clone(),
    }
}

/// Reads every file that a configuration names, and keeps nothing.
///
/// # Errors
/// Everything that is wrong, one line each.
pub(crate) fn check(config: &Config) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    match listen::resolve(&config.listeners) {
        Ok(wanted) => problems.extend(listen::exposed(&wanted, config)),
        Err(problem) => problems.push(problem),
    }
    problems.extend(listen::check_certificates(&config.listeners).err().into_iter().flatten());
    problems.extend(guarded::check(config).err().into_iter().flatten());
    problems.extend(Http::check(&config.http).err());
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What differs between two configurations, one line each.
fn difference(before: &[Entry], after: &[Entry]) -> Vec<String> {
    fn by_path(entries: &[Entry]) -> BTreeMap<&str, &Entry> {
        entries.iter().map(|entry| (entry.path.as_str(), entry)).collect()
    }
    let (before, after) = (by_path(before), by_path(after));
    let shown = |entry: Option<&&Entry>| match entry.map(|entry| (&entry.value, &entry.kind)) {
        Some((Some(_), Kind::Table)) => "{ … }".to_owned(),
        Some((Some(value), _)) => value.clone(),
        _ => "nothing".to_owned(),
    };
    let mut paths: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    paths.sort_unstable();
    paths.dedup();
    let mut lines = Vec::new();
    for path in paths {
        let (old, new) = (before.get(path), after.get(path));
        if old.and_then(|old| old.value.as_ref()) == new.and_then(|new| new.value.as_ref()) {
            continue;
        }
        // A table that comes or goes has keys that nobody wrote.
        let is_unwritten = |entry: Option<&&Entry>| entry.is_none_or(|entry| entry.place.is_none());
        if old.is_none() != new.is_none() && is_unwritten(old) && is_unwritten(new) {
            continue;
        }
        let restart = NEED_A_RESTART
            .iter()
            .any(|key| path == *key || (key.ends_with('.') && path.starts_with(key)));
        let note = if restart { " (in force after a restart)" } else { "" };
        lines.push(format!("{path}: {} -> {}{note}", shown(old), shown(new)));
    }
    lines
}

/// What is read again when its files change.
pub(crate) fn watched(serving: &Arc<Serving>, state: &State) -> Vec<Watched> {
    let mut all = Vec::new();
    if let Some(access) = &state.config.access {
        if let Some(blocks) = &access.blocks {
            let serving = Arc::clone(serving);
            let reload = move || {
                serving.guarded.reload_blocks()?;
                serving.tell_rights_changed();
                Ok(())
            };
            let what = "the file of blocks".to_owned();
            all.push(Watched { what, files: vec![blocks.clone()], reload: Box::new(reload) });
        }
        let serving = Arc::clone(serving);
        let reload = move || {
            // What a reload has just brought into force counts.
            let _one_at_a_time = serving.reloading.lock().unwrap_or_else(PoisonError::into_inner);
            let config = serving.state().config.clone();
            let prepared = serving.guarded.prepare(&config)?;
            serving.guarded.install(prepared);
            serving.tell_rights_changed();
            Ok(())
        };
        let files = guarded::files(access);
        all.push(Watched { what: "access".into(), files, reload: Box::new(reload) });
    }
    let with_tls = state.open.iter().filter_map(|open| Some((open, open.tls.clone()?)));
    all.extend(with_tls.map(|(open, door)| Watched {
        what: format!("certificates of {}", open.config.url),
        files: door.files(),
        reload: Box::new(move || door.reload().map_err(|error| vec![error.to_string()])),
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<Entry> {
        Config::parse("c.toml", text, &[]).unwrap().1
    }

    #[test]
    fn a_difference_names_values_and_what_needs_a_restart() {
        let before = entries("workers = 1\n[limits]\nretained_max = 5\n");
        let after = entries(
            "listen = [\"tcp://[::1]:1\"]\nworkers = 2\n[limits]\nretained_max = 6\n[store]\ninterval_ms = 7\n",
        );
        assert_eq!(
            difference(&before, &after),
            [
                "limits.retained_max: 5 -> 6",
                "listen: [] -> [\"tcp://[::1]:1\"]",
                "store.interval_ms: 1000 -> 7",
                "workers: 1 -> 2 (in force after a restart)",
            ]
        );
        assert_eq!(difference(&after, &after), [""; 0]);
        let listener = entries("[[listener]]\nurl = \"tcp://[::1]:1\"\n");
        assert_eq!(
            difference(&entries(""), &listener),
            ["listener[0].url: nothing -> \"tcp://[::1]:1\""]
        );
    }
}
