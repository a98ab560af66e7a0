//! Members of share groups.

use codec::{Packet, Publish, QoS};

use super::{Finding, Oracle};
use crate::universe::setup::matches;

impl Oracle {
    /// A message is sent anew to a client: if it is one of a Shared Subscription's, no other member
    /// was sent it at QoS 2 before, whatever became of that one `[MQTT-4.8.2-5]`.
    ///
    /// After a crash, or if the publisher sent it again, it may have been routed twice.
    pub(super) fn judge_group(
        &mut self,
        client: usize,
        number: u16,
        publish: &Publish,
    ) -> Result<(), Finding> {
        let sent = &self.messages[usize::from(number)];
        let topic = self.setup.topics[sent.letter.topic];
        let wishes = self.setup.clients[client].wishes.iter();
        let mut reasons = wishes.filter(|wish| matches(wish.parts().1, topic));
        // With several subscriptions nobody can tell for which of them it comes.
        let (Some(wish), None) = (reasons.next(), reasons.next()) else { return Ok(()) };
        if wish.parts().0.is_none() || sent.entered > 1 || self.crashed {
            return Ok(());
        }
        let key = (wish.filter, number);
        if self.group_sent.get(&key).is_some_and(|member| *member != client) {
            let packet = Packet::Publish(publish.clone());
            return Err(self.fail(client, "shared-once", "another member was sent it", &packet));
        }
        if publish.qos == QoS::ExactlyOnce {
            self.group_sent.insert(key, client);
        }
        Ok(())
    }
}
