//! Metrics and health by HTTP, on threads of their own: whoever reads slowly slows nobody else.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq as _;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot},
    time,
};
use tracing::{info, warn};

use crate::{census::Snapshot, config::HttpConfig, listen, metrics, serving::Serving};

/// Connections at a time; others wait.
const CONNECTIONS_MAX: usize = 64;
/// A connection lasts no longer, whatever is done on it.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// A request is there within this time.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Bytes of a token.
const TOKEN_MAX: u64 = 4096;

/// Servers at work, one for each address.
pub(crate) struct Http {
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
    /// Each ends when its sender is dropped.
    servers: Mutex<BTreeMap<SocketAddr, oneshot::Sender<()>>>,
}

struct Shared {
    serving: OnceLock<Weak<Serving>>,
    token: RwLock<Option<Vec<u8>>>,
    room: Arc<Semaphore>,
}

/// What a configuration wants: addresses are bound, and the token is read.
pub(crate) struct Prepared {
    token: Option<Vec<u8>>,
    wanted: Vec<SocketAddr>,
    bound: Vec<(SocketAddr, TcpListener)>,
    runtime: Option<Runtime>,
}

impl Http {
    /// Nobody is served.
    pub(crate) fn new() -> Self {
        let shared = Shared {
            serving: OnceLock::new(),
            token: RwLock::default(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        Self { shared: Arc::new(shared), runtime: Mutex::default(), servers: Mutex::default() }
    }

    /// Whose numbers are told.
    pub(crate) fn tell_of(&self, serving: &Arc<Serving>) {
        let _ = self.shared.serving.set(Arc::downgrade(serving));
    }

    /// Reads the token, and keeps nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn check(config: &HttpConfig) -> Result<(), String> {
        config.token_file.as_deref().map_or(Ok(()), |path| read_token(path).map(drop))
    }

    /// Does all that can fail.
    ///
    /// # Errors
    /// An address cannot be bound, or the token cannot be read.
    pub(crate) fn prepare(&self, config: &HttpConfig) -> Result<Prepared, String> {
        let token = config.token_file.as_deref().map(read_token).transpose()?;
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bound = Vec::new();
        for address in config.listen.iter().filter(|address| !servers.contains_key(address)) {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            let listener =
                listener.map_err(|error| format!("[http] cannot listen on {address}: {error}"))?;
            bound.push((*address, listener));
        }
        let is_there = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let runtime = (!is_there && !bound.is_empty()).then(start_runtime).transpose()?;
        Ok(Prepared { token, wanted: config.listen.clone(), bound, runtime })
    }

    /// Goes on by what was prepared.
    pub(crate) fn install(&self, prepared: Prepared) {
        let Prepared { token, wanted, bound, runtime } = prepared;
        *self.shared.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        let mut present = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if runtime.is_some() {
            *present = runtime;
        }
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|address, _| wanted.contains(address));
        let Some(runtime) = &*present else { return };
        for (address, listener) in bound {
            if let Ok(real) = listener.local_addr() {
                info!("metrics and health at http://{real}/metrics");
            }
            let (end, ended) = oneshot::channel();
            runtime.spawn(serve(Arc::clone(&self.shared), listener, ended));
            servers.insert(address, end);
        }
    }
}

fn start_runtime() -> Result<Runtime, String> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the thread of [http]: {error}"))
}

fn read_token(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let size = fs::metadata(path).map_err(|error| format!("cannot read {name}: {error}"))?.len();
    if size > TOKEN_MAX {
        return Err(format!("{name} holds {size} bytes, which is no token"));
    }
    let token = fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let token = token.trim_ascii().to_vec();
    if token.is_empty() {
        Err(format!("{name} is empty; write a token into it"))
    } else {
        Ok(token)
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, mut ended: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok(room) = Arc::clone(&shared.room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut ended => return,
        };
        let (stream, local) = match accepted.and_then(|(stream, _)| {
            let local = stream.local_addr()?;
            Ok((stream, local))
        }) {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "[http] cannot accept a connection");
                time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _ = time::timeout(CONNECTION_MAX, answer(shared, stream, local)).await;
            drop(room);
        });
    }
}

async fn answer(shared: Arc<Shared>, stream: TcpStream, local: SocketAddr) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, &request, local).await) }
    });
    // Whoever ends a connection early has its reasons.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    shared: &Shared,
    request: &Request<Incoming>,
    local: SocketAddr,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    let Some(serving) = shared.serving.get().and_then(Weak::upgrade) else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n");
    };
    match request.uri().path() {
        "/health/live" => match blocking(move || serving.alive()).await {
            Some(true) => plain(StatusCode::OK, "live\n"),
            _ => plain(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer\n"),
        },
        "/health/ready" => match blocking(move || serving.ready()).await {
            Some(Ok(())) => plain(StatusCode::OK, "ready\n"),
            Some(Err(why)) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "too busy\n"),
        },
        "/metrics" => match refusal(shared, request, local) {
            Some(refusal) => refusal,
            None => {
                let text = blocking(move || {
                    metrics::text(Snapshot::take(&serving), serving.census.queues())
                });
                let Some(text) = text.await else {
                    return plain(StatusCode::SERVICE_UNAVAILABLE, "too busy\n");
                };
                const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                with_type(StatusCode::OK, TYPE, text)
            }
        },
        _ => plain(StatusCode::NOT_FOUND, "/metrics, /health/live or /health/ready\n"),
    }
}

/// Asking workers takes a moment, which must not hold up other requests.
async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(ask).await.ok()
}

/// Whoever may not know is told why.
fn refusal(
    shared: &Shared,
    request: &Request<Incoming>,
    local: SocketAddr,
) -> Option<Response<Full<Bytes>>> {
    let token = shared.token.read().unwrap_or_else(PoisonError::into_inner);
    let Some(token) = &*token else {
        // Without a token only the machine itself may know.
        if listen::is_loopback(local.ip()) {
            return None;
        }
        let why = "[http] token_file is not set, so metrics are told at loopback addresses only\n";
        return Some(plain(StatusCode::FORBIDDEN, why));
    };
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
    if shown.is_some_and(|shown| shown.ct_eq(token).into()) {
        return None;
    }
    let mut refusal = plain(StatusCode::UNAUTHORIZED, "show the token: Authorization: Bearer …\n");
    let wanted = header::HeaderValue::from_static("Bearer");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, wanted);
    Some(refusal)
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text.to_owned())
}

fn with_type(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
