//! What was answered lately.

use std::{fmt, num::NonZeroUsize};

use lru::LruCache;
use ring::{hmac, rand::SystemRandom};
use session_core::Time;

/// The name of a question: a hash of all of it, with a key that nobody else has. Neither can the question,
/// and the password in it, be found from its name, nor can another question of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Names questions.
pub struct Namer(hmac::Key);

impl Namer {
    /// One with a key of its own, which is never written anywhere.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, String> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map(Self)
            .map_err(|_| "the system has no randomness".into())
    }

    /// The name of a question.
    pub fn name(&self, question: &[u8]) -> Digest {
        let tag = hmac::sign(&self.0, question);
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        Digest(digest)
    }
}

impl fmt::Debug for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namer(..)")
    }
}

/// Answers by the names of their questions, each for a time of its own. When it is full, what was not used
/// for longest makes room.
#[derive(Debug)]
pub struct Cache<V>(Option<LruCache<Digest, (V, Time)>>);

impl<V: Clone> Cache<V> {
    /// An empty cache for so many answers; 0 keeps none.
    pub fn new(entries_max: usize) -> Self {
        // It grows as it fills.
        Self(NonZeroUsize::new(entries_max).map(|max| {
            let mut entries = LruCache::unbounded();
            entries.resize(max);
            entries
        }))
    }

    /// The answer, unless its time is over.
    pub fn get(&mut self, now: Time, digest: &Digest) -> Option<V> {
        let entries = self.0.as_mut()?;
        let (value, until) = entries.get(digest)?;
        if now < *until {
            return Some(value.clone());
        }
        entries.pop(digest);
        None
    }

    /// Keeps an answer until then.
    pub fn put(&mut self, now: Time, digest: Digest, value: V, until: Time) {
        if let Some(entries) = self.0.as_mut().filter(|_| now < until) {
            entries.put(digest, (value, until));
        }
    }

    /// How many answers it holds, those included whose time is over.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, LruCache::len)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    #[test]
    fn an_answer_holds_until_its_time_and_not_longer() {
        let mut cache = Cache::new(2);
        cache.put(Time(0), digest(1), 'a', Time(100));
        assert_eq!(cache.get(Time(99), &digest(1)), Some('a'));
        assert_eq!(cache.get(Time(99), &digest(2)), None);
        assert_eq!(cache.get(Time(100), &digest(1)), None);
        assert!(cache.is_empty());
        cache.put(Time(100), digest(1), 'b', Time(100));
        assert!(cache.is_empty(), "its time is over before it begins");
    }

    #[test]
    fn a_flood_of_questions_takes_bounded_memory_and_forgets_the_least_used() {
        let mut cache = Cache::new(3);
        for byte in 0..200 {
            cache.put(Time(0), digest(byte), byte, Time(10));
            assert_eq!(cache.get(Time(1), &digest(0)), Some(0), "it is used all the time");
            assert!(cache.len() <= 3);
        }
        assert_eq!(cache.get(Time(1), &digest(199)), Some(199));
        assert_eq!(cache.get(Time(1), &digest(100)), None);
    }

    #[test]
    fn a_cache_of_nothing_keeps_nothing() {
        let mut cache = Cache::new(0);
        cache.put(Time(0), digest(1), 'a', Time(100));
        assert_eq!(cache.get(Time(0), &digest(1)), None);
    }

    #[test]
    fn names_differ_by_question_and_by_key_and_show_nothing() {
        let (one, other) = (Namer::new().unwrap(), Namer::new().unwrap());
        assert_eq!(one.name(b"alice geheim"), one.name(b"alice geheim"));
        assert_ne!(one.name(b"alice geheim"), one.name(b"alice geheim "));
        assert_ne!(one.name(b"alice geheim"), other.name(b"alice geheim"));
        assert_eq!(format!("{:?} {one:?}", one.name(b"geheim")), "Digest(..) Namer(..)");
    }
}
