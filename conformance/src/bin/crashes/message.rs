//! The messages of the load: publisher and number say everything about one, so that each can be
//! recognised, and seen to be whole, wherever it turns up.

use codec::{Message, Properties};
use conformance::sim::Rng;

/// Topics of each publisher. Those of one are owned by several shards.
pub(crate) const TOPICS: usize = 3;

/// Bytes of publisher and number.
const NAME_BYTES: usize = 12;

/// One message of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) publisher: usize,
    pub(crate) number: usize,
}

impl Name {
    /// Which of its publisher's topics it goes to.
    pub(crate) fn topic(self) -> usize {
        self.rng().below(TOPICS)
    }

    pub(crate) fn message(self) -> Message {
        let topic = topic(self.publisher, self.topic());
        Message::new(&topic, &Properties::new(), &self.payload()).expect("topics here are short")
    }

    /// The message that this is; `None` if no publisher would have made it.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        let (publisher, rest) = message.payload().split_first_chunk::<4>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        let publisher = u32::from_be_bytes(*publisher) as usize;
        let number = usize::try_from(u64::from_be_bytes(*number)).ok()?;
        let name = Self { publisher, number };
        (message.payload() == name.payload()
            && message.topic_str() == topic(publisher, name.topic()))
        .then_some(name)
    }

    /// Most are small, a few take several blocks of any file: together enough for the log to be written
    /// into tables every few rounds.
    fn payload(self) -> Vec<u8> {
        let mut rng = self.rng();
        let most = match rng.below(100) {
            0 => 20_000,
            1..15 => 4000,
            _ => 200,
        };
        let bytes = rng.below(most);
        let mut payload = Vec::with_capacity(NAME_BYTES + bytes);
        payload.extend((self.publisher as u32).to_be_bytes());
        payload.extend((self.number as u64).to_be_bytes());
        payload.resize(NAME_BYTES + bytes, self.number as u8);
        payload
    }

    fn rng(self) -> Rng {
        Rng::new((self.publisher as u64) << 48 | self.number as u64)
    }
}

/// A topic of the load.
pub(crate) fn topic(publisher: usize, topic: usize) -> String {
    format!("load/{publisher}-{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_recognised_whole_and_in_its_topic_only() {
        for number in 0..1000 {
            let name = Name { publisher: 3, number };
            assert_eq!(Name::of(&name.message()), Some(name));
        }
        let message = Name { publisher: 3, number: 7 }.message();
        let payload = message.payload();
        let cut = &payload[..payload.len() - 1];
        for (topic, payload) in [(message.topic_str(), cut), ("load/2-0", payload), ("a", b"")] {
            let other = Message::new(topic, &Properties::new(), payload).unwrap();
            assert_eq!(Name::of(&other), None);
        }
    }
}
