//! When a Will is published, and when not `[MQTT-3.1.2-8]` `[MQTT-3.1.3-9]`.

use codec::Packet;
use session_core::Time;

use super::{Finding, Oracle, Sight};

/// The Will of a client's last connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Will {
    pub(super) number: u16,
    pub(super) delay_s: u32,
    /// When it is published; `None` while the connection lives.
    pub(super) due: Option<Time>,
}

impl Oracle {
    /// The connection is gone, with or without a proper goodbye. `certain` is false where the
    /// broker may have been about to do either.
    pub(super) fn decide_will(&mut self, client: usize, goodbye: bool, now: Time) {
        let expiry_s = self.readers[client].expiry_s;
        let Some(will) = &mut self.readers[client].will else { return };
        if goodbye {
            self.messages[usize::from(will.number)].cancelled = true;
            self.readers[client].will = None;
            return self.see(Sight::WillCancelled);
        }
        if will.delay_s == 0 || expiry_s == 0 {
            return self.publish_will(client, now);
        }
        will.due = Some(now.plus_s(will.delay_s.min(expiry_s)));
    }

    /// A Will goes out.
    pub(super) fn publish_will(&mut self, client: usize, now: Time) {
        let Some(will) = self.readers[client].will.take() else { return };
        self.see(Sight::WillPublished);
        self.enter(will.number, now, true);
        self.unwatched(will.number);
    }

    /// The client is back. A session that goes on keeps its Will from being published; one that
    /// does not ends now, and the Will is published for it.
    pub(super) fn will_at_return(&mut self, client: usize, resumed: bool, now: Time) {
        let Some(will) = self.readers[client].will else { return };
        if !resumed {
            self.publish_will(client, now);
        } else if will.due.is_some() {
            self.messages[usize::from(will.number)].cancelled = true;
            self.readers[client].will = None;
            self.see(Sight::WillCancelled);
        }
    }

    /// A Will is sent to somebody: whether it may be by now.
    pub(super) fn judge_will(
        &self,
        number: u16,
        packet: &Packet,
        now: Time,
    ) -> Result<(), Finding> {
        let sent = &self.messages[usize::from(number)];
        let (client, reader) = (sent.publisher, &self.readers[sent.publisher]);
        if sent.cancelled {
            return Err(self.fail(client, "will-when", "its Will was cancelled", packet));
        }
        // What may already have become of the connection cannot be told from outside.
        let is_open = reader.unsettled || reader.lingers || self.pending(client) > 0;
        let mine = reader.will.filter(|will| will.number == number && sent.entered == 0);
        let early = mine.is_some_and(|will| will.due.is_none_or(|due| due > now));
        if early && !is_open && !self.is_leaving(client) {
            return Err(self.fail(client, "will-when", "its Will is not due", packet));
        }
        Ok(())
    }

    /// A CONNECT that will end the delay of a Will was read: it may come at any moment now.
    pub(super) fn will_may_come(&mut self, client: usize, now: Time) {
        if let Some(will) = self.readers[client].will
            && self.messages[usize::from(will.number)].entered == 0
        {
            self.enter(will.number, now, false);
            self.messages[usize::from(will.number)].entered = 1;
        }
    }

    /// Wills whose time has come.
    pub(super) fn wills_due(&mut self, client: usize, now: Time) {
        let due = self.readers[client].will.and_then(|will| will.due);
        if due.is_some_and(|due| due <= now) {
            self.publish_will(client, now);
        }
    }

    /// The broker died while the client was connected: to the client that is a network failure.
    pub(super) fn will_after_crash(&mut self, client: usize, now: Time) {
        if self.readers[client].expiry_s > 0 {
            return self.decide_will(client, false, now);
        }
        // A session that ends with its connection is not kept, nor its Will.
        if let Some(will) = self.readers[client].will.take() {
            self.enter(will.number, now, false);
        }
    }
}
