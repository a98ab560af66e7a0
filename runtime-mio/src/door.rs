//! What holds for the connections of each listener, while listeners come and go.

use std::sync::{Arc, PoisonError, RwLock};

use session_core::AddressRange;

use crate::{
    Listener,
    layers::{TlsDoor, Wanted, WebSocketSetup},
};

/// Names what holds for the connections of a listener from when it was opened, or fitted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DoorId(pub(crate) u16);

/// What is between a socket and MQTT.
#[derive(Clone, Debug)]
pub struct Fittings {
    pub(crate) layers: Wanted,
    pub(crate) handshake_timeout_ms: u64,
}

impl Default for Fittings {
    fn default() -> Self {
        Self { layers: Wanted::default(), handshake_timeout_ms: 10_000 }
    }
}

impl Fittings {
    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(mut self, door: TlsDoor) -> Self {
        self.layers.tls = Some(door);
        self
    }

    /// Speaks WebSocket.
    #[must_use]
    pub fn with_websocket(mut self, setup: WebSocketSetup) -> Self {
        self.layers.websocket = Some(Arc::new(setup));
        self
    }

    /// Is reached by proxies with these addresses only, which tell the client's by the PROXY protocol.
    #[must_use]
    pub fn with_proxies(mut self, ranges: Vec<AddressRange>) -> Self {
        self.layers.proxy = Some(ranges.into());
        self
    }

    /// Gives PROXY, TLS and WebSocket so long together, milliseconds; 10,000 if nothing is said.
    #[must_use]
    pub const fn with_handshake_timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.handshake_timeout_ms = timeout_ms;
        self
    }
}

/// What holds for the connections of a listener.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) name: Box<str>,
    pub(crate) fittings: Fittings,
    pub(crate) is_unix: bool,
}

impl Door {
    pub(crate) fn of(listener: &Listener) -> Self {
        Self {
            name: listener.name().into(),
            fittings: listener.fittings.clone(),
            is_unix: listener.local_addr().is_none(),
        }
    }
}

/// All doors that there ever were: a connection keeps that by which it came.
#[derive(Debug, Default)]
pub(crate) struct Doors(RwLock<Vec<Arc<Door>>>);

impl Doors {
    /// One more; `None` if there were too many already.
    pub(crate) fn add(&self, door: Door) -> Option<DoorId> {
        let mut doors = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let id = u16::try_from(doors.len()).ok()?;
        doors.push(Arc::new(door));
        Some(DoorId(id))
    }

    pub(crate) fn get(&self, id: DoorId) -> Arc<Door> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)[usize::from(id.0)])
    }
}
