//! Carries wishes out.

use std::{io, sync::Arc, time::Duration};

use access::{Block, Blocked};
use codec::ReasonCode;
use runtime_mio::{Look, TraceFilter};
use serde_json::{Value, json};
use session_core::{AddressRange, Command, Page, Reply, Time};

use super::{
    Answer, By, Request, TraceWhat, Which, Who,
    rows::{self, Row, row},
    socket::Lines,
};
use crate::{
    census::{self, PAGE, Snapshot},
    serving::Serving,
};

/// Answers a request, line by line. Whether the broker ends once the operator has its answer is told apart from whether
/// the operator is still there.
pub(super) fn carry_out(
    serving: &Arc<Serving>,
    request: Request,
    lines: &mut Lines<'_>,
) -> (bool, io::Result<()>) {
    let is_end = matches!(request, Request::Stop | Request::Drain { .. });
    let done = match answer(serving, request, lines) {
        Ok(done) => done,
        Err(error) => return (is_end, Err(error)),
    };
    let ends = is_end && done.is_ok();
    let last = match done {
        Ok(said) => Answer::Done(said),
        Err(problems) => Answer::Failed(problems),
    };
    (ends, lines.put(&last))
}

/// Writes all rows of an answer.
fn answer(
    serving: &Arc<Serving>,
    request: Request,
    lines: &mut Lines<'_>,
) -> io::Result<Result<String, Vec<String>>> {
    let done = match request {
        Request::Clients { which } => clients(serving, &which, lines)?,
        Request::Sessions { which } => sessions(serving, &which, lines)?,
        Request::Subscriptions { client: None, which } => subscriptions(serving, &which, lines)?,
        Request::Retained { topic, which } => retained(serving, topic, &which, lines)?,
        Request::Drain { server_reference } => {
            let told = serving.drain(server_reference, |left| {
                // Nobody has to look on.
                let _ = lines.put(&Answer::Row(row(json!({ "connections_left": left }))));
                let _ = lines.flush();
            });
            told.map(|()| "drained; the broker ends".to_owned()).map_err(one)
        }
        other => at_once(serving, other).map(|(rows, said)| {
            for row in rows {
                // A failure comes back with the next line.
                let _ = lines.put(&Answer::Row(row));
            }
            said
        }),
    };
    Ok(done)
}

/// Rows and words, or what is wrong.
type Outcome = Result<(Vec<Row>, String), Vec<String>>;

fn one(problem: impl Into<String>) -> Vec<String> {
    vec![problem.into()]
}

fn rows_only(rows: Vec<Row>) -> Outcome {
    Ok((rows, String::new()))
}

fn words(said: impl Into<String>) -> Outcome {
    Ok((Vec::new(), said.into()))
}

fn at_once(serving: &Arc<Serving>, request: Request) -> Outcome {
    match request {
        Request::Status => rows_only(vec![status(serving)]),
        Request::Health => match serving.ready() {
            Ok(()) => words("ready"),
            Err(why) => Err(one(why)),
        },
        Request::Client { client_id } => client(serving, client_id),
        Request::Kick { client_id } => {
            let reason = ReasonCode::AdministrativeAction;
            let client = client_id.clone().into();
            command(serving, &client_id, Command::Disconnect { client_id: client, reason })?;
            words(format!("{client_id} is disconnected"))
        }
        Request::EndSession { client_id } => {
            let client = client_id.clone().into();
            command(serving, &client_id, Command::EndSession { client_id: client })?;
            words(format!("the session of {client_id} is over"))
        }
        Request::Subscriptions { client, .. } => {
            let client_id = client.unwrap_or_default();
            let shard = serving.map.session(&client_id);
            let wanted = client_id.clone();
            let found = serving.desk.look(shard, move |look| look.view.subscriptions_of(&wanted));
            match found.ok_or_else(|| one(SILENT))? {
                Some(all) => rows_only(all.iter().map(rows::subscription).collect()),
                None => Err(one(format!("{client_id} has no session"))),
            }
        }
        Request::Listeners => rows_only(listeners(serving)),
        Request::Top { by } => rows_only(top(serving, by)),
        Request::Trace { what } => trace(serving, what),
        Request::Reload => {
            let changes = serving.reload()?;
            let rows = changes.iter().map(|change| row(json!({ "changed": change })));
            let said = if changes.is_empty() { "nothing has changed" } else { "" };
            Ok((rows.collect(), said.to_owned()))
        }
        Request::Block { who, minutes, note } => block(serving, who, minutes, &note),
        Request::Unblock { who } => unblock(serving, who),
        Request::Refusals { max } => refusals(serving, max),
        Request::Stop => words("the broker ends"),
        Request::Clients { .. }
        | Request::Sessions { .. }
        | Request::Retained { .. }
        | Request::Drain { .. } => Err(one("this is answered row by row")),
    }
}

const SILENT: &str = "a worker does not answer";

fn command(serving: &Serving, client_id: &str, command: Command) -> Result<(), Vec<String>> {
    match serving.desk.command(serving.map.session(client_id), command) {
        Some(Reply::Done | Reply::Left(_)) => Ok(()),
        Some(Reply::NotFound) => Err(one(format!("{client_id} is not there"))),
        None => Err(one(SILENT)),
    }
}

fn status(serving: &Serving) -> Row {
    let snapshot = Snapshot::take(serving);
    let queues = census::count(&serving.desk);
    let dropped: u64 = snapshot.drops.iter().sum();
    let ready = serving.ready();
    let state = serving.state();
    let store = &state.config.store;
    let storage = serving.storage.as_ref();
    row(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": ready.map_or_else(|why| why, |()| "yes"),
        "uptime_s": snapshot.uptime.as_secs(),
        "workers": serving.map.shards(),
        "configuration": serving.arguments.config.as_ref().map(|path| path.display().to_string()),
        "data_dir": storage.map(|_| store.data_dir.display().to_string()),
        "listeners": state.open.iter().map(|open| open.name.clone()).collect::<Vec<_>>(),
        "connections": snapshot.totals.connections,
        "sessions": snapshot.totals.sessions,
        "subscriptions": snapshot.totals.subscriptions,
        "retained": snapshot.totals.retained,
        "queued": queues.queued + queues.queued_qos0,
        "in_flight": queues.in_flight,
        "dropped": dropped,
        "traces": serving.traces.list().len(),
        "log_lines_lost": snapshot.lost_lines,
    }))
}

fn client(serving: &Serving, client_id: String) -> Outcome {
    let shard = serving.map.session(&client_id);
    let wanted = client_id.clone();
    let found = serving.desk.look(shard, move |look| {
        let session = look.view.session(&wanted)?;
        let filters = look.view.subscriptions_of(&wanted).unwrap_or_default();
        let link = session.connection.as_ref().and_then(|found| look.link(found.conn));
        Some(rows::everything(look.now, &session, link.as_ref(), &filters))
    });
    match found {
        Some(Some(row)) => rows_only(vec![row]),
        Some(None) => Err(one(format!("{client_id} has no session"))),
        None => Err(one(SILENT)),
    }
}

/// Shows rows of all workers, a page at a time, as long as they are wanted.
fn pages(
    serving: &Serving,
    which: &Which,
    lines: &mut Lines<'_>,
    page: impl Fn(&Look<'_>, u32) -> Page<Row> + Clone + Send + 'static,
) -> io::Result<Result<String, Vec<String>>> {
    let mut left = which.max.unwrap_or(usize::MAX);
    for shard in serving.desk.shards() {
        let mut from = Some(0);
        while let Some(at) = from {
            let page = page.clone();
            let Some(found) = serving.desk.look(shard, move |look| page(look, at)) else {
                return Ok(Err(one(SILENT)));
            };
            from = found.next;
            let wanted = found.rows.into_iter().filter(|row| has(row, which.contains.as_deref()));
            for row in wanted.take(left) {
                left -= 1;
                lines.put(&Answer::Row(row))?;
            }
            if left == 0 {
                return Ok(Ok(format!("there may be more than {}", which.max.unwrap_or_default())));
            }
        }
    }
    Ok(Ok(String::new()))
}

fn has(row: &Row, text: Option<&str>) -> bool {
    let Some(text) = text else { return true };
    row.values().any(|value| match value {
        Value::String(found) => found.contains(text),
        _ => false,
    })
}

/// The rows of a page for which there is one.
fn some<T>(page: Page<T>, row: impl FnMut(&T) -> Option<Row>) -> Page<Row> {
    Page { rows: page.rows.iter().filter_map(row).collect(), next: page.next }
}

fn clients(
    serving: &Serving,
    which: &Which,
    lines: &mut Lines<'_>,
) -> io::Result<Result<String, Vec<String>>> {
    pages(serving, which, lines, |look, from| {
        some(look.view.session_page(from, PAGE), |session| {
            let link = look.link(session.connection.as_ref()?.conn);
            Some(rows::client(look.now, session, link.as_ref()))
        })
    })
}

fn sessions(
    serving: &Serving,
    which: &Which,
    lines: &mut Lines<'_>,
) -> io::Result<Result<String, Vec<String>>> {
    pages(serving, which, lines, |look, from| {
        let now = look.now;
        some(look.view.session_page(from, PAGE), |session| Some(rows::session(now, session)))
    })
}

fn subscriptions(
    serving: &Serving,
    which: &Which,
    lines: &mut Lines<'_>,
) -> io::Result<Result<String, Vec<String>>> {
    pages(serving, which, lines, |look, from| {
        some(look.view.subscription_page(from, PAGE), |found| Some(rows::subscription(found)))
    })
}

fn retained(
    serving: &Serving,
    topic: Option<String>,
    which: &Which,
    lines: &mut Lines<'_>,
) -> io::Result<Result<String, Vec<String>>> {
    if let Some(filter) = topic.as_deref().filter(|filter| !codec::topic::is_valid_filter(filter)) {
        return Ok(Err(one(format!("{filter:?} is no Topic Filter"))));
    }
    pages(serving, which, lines, move |look, from| {
        let now = look.now;
        some(look.view.retained_page(from, PAGE), |found| {
            let matches = |filter: &String| codec::topic::matches(filter, &found.topic);
            topic.as_ref().is_none_or(matches).then(|| rows::retained(now, found))
        })
    })
}

fn listeners(serving: &Serving) -> Vec<Row> {
    let state = serving.state();
    let rows = state.open.iter().map(|open| {
        row(json!({
            "name": open.config.name(),
            "address": open.name,
            "tls": open.tls.is_some(),
            "client_certificates": open.tls.as_ref().map(|_| open.config.tls.client_certificates.name()),
            "providers": open.config.providers,
            "connections_max": open.config.connections_max,
            "from": open.config.asker.to_string(),
        }))
    });
    rows.collect()
}

fn top(serving: &Serving, by: By) -> Vec<Row> {
    match by {
        By::Queued => {
            let rows = census::count(&serving.desk).longest.into_iter().map(|found| {
                row(json!({
                    "client": found.client_id,
                    "queued": found.queued,
                    "queued_bytes": found.bytes,
                    "connected": found.connected,
                }))
            });
            rows.collect()
        }
        By::Dropped => {
            let rows = Snapshot::take(serving).dropped.into_iter().map(|found| {
                row(json!({
                    "client": found.client_id,
                    "dropped": found.count,
                    "at_most_too_many": found.over,
                    "reason": found.reason.name(),
                    "last_s_ago": serving.guarded.now().since_ms(found.last) / 1000,
                }))
            });
            rows.collect()
        }
    }
}

fn trace(serving: &Serving, what: TraceWhat) -> Outcome {
    let TraceWhat { client, address, topic, minutes, off } = what;
    if off {
        let count = serving.traces.clear(&serving.desk);
        return words(format!("{count} traces have ended"));
    }
    if client.is_none() && address.is_none() && topic.is_none() {
        let rows = serving
            .traces
            .list()
            .into_iter()
            .map(|(what, left)| row(json!({ "trace": what, "ends_in_s": left.as_secs() })));
        return rows_only(rows.collect());
    }
    if let Some(filter) = topic.as_deref().filter(|filter| !codec::topic::is_valid_filter(filter)) {
        return Err(one(format!("{filter:?} is no Topic Filter")));
    }
    let address = address.map(|text| text.parse::<AddressRange>()).transpose();
    let filter = TraceFilter {
        client_id: client.map(Into::into),
        address: address.map_err(|error| one(error.to_string()))?,
        topic: topic.map(Into::into),
    };
    let said = format!("tracing {filter} for {minutes} minutes; see the log");
    let lasts = Duration::from_secs(minutes.saturating_mul(60).min(7 * 86_400));
    serving.traces.add(&serving.desk, filter, lasts).map_err(one)?;
    words(said)
}

const NEEDS_ACCESS: &str =
    "nobody is asked who connects, so nobody can be kept out; the configuration needs [access]";

fn blocked(who: Who) -> Result<Option<Blocked>, Vec<String>> {
    let Who { client, user, address, client_pattern, user_pattern, address_pattern } = who;
    let address = address.map(|text| text.parse().map(Blocked::Address)).transpose();
    let all = [
        client.map(|text| Blocked::ClientId(text.into())),
        user.map(|text| Blocked::User(text.into())),
        address.map_err(|error| one(error.to_string()))?,
        client_pattern.map(|text| Blocked::ClientIdPattern(text.into())),
        user_pattern.map(|text| Blocked::UserPattern(text.into())),
        address_pattern.map(|text| Blocked::AddressPattern(text.into())),
    ];
    Ok(all.into_iter().flatten().next())
}

fn block(serving: &Serving, who: Who, minutes: Option<u64>, note: &str) -> Outcome {
    let access = serving.guarded.access().ok_or_else(|| one(NEEDS_ACCESS))?;
    let now = serving.guarded.now();
    let Some(of) = blocked(who)? else {
        let access::Reply::Blocks(blocks) = access.command(now, access::Command::Blocks) else {
            return rows_only(Vec::new());
        };
        return rows_only(blocks.iter().map(|block| block_row(now, block)).collect());
    };
    let until = minutes.map(|minutes| now.plus_ms(minutes.saturating_mul(60_000)));
    let said = format!("{} {} is kept out", of.key(), of.value());
    let block = Block { of, until, note: note.into() };
    changed(serving, access.command(now, access::Command::Block(block)), said)
}

fn block_row(now: Time, block: &Block) -> Row {
    row(json!({
        "what": block.of.key(),
        "who": block.of.value(),
        "ends_in_s": block.until.map(|until| until.since_ms(now) / 1000),
        "note": block.note,
    }))
}

fn unblock(serving: &Serving, who: Who) -> Outcome {
    let access = serving.guarded.access().ok_or_else(|| one(NEEDS_ACCESS))?;
    let of = blocked(who)?.ok_or_else(|| one("say whose block ends, such as --client ID"))?;
    let said = format!("{} {} may come again", of.key(), of.value());
    let reply = access.command(serving.guarded.now(), access::Command::Unblock(of));
    changed(serving, reply, said)
}

fn changed(serving: &Serving, reply: access::Reply, said: String) -> Outcome {
    match reply {
        access::Reply::NotFound => Err(one("there is no such block")),
        access::Reply::Failed(why) => Err(one(why)),
        _ => {
            serving.tell_rights_changed();
            words(said)
        }
    }
}

fn refusals(serving: &Serving, max: usize) -> Outcome {
    let access = serving.guarded.access().ok_or_else(|| one(NEEDS_ACCESS))?;
    let now = serving.guarded.now();
    let access::Reply::Refusals(all) = access.command(now, access::Command::Refusals { max })
    else {
        return rows_only(Vec::new());
    };
    let rows = all.iter().map(|refusal| {
        row(json!({
            "s_ago": now.since_ms(refusal.at) / 1000,
            "client": refusal.visitor.client_id,
            "user": refusal.visitor.user,
            "address": refusal.visitor.address.map(|address| address.to_string()),
            "listener": refusal.visitor.listener,
            "provider": refusal.provider,
            "reason": refusal.reason.name(),
            "why": refusal.why,
        }))
    });
    rows_only(rows.collect())
}
