//! How many lines about refusals get into the log.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
};

use lru::LruCache;
use session_core::Time;

/// In this time, milliseconds ...
const WITHIN_MS: u64 = 60_000;
/// ... so many lines about one address ...
const OF_ADDRESS_MAX: u32 = 5;
/// ... and so many in all.
const MAX: u32 = 300;
/// Addresses that are remembered; of others the oldest is forgotten, and may have lines again.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not 0");

/// Bounds the lines: a storm of logins must not fill a disk. What is left out is counted.
#[derive(Debug)]
pub(super) struct Lines {
    addresses: LruCache<IpAddr, Window>,
    all: Window,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Time,
    written: u32,
    left_out: u64,
}

impl Lines {
    pub(super) fn new() -> Self {
        let mut addresses = LruCache::unbounded();
        addresses.resize(ADDRESSES_MAX);
        Self { addresses, all: Window::default() }
    }

    /// Whether a line about this address may be written now, and then how many were left out since the last
    /// one about it.
    pub(super) fn take(&mut self, now: Time, address: Option<IpAddr>) -> Option<u64> {
        self.all.pass(now);
        let unspecified = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let network = address.map_or(unspecified, network);
        let window = self.addresses.get_or_insert_mut(network, Window::default);
        window.pass(now);
        if window.written >= OF_ADDRESS_MAX || self.all.written >= MAX {
            window.left_out = window.left_out.saturating_add(1);
            return None;
        }
        window.written += 1;
        self.all.written += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

impl Window {
    fn pass(&mut self, now: Time) {
        if now.since_ms(self.since) >= WITHIN_MS {
            (self.since, self.written) = (now, 0);
        }
    }
}

/// One subscriber has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &mut Lines, now: u64, address: &str, tries: usize) -> usize {
        let address = Some(address.parse().unwrap());
        (0..tries).filter(|_| lines.take(Time(now), address).is_some()).count()
    }

    #[test]
    fn an_address_has_a_few_lines_a_minute_and_others_have_theirs() {
        let mut all = Lines::new();
        assert_eq!(lines(&mut all, 100_000, "10.0.0.1", 1000), 5);
        assert_eq!(lines(&mut all, 100_000, "10.0.0.2", 3), 3);
        assert_eq!(lines(&mut all, 100_000, "2001:db8::1", 3), 3);
        assert_eq!(lines(&mut all, 100_000, "2001:db8::2", 3), 2, "the same network");
        assert_eq!(lines(&mut all, 159_999, "10.0.0.1", 10), 0);
        let address = Some("10.0.0.1".parse().unwrap());
        assert_eq!(all.take(Time(160_000), address), Some(1005), "it says how many are missing");
        assert_eq!(all.take(Time(160_000), address), Some(0));
        assert_eq!(all.take(Time(160_000), None), Some(0));
    }

    #[test]
    fn a_storm_from_everywhere_has_bounded_lines_and_memory() {
        let mut all = Lines::new();
        let mut written = 0;
        for number in 0..50_000_u32 {
            written +=
                usize::from(all.take(Time(100_000), Some(IpAddr::V4(number.into()))).is_some());
        }
        assert_eq!(written, MAX as usize);
        assert!(all.addresses.len() <= ADDRESSES_MAX.get());
    }
}
