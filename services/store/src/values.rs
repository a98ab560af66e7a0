//! What stands in rows, as bytes.
//!
//! Reading judges everything: bytes that no broker wrote give `None`, never a panic and never an
//! allocation that the bytes do not pay for.

use std::sync::Arc;

use codec::{Message, QoS, RetainHandling, SubscriptionOptions, Will};
use session_core::{
    Extra, Flight, Ids, Place, Publication, Queued, Retained, SessionId, SessionRef, ShardId,
    Shared, Subject, Subscription, Time,
};

use crate::{
    subjects::{self, Subjects},
    wire::{Reader, Write},
};

/// Who a session is; this never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) shard: ShardId,
    pub(crate) session: SessionId,
    pub(crate) client_id: Box<str>,
}

/// How long a session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) expiry_s: u32,
    pub(crate) ends: Option<Time>,
}

/// An outbound exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) place: Place,
    /// Only PUBCOMP is missing.
    pub(crate) released: bool,
}

const RETAIN: u8 = 0b100;
const EXTRA: u8 = 0b1000;
const SHARED: u8 = 0b1_0000;
const PUBLISHER: u8 = 0b10_0000;
const BODY: u8 = 0b100_0000;
/// Whose right it rests on is told; rows of earlier versions have none.
const BY: u8 = 0b1000_0000;

fn flags(qos: QoS, retain: bool) -> u8 {
    qos as u8 | if retain { RETAIN } else { 0 }
}

fn qos(flags: u8) -> Option<QoS> {
    QoS::from_bits(flags & 0b11)
}

/// The row is as it says, and holds nothing else.
fn whole<T>(rest: Reader<'_>, value: T) -> Option<T> {
    rest.is_at_end().then_some(value)
}

pub(crate) fn put_session(out: &mut Vec<u8>, session: SessionId) {
    out.u32(session.slot());
    out.u32(session.generation());
}

fn session(rest: &mut Reader<'_>) -> Option<SessionId> {
    Some(SessionId::new(rest.u32()?, rest.u32()?))
}

impl Identity {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.client_id.len().saturating_add(14));
        out.u16(self.shard.0);
        put_session(&mut out, self.session);
        out.bytes(self.client_id.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let shard = ShardId(rest.u16()?);
        let (session, client_id) = (session(&mut rest)?, rest.text()?.into());
        whole(rest, Self { shard, session, client_id })
    }
}

fn put_time(out: &mut Vec<u8>, time: Option<Time>) {
    out.u8(u8::from(time.is_some()));
    out.u64(time.map_or(0, |time| time.0));
}

fn time(rest: &mut Reader<'_>) -> Option<Option<Time>> {
    let (is_some, time) = (rest.u8()?, rest.u64()?);
    Some((is_some > 0).then_some(Time(time)))
}

impl Lifetime {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(13);
        out.u32(self.expiry_s);
        put_time(&mut out, self.ends);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let (expiry_s, ends) = (rest.u32()?, time(&mut rest)?);
        whole(rest, Self { expiry_s, ends })
    }
}

impl Exchange {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(17);
        out.u8(u8::from(self.released));
        put_place(&mut out, self.place);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let (released, place) = (rest.u8()? > 0, place(&mut rest)?);
        whole(rest, Self { place, released })
    }
}

pub(crate) fn put_place(out: &mut Vec<u8>, place: Place) {
    out.u64(place.number);
    out.u64(place.end);
}

pub(crate) fn place(rest: &mut Reader<'_>) -> Option<Place> {
    Some(Place { number: rest.u64()?, end: rest.u64()? })
}

pub(crate) fn encode_will(will: &Will, due: Option<Time>) -> Vec<u8> {
    let mut out = Vec::with_capacity(will.message.size().saturating_add(14));
    out.u8(flags(will.qos, will.retain));
    out.u32(will.delay_s);
    put_time(&mut out, due);
    out.extend_from_slice(will.message.as_bytes());
    out
}

pub(crate) fn decode_will(bytes: &[u8]) -> Option<(Will, Option<Time>)> {
    let mut rest = Reader(bytes);
    let (flags, delay_s, due) = (rest.u8()?, rest.u32()?, time(&mut rest)?);
    let message = Message::from_bytes(rest.rest())?;
    Some((Will { qos: qos(flags)?, retain: flags & RETAIN > 0, delay_s, message }, due))
}

pub(crate) fn encode_subscription(of: Subscription) -> Vec<u8> {
    let SubscriptionOptions { qos, no_local, retain_as_published, retain_handling } = of.options;
    let handling = match retain_handling {
        RetainHandling::Send => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::DoNotSend => 2,
    };
    let mut out = Vec::with_capacity(8);
    out.extend([qos as u8, u8::from(no_local), u8::from(retain_as_published), handling]);
    out.u32(of.id);
    out
}

pub(crate) fn decode_subscription(bytes: &[u8]) -> Option<Subscription> {
    let mut rest = Reader(bytes);
    let options = SubscriptionOptions {
        qos: qos(rest.u8()?)?,
        no_local: rest.u8()? > 0,
        retain_as_published: rest.u8()? > 0,
        retain_handling: match rest.u8()? {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        },
    };
    let id = rest.u32()?;
    whole(rest, Subscription { options, id })
}

/// Without the number of its place, which is in the key; with the number of its body if that is a row of
/// its own.
pub(crate) fn encode_queued(of: &Queued, body: Option<u64>) -> Vec<u8> {
    let size = body.map_or(of.message.size(), |_| 8);
    // Exact for nearly all: what is kept would be copied if it were too large.
    let mut out = Vec::with_capacity(size.saturating_add(17));
    let extra = of.extra.as_deref();
    let share = extra.and_then(|extra| extra.share.as_ref());
    let extra_flag = if extra.is_some() { EXTRA } else { 0 };
    let share_flag = if share.is_some() { SHARED } else { 0 };
    let body_flag = if body.is_some() { BODY } else { 0 };
    out.u8(flags(of.qos, of.retain) | extra_flag | share_flag | body_flag);
    out.u64(of.at.0);
    out.u64(of.place.end);
    if let Some(extra) = extra {
        let ids: &[u32] = match &extra.ids {
            Ids::None => &[],
            Ids::One(id) => &[*id],
            Ids::Many(ids) => ids,
        };
        out.u16(u16::try_from(ids.len()).unwrap_or(u16::MAX));
        ids.iter().take(u16::MAX.into()).for_each(|id| out.u32(*id));
    }
    if let Some(Shared { filter, qos, retain }) = share {
        out.u8(flags(*qos, *retain));
        out.bytes(filter.as_bytes());
    }
    match body {
        Some(body) => out.u64(body),
        None => out.extend_from_slice(of.message.as_bytes()),
    }
    out
}

/// The number of a queued message's body, if that is a row of its own.
pub(crate) fn body_of(bytes: &[u8]) -> Option<u64> {
    if bytes.first()? & BODY == 0 {
        return None;
    }
    // It stands at the end.
    bytes.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// `body` finds the bytes of a body that is a row of its own.
pub(crate) fn decode_queued(
    number: u64,
    bytes: &[u8],
    body: impl FnOnce(u64) -> Option<Message>,
) -> Option<Queued> {
    let mut rest = Reader(bytes);
    let (flags, at, end) = (rest.u8()?, Time(rest.u64()?), rest.u64()?);
    let mut extra = None;
    if flags & (EXTRA | SHARED) > 0 {
        let count = if flags & EXTRA > 0 { rest.u16()? } else { 0 };
        let ids = (0..count).map(|_| rest.u32()).collect::<Option<Vec<u32>>>()?;
        let ids = match &ids[..] {
            [] => Ids::None,
            [id] => Ids::One(*id),
            _ => Ids::Many(Box::new(ids)),
        };
        let mut share = None;
        if flags & SHARED > 0 {
            let flags = rest.u8()?;
            let (qos, retain) = (qos(flags)?, flags & RETAIN > 0);
            share = Some(Shared { filter: rest.text()?.into(), qos, retain });
        }
        extra = Some(Box::new(Extra { ids, share }));
    }
    let message = if flags & BODY > 0 {
        body(rest.u64()?).filter(|_| rest.is_at_end())?
    } else {
        Message::from_bytes(rest.rest())?
    };
    let place = Place { number, end };
    Some(Queued { message, qos: qos(flags)?, retain: flags & RETAIN > 0, at, place, extra })
}

/// Whose right a message rests on, with its flag. What cannot be told is left out: nobody will be asked.
fn by_bytes(by: Option<&Arc<Subject>>) -> (u8, Option<Vec<u8>>) {
    let bytes = by.and_then(|by| subjects::encode(by));
    (if bytes.is_some() { BY } else { 0 }, bytes)
}

fn by(flags: u8, rest: &mut Reader<'_>, subjects: &mut Subjects) -> Option<Option<Arc<Subject>>> {
    if flags & BY == 0 {
        return Some(None);
    }
    Some(Some(subjects.read(rest.bytes()?)?))
}

/// Without its flight, which a crash ends, and its origin, which is its shard.
pub(crate) fn encode_publication(of: &Publication) -> Vec<u8> {
    let (by_flag, by) = by_bytes(of.by.as_ref());
    let room =
        if of.publisher.is_some() { 19 } else { 9 } + by.as_ref().map_or(0, |by| by.len() + 4);
    let mut out = Vec::with_capacity(of.message.size().saturating_add(room));
    let publisher = if of.publisher.is_some() { PUBLISHER } else { 0 };
    out.u8(flags(of.qos, of.retain) | publisher | by_flag);
    out.u64(of.at.0);
    if let Some(SessionRef { shard, session }) = of.publisher {
        out.u16(shard.0);
        put_session(&mut out, session);
    }
    by.into_iter().for_each(|by| out.bytes(&by));
    out.extend_from_slice(of.message.as_bytes());
    out
}

pub(crate) fn decode_publication(
    origin: ShardId,
    bytes: &[u8],
    subjects: &mut Subjects,
) -> Option<Publication> {
    let mut rest = Reader(bytes);
    let (flags, at) = (rest.u8()?, Time(rest.u64()?));
    let publisher = if flags & PUBLISHER > 0 {
        let shard = ShardId(rest.u16()?);
        Some(SessionRef { shard, session: session(&mut rest)? })
    } else {
        None
    };
    let by = by(flags, &mut rest, subjects)?;
    let message = Message::from_bytes(rest.rest())?;
    let (qos, retain, flight) = (qos(flags)?, flags & RETAIN > 0, Flight::Unwatched);
    Some(Publication { message, qos, retain, at, publisher, by, origin, flight })
}

pub(crate) fn encode_retained(of: &Retained) -> Vec<u8> {
    let (by_flag, by) = by_bytes(of.by.as_ref());
    let room = 9 + by.as_ref().map_or(0, |by| by.len() + 4);
    let mut out = Vec::with_capacity(of.message.size().saturating_add(room));
    out.u8(flags(of.qos, true) | by_flag);
    out.u64(of.at.0);
    by.into_iter().for_each(|by| out.bytes(&by));
    out.extend_from_slice(of.message.as_bytes());
    out
}

pub(crate) fn decode_retained(bytes: &[u8], subjects: &mut Subjects) -> Option<Retained> {
    let mut rest = Reader(bytes);
    let (flags, at) = (rest.u8()?, Time(rest.u64()?));
    let by = by(flags, &mut rest, subjects)?;
    let message = Message::from_bytes(rest.rest())?;
    Some(Retained { message, qos: qos(flags)?, at, by })
}

#[cfg(test)]
mod tests {
    use codec::{Properties, Property};
    use proptest::prelude::*;

    use super::*;

    fn message() -> Message {
        let properties = [Property::MessageExpiryInterval(9), Property::ContentType("t".into())];
        Message::new("a/b", &properties.into_iter().collect::<Properties>(), b"xyz").unwrap()
    }

    fn queued(extra: Option<Extra>) -> Queued {
        Queued {
            message: message(),
            qos: QoS::ExactlyOnce,
            retain: true,
            at: Time(77),
            place: Place { number: 5, end: 600 },
            extra: extra.map(Box::new),
        }
    }

    fn publication(publisher: Option<SessionRef>) -> Publication {
        Publication {
            message: message(),
            qos: QoS::AtLeastOnce,
            retain: false,
            at: Time(78),
            publisher,
            by: None,
            origin: ShardId(3),
            flight: Flight::Unwatched,
        }
    }

    /// Every value is read back, and no part of it is taken for a whole one that is another.
    #[test]
    fn values_are_read_back() {
        let share = Shared { filter: "$share/g/#".into(), qos: QoS::AtLeastOnce, retain: true };
        for extra in [
            None,
            Some(Extra { ids: Ids::One(7), share: None }),
            Some(Extra { ids: Ids::Many(Box::new(vec![7, 8])), share: Some(share.clone()) }),
            Some(Extra { ids: Ids::None, share: Some(share) }),
        ] {
            let queued = queued(extra);
            let bytes = encode_queued(&queued, None);
            assert_eq!(body_of(&bytes), None);
            assert_eq!(decode_queued(5, &bytes, |_| None), Some(queued.clone()));
            let bytes = encode_queued(&queued, Some(99));
            assert_eq!(body_of(&bytes), Some(99));
            assert_eq!(decode_queued(5, &bytes, |_| None), None);
            let body = |number| (number == 99).then(message);
            assert_eq!(decode_queued(5, &bytes, body), Some(queued));
        }
        let session = SessionRef { shard: ShardId(1), session: SessionId::new(2, 3) };
        let read = &mut Subjects::default();
        let by = Some(Arc::new(Subject { client_id: "c".into(), ..Subject::default() }));
        for publication in [publication(None), publication(Some(session))] {
            for publication in [Publication { by: by.clone(), ..publication.clone() }, publication]
            {
                let bytes = encode_publication(&publication);
                assert_eq!(decode_publication(ShardId(3), &bytes, read), Some(publication));
            }
        }
        let will = Will { qos: QoS::AtMostOnce, retain: true, delay_s: 4, message: message() };
        for due in [None, Some(Time(9))] {
            assert_eq!(decode_will(&encode_will(&will, due)), Some((will.clone(), due)));
        }
        for by in [None, by] {
            let retained = Retained { message: message(), qos: QoS::AtMostOnce, at: Time(1), by };
            assert_eq!(decode_retained(&encode_retained(&retained), read), Some(retained));
        }
        let session = SessionId::new(7, 8);
        let identity = Identity { shard: ShardId(6), session, client_id: "c".into() };
        assert_eq!(Identity::decode(&identity.encode()), Some(identity));
        for ends in [None, Some(Time(0))] {
            let lifetime = Lifetime { expiry_s: 5, ends };
            assert_eq!(Lifetime::decode(&lifetime.encode()), Some(lifetime));
        }
        for released in [false, true] {
            let exchange = Exchange { place: Place { number: 1, end: 2 }, released };
            assert_eq!(Exchange::decode(&exchange.encode()), Some(exchange));
        }
        for retain_handling in
            [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
        {
            let options = SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                no_local: true,
                retain_as_published: false,
                retain_handling,
            };
            let subscription = Subscription { options, id: 268_435_455 };
            let bytes = encode_subscription(subscription);
            assert_eq!(decode_subscription(&bytes), Some(subscription));
            assert_eq!(decode_subscription(&bytes[1..]), None);
        }
    }

    /// Rows that were written before it was told whose right a message rests on.
    #[test]
    fn earlier_rows_are_read() {
        let at = 7_u64.to_be_bytes();
        let row = [&[0b101][..], &at, message().as_bytes()].concat();
        let (qos, at) = (QoS::AtLeastOnce, Time(7));
        let retained = Retained { message: message(), qos, at, by: None };
        assert_eq!(decode_retained(&row, &mut Subjects::default()), Some(retained.clone()));
        assert_eq!(encode_retained(&retained), row);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (Identity::decode(&bytes), Lifetime::decode(&bytes), Exchange::decode(&bytes));
            let _ = (decode_will(&bytes), decode_subscription(&bytes));
            let read = &mut Subjects::default();
            let _ = (decode_retained(&bytes, read), decode_publication(ShardId(0), &bytes, read));
            let _ = decode_queued(1, &bytes, |_| None);
        }
    }
}
