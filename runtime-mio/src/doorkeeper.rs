//! Who may knock: asked once for each connection, before anything is done for it.

use std::net::IpAddr;

/// Decides whether a connection may begin. It is called on worker threads, and must not block.
pub trait Doorkeeper: Send + Sync {
    /// Whether a connection may begin at this listener (by its name) from this address: the client's own, if a trusted
    /// proxy tells it. Each that may is followed by one call of [`Doorkeeper::left`].
    ///
    /// # Errors
    /// Why not, for the log.
    fn admit(&self, listener: &str, address: Option<IpAddr>) -> Result<(), &'static str>;

    /// A connection that was admitted has ended.
    fn left(&self, listener: &str, address: Option<IpAddr>);
}
