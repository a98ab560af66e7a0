//! Members of share groups.

use codec::{Packet, QoS};

use super::{Finding, Oracle};

impl Oracle {
    /// A share group loses a member: what it was sent at QoS 2 is lost with it, and with the last
    /// member everything.
    pub(super) fn member_leaves(&mut self, client: usize, group: &'static str) {
        let in_group = |other: usize| {
            let wishes = self.setup.clients[other].wishes.iter();
            wishes
                .zip(&self.readers[other].grants)
                .any(|(wish, grant)| wish.parts().0 == Some(group) && grant.is_certain())
        };
        let others = (0..self.readers.len()).any(|other| other != client && in_group(other));
        let fresh = &self.readers[client].fresh;
        self.group_owed
            .retain(|(owed, number)| *owed != group || (others && !fresh.contains_key(number)));
        for sent in &mut self.messages {
            if !others {
                sent.hoped_groups.remove(group);
            }
        }
    }

    /// A message is sent anew to a client: if it is one of a Shared Subscription's, no other member
    /// was sent it at QoS 2 before, whatever became of that one `[MQTT-4.8.2-5]`.
    ///
    /// After a crash, or if the publisher sent it again, it may have been routed twice.
    pub(super) fn judge_group(
        &mut self,
        client: usize,
        number: u16,
        qos: QoS,
        packet: &Packet,
    ) -> Result<(), Finding> {
        let sent = &self.messages[usize::from(number)];
        let topic = self.setup.topics[sent.letter.topic];
        let mut reasons = self.setup.clients[client].wishes_for(topic);
        // With several subscriptions nobody can tell for which of them it comes.
        let (Some(wish), None) = (reasons.next(), reasons.next()) else { return Ok(()) };
        if wish.parts().0.is_none() || sent.entered > 1 || self.crashed {
            return Ok(());
        }
        let key = (wish.filter, number);
        if self.group_sent.get(&key).is_some_and(|member| *member != client) {
            return Err(self.fail(client, "shared-once", "another member was sent it", packet));
        }
        if qos == QoS::ExactlyOnce {
            self.group_sent.insert(key, client);
        }
        Ok(())
    }
}
