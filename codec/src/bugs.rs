//! Mistakes that can be switched on, to see which tests find them. Never in a broker.

use core::cell::Cell;
use std::thread_local;

/// A mistake that can be switched on. Some have been made: the CVE is that of another broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Memory for the whole packet is reserved as soon as its length is known (CVE-2023-0809,
    /// CVE-2021-22116).
    ReservesRemainingLength,
    /// Each property copies those before it: quadratic work (CVE-2021-41039).
    CopiesProperties,
    /// A Topic Name of no characters is accepted (CVE-2021-34432).
    PublishesToNothing,
    /// A string with U+0000 is accepted.
    AcceptsNull,
    /// A Variable Byte Integer of five bytes is accepted (CVE-2026-21888).
    ReadsFifthByte,
    /// A Variable Byte Integer that is not minimal is accepted.
    AcceptsOverlongLength,
    /// A Remaining Length that is cut between two bytes is taken for complete.
    ReadsCutLength,
    /// A packet whose end has not come is taken for complete (CVE-2026-25627).
    TakesWhatIsThere,
    /// What follows a packet in one read is lost.
    SwallowsNextPacket,
    /// A packet larger than allowed is accepted.
    IgnoresPacketSize,
    /// A Shared Subscription without a Topic Filter is accepted (CVE-2025-68699).
    SharesWithoutFilter,
    /// A `#` that is not last is accepted.
    AcceptsHashInside,
    /// A Topic Name with a wildcard is accepted.
    PublishesToWildcard,
    /// A string that is not UTF-8 is accepted up to where it is wrong.
    CutsInvalidUtf8,
    /// U+FEFF at the beginning of a string is stripped off.
    StripsByteOrderMark,
    /// Reserved flags of the fixed header are not looked at.
    IgnoresReservedFlags,
    /// A PUBLISH of QoS 3 is accepted.
    AcceptsQoS3,
    /// Packet Identifier 0 is accepted.
    AcceptsIdentifierZero,
    /// A property is accepted twice.
    AcceptsRepeatedProperty,
    /// A property of another packet is accepted.
    AcceptsForeignProperty,
    /// Topic Alias 0 is accepted.
    AcceptsAliasZero,
    /// A Reason Code of another packet is accepted.
    AcceptsForeignReason,
    /// The reserved flag of CONNECT is not looked at.
    IgnoresConnectFlag,
    /// Bytes behind a packet's last field are accepted.
    IgnoresTrailingBytes,
    /// A SUBSCRIBE without a Topic Filter is accepted.
    SubscribesToNothing,
    /// The Message Expiry Interval is looked for where it was before the Topic Alias went.
    MisplacesExpiry,
    /// 128 is written in one byte.
    CutsLengthOf128,
    /// 16,384 is written in two bytes.
    CutsLengthOf16384,
    /// A PUBLISH is written without DUP.
    LosesDup,
}

impl Bug {
    /// Every mistake.
    pub const ALL: [Self; 29] = [
        Self::ReservesRemainingLength,
        Self::CopiesProperties,
        Self::PublishesToNothing,
        Self::AcceptsNull,
        Self::ReadsFifthByte,
        Self::AcceptsOverlongLength,
        Self::ReadsCutLength,
        Self::TakesWhatIsThere,
        Self::SwallowsNextPacket,
        Self::IgnoresPacketSize,
        Self::SharesWithoutFilter,
        Self::AcceptsHashInside,
        Self::PublishesToWildcard,
        Self::CutsInvalidUtf8,
        Self::StripsByteOrderMark,
        Self::IgnoresReservedFlags,
        Self::AcceptsQoS3,
        Self::AcceptsIdentifierZero,
        Self::AcceptsRepeatedProperty,
        Self::AcceptsForeignProperty,
        Self::AcceptsAliasZero,
        Self::AcceptsForeignReason,
        Self::IgnoresConnectFlag,
        Self::IgnoresTrailingBytes,
        Self::SubscribesToNothing,
        Self::MisplacesExpiry,
        Self::CutsLengthOf128,
        Self::CutsLengthOf16384,
        Self::LosesDup,
    ];
}

thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Switches one mistake on in this thread, or all off.
pub fn seed(bug: Option<Bug>) {
    BUG.set(bug);
}

pub(crate) fn is_seeded(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}
