//! The side of the operator.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::{Map, Value};

use super::{Answer, CtlArguments, DrainArguments, Request, table};

/// Tells the running broker to send its clients away.
///
/// # Errors
/// Why not, one line each.
pub(crate) fn drain(arguments: &DrainArguments) -> Result<(), Vec<String>> {
    let socket = arguments.settings.socket(arguments.socket.as_deref())?;
    let server_reference = arguments.server_reference.clone();
    carry_out(&socket, &Request::Drain { server_reference }, arguments.json)
}

/// Carries a wish out.
///
/// # Errors
/// Why not, one line each.
pub(crate) fn ctl(arguments: &CtlArguments) -> Result<(), Vec<String>> {
    let socket = arguments.settings.socket(arguments.socket.as_deref())?;
    carry_out(&socket, &arguments.what, arguments.json)
}

fn carry_out(socket: &Path, request: &Request, json: bool) -> Result<(), Vec<String>> {
    let name = socket.display();
    let failed = |what: &str, error: &io::Error| vec![format!("{what} {name}: {error}")];
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "; does the broker run? (--config, --data-dir or --socket say which one is meant)"
            }
            io::ErrorKind::PermissionDenied => {
                "; the file's permissions say who may (`mode` in [control] sets them)"
            }
            _ => "",
        };
        vec![format!("cannot reach the broker at {name}: {error}{hint}")]
    })?;
    let line = serde_json::to_string(request).map_err(|error| vec![error.to_string()])?;
    writeln!(stream, "{line}").map_err(|error| failed("cannot ask at", &error))?;
    let mut rows = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|error| failed("no whole answer from", &error))?;
        let answer: Answer = serde_json::from_str(&line)
            .map_err(|error| vec![format!("no answer that is understood from {name}: {error}")])?;
        match answer {
            Answer::Row(row) if json => print(&format!("{}\n", Value::Object(row)))?,
            Answer::Row(row) => rows.push(row),
            Answer::Done(said) => return finish(request, &rows, &said, json),
            Answer::Failed(problems) => return Err(problems),
        }
    }
    Err(vec![format!("the broker at {name} ended before it had answered")])
}

fn finish(
    request: &Request,
    rows: &[Map<String, Value>],
    said: &str,
    json: bool,
) -> Result<(), Vec<String>> {
    if json {
        return Ok(());
    }
    let text = match (request, rows) {
        (Request::Status | Request::Client { .. }, [row]) => table::list(row),
        _ => table::table(rows),
    };
    print(&text)?;
    if said.is_empty() { Ok(()) } else { print(&format!("{said}\n")) }
}

fn print(text: &str) -> Result<(), Vec<String>> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(vec![format!("cannot write: {error}")])
        }
        _ => Ok(()),
    }
}
