//! Bytes to packets.

use crate::Properties;

pub(crate) fn message_properties(raw: &[u8]) -> Properties {
    let _ = raw;
    unimplemented!()
}
