//! What one client, and all of them together, may use: rates as token buckets, with the time passed in.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use crate::Time;

/// The longest time that a rate may be over, seconds: a day.
const SECONDS_MAX: u32 = 86_400;

/// So many within so many seconds, and no more at once either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// Within so many seconds.
    pub seconds: u32,
}

impl Rate {
    /// What one takes from a bucket: buckets fill by `count` for each millisecond.
    fn unit(self) -> u64 {
        u64::from(self.seconds).saturating_mul(1000)
    }

    fn capacity(self) -> u64 {
        u64::from(self.count).saturating_mul(self.unit())
    }
}

/// Rates that all have to hold, written as `10:1,300:60`: ten within a second, and three hundred within a minute. None
/// at all is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates(Box<[Rate]>);

impl Rates {
    /// These rates.
    pub fn new(rates: impl Into<Box<[Rate]>>) -> Self {
        Self(rates.into())
    }

    /// Whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }

    /// The share of one of so many that share nothing; at least one.
    #[must_use]
    pub fn shared_by(&self, shards: u16) -> Self {
        let share = |rate: &Rate| Rate {
            count: rate.count.checked_div(shards.into()).unwrap_or(rate.count).max(1),
            ..*rate
        };
        Self(self.0.iter().map(share).collect())
    }
}

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |pair: &str| {
            let wrong = || {
                format!("`{pair}` is no rate; write COUNT:SECONDS, such as 10:1 (or 10:1,300:60)")
            };
            let (count, seconds) = pair.trim().split_once(':').ok_or_else(wrong)?;
            let count: u32 = count.trim().parse().map_err(|_| wrong())?;
            let seconds: u32 = seconds.trim().parse().map_err(|_| wrong())?;
            if count == 0 || seconds == 0 || seconds > SECONDS_MAX {
                return Err(format!(
                    "`{pair}` is no rate: at least 1, within 1 to {SECONDS_MAX} seconds"
                ));
            }
            Ok(Rate { count, seconds })
        };
        match text.trim() {
            "" => Ok(Self::default()),
            text => text.split(',').map(parse).collect::<Result<Vec<_>, _>>().map(Self::new),
        }
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> =
            self.0.iter().map(|Rate { count, seconds }| format!("{count}:{seconds}")).collect();
        f.write_str(&pairs.join(",").to_string())
    }
}

/// How much of some rates is used: a bucket for each, full at first.
///
/// All arithmetic is in whole numbers and exact, so that no fraction is lost however often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buckets {
    rates: Rates,
    /// What is in each bucket.
    levels: Box<[u64]>,
    /// They were filled up to here.
    at: Time,
}

impl Buckets {
    /// Full buckets.
    pub fn new(rates: Rates, now: Time) -> Self {
        let levels = rates.0.iter().map(|rate| rate.capacity()).collect();
        Self { rates, levels, at: now }
    }

    /// The rates.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Takes this much out of all buckets, or nothing if one has not so much. What is more than a bucket ever holds is
    /// given when the bucket is full, and empties it: else it would never be.
    pub fn take(&mut self, now: Time, amount: u64) -> bool {
        self.fill(now);
        let costs = self.rates.0.iter().map(|rate| cost(*rate, amount));
        if self.levels.iter().zip(costs.clone()).any(|(level, cost)| *level < cost) {
            return false;
        }
        for (level, cost) in self.levels.iter_mut().zip(costs) {
            *level = level.saturating_sub(cost);
        }
        true
    }

    /// When this much can be taken, if nobody takes anything before.
    pub fn ready(&mut self, now: Time, amount: u64) -> Time {
        self.fill(now);
        let waits = self.rates.0.iter().zip(&self.levels).map(|(rate, level)| {
            cost(*rate, amount).saturating_sub(*level).div_ceil(u64::from(rate.count).max(1))
        });
        now.plus_ms(waits.max().unwrap_or(0))
    }

    fn fill(&mut self, now: Time) {
        let passed_ms = now.since_ms(self.at);
        if passed_ms == 0 {
            return;
        }
        self.at = now;
        for (rate, level) in self.rates.0.iter().zip(&mut self.levels) {
            // After its whole time it is full, however long that is ago.
            let passed_ms = passed_ms.min(rate.unit());
            let more = passed_ms.saturating_mul(rate.count.into());
            *level = level.saturating_add(more).min(rate.capacity());
        }
    }
}

fn cost(rate: Rate, amount: u64) -> u64 {
    amount.saturating_mul(rate.unit()).min(rate.capacity())
}

/// What happens to a client that publishes more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OverRate {
    /// QoS 1 and 2 messages are refused with 0x97, and QoS 0 messages dropped; the client stays. A client before 5.0
    /// cannot be told, and is held up instead.
    #[default]
    Refuse,
    /// It is not read from until it may publish again: nothing is lost.
    Pause,
    /// Its connection ends: with 0x96, if it can be told.
    Disconnect,
}

/// Limits of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientLimits {
    /// Messages from it.
    pub publishes_in: Rates,
    /// Bytes of their topics, properties and payloads.
    pub bytes_in: Rates,
    /// Messages to it. What is beyond waits in its session's queue, QoS 0 in a short one.
    pub publishes_out: Rates,
    /// Bytes of their packets.
    pub bytes_out: Rates,
    /// What happens when it sends more.
    pub over_rate: OverRate,
    /// Subscriptions of its session; absent: as many as everybody.
    pub subscriptions_max: Option<u32>,
}

impl ClientLimits {
    /// Whether they are none.
    pub fn is_unlimited(&self) -> bool {
        self.subscriptions_max.is_none() && !self.limits_in() && !self.limits_out()
    }

    pub(crate) fn limits_in(&self) -> bool {
        !self.publishes_in.is_unlimited() || !self.bytes_in.is_unlimited()
    }

    pub(crate) fn limits_out(&self) -> bool {
        !self.publishes_out.is_unlimited() || !self.bytes_out.is_unlimited()
    }
}

/// Messages and bytes in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Meter {
    messages: Buckets,
    bytes: Buckets,
}

impl Meter {
    pub(crate) fn new(messages: &Rates, bytes: &Rates, now: Time) -> Self {
        Self {
            messages: Buckets::new(messages.clone(), now),
            bytes: Buckets::new(bytes.clone(), now),
        }
    }

    /// Takes a message, or nothing.
    pub(crate) fn take(&mut self, now: Time, bytes: u64) -> bool {
        if self.ready(now, bytes) > now {
            return false;
        }
        self.messages.take(now, 1) && self.bytes.take(now, bytes)
    }

    /// When a message of this size can be taken.
    pub(crate) fn ready(&mut self, now: Time, bytes: u64) -> Time {
        self.messages.ready(now, 1).max(self.bytes.ready(now, bytes))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use proptest::prelude::*;

    use super::*;

    fn rates(text: &str) -> Rates {
        text.parse().expect(text)
    }

    #[test]
    fn rates_are_read_and_written() {
        for text in ["10:1", "10:1,300:60", ""] {
            assert_eq!(rates(text).to_string(), text);
        }
        assert_eq!(rates(" 10 : 1 , 300:60").to_string(), "10:1,300:60");
        for text in [
            "10",
            "10:",
            ":1",
            "x:1",
            "0:1",
            "1:0",
            "1:1:1",
            "1:1,",
            "-1:1",
            "1:86401",
            "5000000000:1",
        ] {
            let error = text.parse::<Rates>().unwrap_err();
            assert!(error.contains("is no rate"), "{text}: {error}");
        }
    }

    #[test]
    fn all_rates_hold() {
        let mut buckets = Buckets::new(rates("2:1,3:10"), Time(0));
        assert_eq!([0, 0, 0].map(|ms| buckets.take(Time(ms), 1)), [true, true, false]);
        assert_eq!(buckets.ready(Time(0), 1), Time(500));
        assert!(!buckets.take(Time(499), 1) && buckets.take(Time(500), 1));
        assert_eq!(buckets.ready(Time(1000), 1), Time(3334), "the slower one");
        assert!(!buckets.take(Time(3333), 1) && buckets.take(Time(3334), 1));
    }

    #[test]
    fn what_is_more_than_a_bucket_holds_is_given_when_it_is_full() {
        let mut buckets = Buckets::new(rates("100:1"), Time(0));
        assert!(buckets.take(Time(0), 1_000_000) && !buckets.take(Time(0), 1));
        assert_eq!(buckets.ready(Time(0), 1_000_000), Time(1000));
        assert!(buckets.take(Time(1000), 1_000_000));
    }

    #[test]
    fn a_leap_of_time_fills_and_no_more() {
        let mut buckets = Buckets::new(rates("4294967295:86400"), Time(0));
        assert!(buckets.take(Time(0), u64::MAX) && !buckets.take(Time(0), 1));
        assert!(buckets.take(Time::NEVER, u64::MAX) && !buckets.take(Time::NEVER, 1));
        assert!(!buckets.take(Time(5), 1), "time that goes back is no time");
    }

    #[test]
    fn shares_are_at_least_one() {
        assert_eq!(rates("10:1,3:60").shared_by(4), rates("2:1,1:60"));
    }

    #[test]
    fn a_meter_takes_both_or_nothing() {
        let mut meter = Meter::new(&rates("2:1"), &rates("10:1"), Time(0));
        assert!(meter.take(Time(0), 10) && !meter.take(Time(0), 1));
        assert!(meter.take(Time(100), 1), "the message that was not taken is still there");
        assert_eq!(meter.ready(Time(100), 1), Time(500));
    }

    proptest! {
        /// Never more than the rate and what a full bucket held, however it is asked; and it is not lost either.
        #[test]
        fn a_bucket_neither_gives_too_much_nor_loses(
            (count, seconds) in (1_u32..50, 1_u32..20),
            steps in proptest::collection::vec((0_u64..3_000, 1_u64..5), 1..100),
        ) {
            let mut buckets = Buckets::new(Rates::new(vec![Rate { count, seconds }]), Time(0));
            let (mut now, mut given) = (Time(0), 0_u64);
            for (wait, amount) in steps {
                now = now.plus_ms(wait);
                let ready = buckets.ready(now, amount);
                let taken = buckets.take(now, amount);
                prop_assert_eq!(taken, ready == now);
                given += if taken { amount.min(count.into()) } else { 0 };
                let most = u64::from(count) + now.0 * u64::from(count) / (u64::from(seconds) * 1000);
                prop_assert!(given <= most, "{} of {}", given, most);
                if !taken {
                    prop_assert!(buckets.clone().take(ready, amount));
                    prop_assert!(!buckets.clone().take(Time(ready.0 - 1), amount));
                }
            }
        }
    }
}
