//! MQTT 3.1, 3.1.1 and 5.0 control packets: bytes in, packets out, and back.
//!
//! The crate has no I/O, no clock and no `std`. A [`Framer`] cuts a byte stream into packets and
//! judges every rule that can be judged from one packet; a [`Frame`] is one outbound packet,
//! laid out in a connection's buffer at the last moment.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

extern crate alloc;
#[cfg(feature = "bugs")]
extern crate std;

/// Whether a mistake is switched on; never, but where tests are tested.
#[cfg(feature = "bugs")]
macro_rules! seeded {
    ($bug:ident) => {
        crate::bugs::is_seeded(crate::bugs::Bug::$bug)
    };
}
#[cfg(not(feature = "bugs"))]
macro_rules! seeded {
    ($bug:ident) => {
        false
    };
}

#[cfg(feature = "bugs")]
pub mod bugs;
mod decode;
mod encode;
mod error;
mod frame;
mod framer;
mod message;
mod packet;
mod property;
mod reason;
pub mod topic;
mod wire;

pub use error::{DecodeError, EncodeError, Field};
pub use frame::{AckKind, Frame, PublishFrame};
pub use framer::{Framer, Role};
pub use message::Message;
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, PacketType, ProtocolVersion,
    Publish, QoS, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions,
    UnsubAck, Unsubscribe, Will,
};
pub use property::{Properties, Property, PropertyId};
pub use reason::{ReasonCode, Sender};
