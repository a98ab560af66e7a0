//! Addresses that fail again and again are kept out for a while.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use session_core::{AddressRange, Time};

/// When addresses are kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardConfig {
    /// So many failures within the time below; 0 keeps nobody out.
    pub failures: u32,
    /// Milliseconds in which they count.
    pub within_ms: u64,
    /// How long an address is kept out the first time, milliseconds; each further time twice as long.
    pub block_ms: u64,
    /// The longest, milliseconds.
    pub block_ms_max: u64,
    /// Addresses that are never kept out, such as that of a proxy.
    pub except: Vec<AddressRange>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            failures: 20,
            within_ms: 60_000,
            block_ms: 60_000,
            block_ms_max: 3_600_000,
            except: Vec::new(),
        }
    }
}

/// Addresses that are remembered at a time. With more, the least lately seen half is forgotten.
const ADDRESSES_MAX: usize = 65_536;

/// Who has failed lately.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    config: GuardConfig,
    recent: HashMap<IpAddr, Record>,
    older: HashMap<IpAddr, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Failures count from here.
    since: Time,
    failures: u32,
    /// Kept out until then.
    until: Time,
    /// How often it was kept out.
    times: u32,
}

impl Guard {
    /// A guard that knows nobody yet.
    pub fn new(config: GuardConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The same with other limits; who is kept out stays so.
    pub fn reconfigure(&mut self, config: GuardConfig) {
        self.config = config;
    }

    /// Until when this address is kept out, if it is.
    pub fn kept_out(&self, now: Time, address: IpAddr) -> Option<Time> {
        let address = network(address);
        let record = self.recent.get(&address).or_else(|| self.older.get(&address))?;
        (now < record.until).then_some(record.until)
    }

    /// Forgets what addresses of a range have done. Whether any of them was kept out.
    pub fn pardon(&mut self, now: Time, range: AddressRange) -> bool {
        let mut was_kept_out = false;
        for records in [&mut self.recent, &mut self.older] {
            records.retain(|address, record| {
                let is_meant = range.contains(*address);
                was_kept_out |= is_meant && now < record.until;
                !is_meant
            });
        }
        was_kept_out
    }

    /// An address has failed. Until when it is kept out now, if this was once too often.
    pub fn failed(&mut self, now: Time, address: IpAddr) -> Option<Time> {
        if self.config.failures == 0
            || self.config.except.iter().any(|range| range.contains(address))
        {
            return None;
        }
        let address = network(address);
        if self.recent.len() >= ADDRESSES_MAX / 2 && !self.recent.contains_key(&address) {
            let mut kept_out: HashMap<_, _> =
                self.older.drain().filter(|(_, record)| now < record.until).collect();
            self.older = std::mem::take(&mut self.recent);
            // A flood of other addresses does not let those in that are kept out, unless these are a flood themselves.
            if kept_out.len() < ADDRESSES_MAX / 4 {
                std::mem::swap(&mut self.recent, &mut kept_out);
            }
        }
        let fresh = Record { since: now, failures: 0, until: Time(0), times: 0 };
        let old = self.older.remove(&address);
        let record = self.recent.entry(address).or_insert_with(|| old.unwrap_or(fresh));
        if now.since_ms(record.since) >= self.config.within_ms {
            (record.since, record.failures) = (now, 0);
        }
        // Who has behaved for as long as the longest block begins anew.
        if now.since_ms(record.until) > self.config.block_ms_max {
            record.times = 0;
        }
        record.failures = record.failures.saturating_add(1);
        if record.failures < self.config.failures || now < record.until {
            return None;
        }
        let doubled = self.config.block_ms.saturating_mul(1 << record.times.min(32));
        record.until = now.plus_ms(doubled.min(self.config.block_ms_max));
        record.times = record.times.saturating_add(1);
        record.failures = 0;
        Some(record.until)
    }
}

/// One subscriber has a whole /64 of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(GuardConfig {
            failures: 3,
            within_ms: 100,
            block_ms: 1000,
            block_ms_max: 3000,
            except: vec!["192.0.2.0/24".parse().unwrap()],
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_fails_too_often_in_a_while_is_kept_out_for_a_while() {
        let (mut guard, one) = (guard(), address("10.0.0.1"));
        assert_eq!(guard.failed(Time(0), one), None);
        assert_eq!(guard.failed(Time(50), one), None);
        assert_eq!(guard.failed(Time(120), one), None, "the first two are long ago");
        assert_eq!(guard.failed(Time(121), one), None);
        assert_eq!(guard.failed(Time(122), one), Some(Time(1122)));
        assert_eq!(guard.kept_out(Time(1121), one), Some(Time(1122)));
        assert_eq!(guard.kept_out(Time(1122), one), None);
        assert_eq!(guard.kept_out(Time(500), address("10.0.0.2")), None);
    }

    #[test]
    fn each_further_time_is_twice_as_long_up_to_the_longest() {
        let (mut guard, one) = (guard(), address("10.0.0.1"));
        let mut now = Time(0);
        let mut longs = Vec::new();
        for _ in 0..4 {
            let until = (0..3).find_map(|_| guard.failed(now, one)).unwrap();
            longs.push(until.since_ms(now));
            now = until;
        }
        assert_eq!(longs, [1000, 2000, 3000, 3000]);
        now = now.plus_ms(3001);
        let until = (0..3).find_map(|_| guard.failed(now, one)).unwrap();
        assert_eq!(until.since_ms(now), 1000, "it has behaved for long");
    }

    #[test]
    fn networks_of_ipv6_count_as_one_and_exceptions_never() {
        let mut guard = guard();
        for host in ["2001:db8::1", "2001:db8::2", "2001:db8::3"] {
            guard.failed(Time(0), address(host));
        }
        assert!(guard.kept_out(Time(1), address("2001:db8::ffff:1")).is_some());
        assert!(guard.kept_out(Time(1), address("2001:db8:0:1::1")).is_none());
        for _ in 0..10 {
            assert_eq!(guard.failed(Time(0), address("192.0.2.9")), None);
        }
        let mut off = Guard::new(GuardConfig { failures: 0, ..GuardConfig::default() });
        assert_eq!(off.failed(Time(0), address("10.0.0.1")), None);
    }

    #[test]
    fn an_address_may_be_pardoned() {
        let (mut guard, one) = (guard(), address("10.0.0.1"));
        for _ in 0..3 {
            guard.failed(Time(0), one);
        }
        assert!(!guard.pardon(Time(1), "10.0.1.0/24".parse().unwrap()));
        assert!(guard.kept_out(Time(1), one).is_some());
        assert!(guard.pardon(Time(1), "10.0.0.0/24".parse().unwrap()));
        assert_eq!(guard.kept_out(Time(1), one), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory() {
        let mut guard = guard();
        for number in 0..200_000_u32 {
            guard.failed(Time(0), IpAddr::V4(number.into()));
        }
        assert!(guard.recent.len() + guard.older.len() <= ADDRESSES_MAX);
        let one = address("192.168.0.1");
        for _ in 0..3 {
            guard.failed(Time(10), one);
        }
        for number in 0..200_000_u32 {
            guard.failed(Time(11), IpAddr::V4(number.into()));
        }
        assert!(guard.kept_out(Time(12), one).is_some(), "a flood lets nobody in");
    }
}
