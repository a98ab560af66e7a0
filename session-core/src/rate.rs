//! What one client may use: rates and numbers.

/// Limits of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientLimits {}
