//! How many may knock, and how often: before anything is done for a connection.

use std::{collections::HashMap, net::IpAddr};

use session_core::{AddressRange, Buckets, Rates, Time};

use crate::guard::network;

/// Addresses whose rates are remembered at a time. With more, the least lately seen half is forgotten.
const ADDRESSES_MAX: usize = 65_536;

/// How many may knock, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorwayConfig {
    /// New connections at all listeners together.
    pub rate: Rates,
    /// New connections from one address (of IPv6, one /64).
    pub rate_per_address: Rates,
    /// Open connections from one address.
    pub max_per_address: Option<u32>,
    /// Open connections of listeners, by name.
    pub max_by_listener: Vec<(Box<str>, u32)>,
    /// Addresses for which neither of the two per address holds, such as that of a gateway.
    pub except: Vec<AddressRange>,
}

impl DoorwayConfig {
    /// Whether everybody may knock.
    pub fn is_open(&self) -> bool {
        self.rate.is_unlimited()
            && self.rate_per_address.is_unlimited()
            && self.max_per_address.is_none()
            && self.max_by_listener.is_empty()
    }
}

/// Who has knocked, and who is in.
#[derive(Clone, Debug)]
pub struct Doorway {
    config: DoorwayConfig,
    all: Buckets,
    recent: HashMap<IpAddr, Buckets>,
    older: HashMap<IpAddr, Buckets>,
    /// Open connections.
    by_address: HashMap<IpAddr, u32>,
    by_listener: HashMap<Box<str>, u32>,
}

impl Doorway {
    /// Nobody has knocked yet.
    pub fn new(config: DoorwayConfig, now: Time) -> Self {
        let all = Buckets::new(config.rate.clone(), now);
        Self {
            config,
            all,
            recent: HashMap::new(),
            older: HashMap::new(),
            by_address: HashMap::new(),
            by_listener: HashMap::new(),
        }
    }

    /// Goes by another configuration; who is in counts as before.
    pub fn reconfigure(&mut self, config: DoorwayConfig, now: Time) {
        if self.config.rate != config.rate {
            self.all = Buckets::new(config.rate.clone(), now);
        }
        if self.config.rate_per_address != config.rate_per_address {
            (self.recent, self.older) = Default::default();
        }
        self.config = config;
    }

    /// Whether a connection may begin; it counts until [`Doorway::left`].
    ///
    /// # Errors
    /// Why not, for the log.
    pub fn admit(
        &mut self,
        now: Time,
        listener: &str,
        address: Option<IpAddr>,
    ) -> Result<(), &'static str> {
        let max = self.config.max_by_listener.iter().find(|(name, _)| **name == *listener);
        let max = max.map(|(_, max)| *max);
        let open = self.by_listener.get(listener).copied().unwrap_or_default();
        if max.is_some_and(|max| open >= max) {
            return Err("the listener has as many connections as it may");
        }
        let counted = self.counted(address);
        if let Some(address) = counted {
            let open = self.by_address.get(&address).copied().unwrap_or_default();
            if self.config.max_per_address.is_some_and(|max| open >= max) {
                return Err("the address has as many connections as it may");
            }
            if !self.take(now, address) {
                return Err("the address connects too often");
            }
        }
        if !self.all.take(now, 1) {
            return Err("too many connect at once");
        }
        // Everybody counts, so that a limit that comes later is right from the start.
        match self.by_listener.get_mut(listener) {
            Some(count) => *count += 1,
            None => drop(self.by_listener.insert(listener.into(), 1)),
        }
        if let Some(address) = address.map(network) {
            *self.by_address.entry(address).or_default() += 1;
        }
        Ok(())
    }

    /// A connection that was admitted has ended.
    pub fn left(&mut self, listener: &str, address: Option<IpAddr>) {
        if let Some(count) = self.by_listener.get_mut(listener) {
            *count = count.saturating_sub(1);
        }
        if let Some(address) = address.map(network)
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    fn counted(&self, address: Option<IpAddr>) -> Option<IpAddr> {
        let is_excepted =
            |address: &IpAddr| self.config.except.iter().any(|range| range.contains(*address));
        address.filter(|address| !is_excepted(address)).map(network)
    }

    fn take(&mut self, now: Time, address: IpAddr) -> bool {
        if self.config.rate_per_address.is_unlimited() {
            return true;
        }
        if self.recent.len() >= ADDRESSES_MAX / 2 && !self.recent.contains_key(&address) {
            self.older = std::mem::take(&mut self.recent);
        }
        let old = self.older.remove(&address);
        let fresh = || Buckets::new(self.config.rate_per_address.clone(), now);
        self.recent.entry(address).or_insert_with(|| old.unwrap_or_else(fresh)).take(now, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn each_address_has_its_rate_and_its_connections() {
        let config = DoorwayConfig {
            rate_per_address: "2:1".parse().unwrap(),
            max_per_address: Some(3),
            except: vec!["192.0.2.0/24".parse().unwrap()],
            ..DoorwayConfig::default()
        };
        let mut doorway = Doorway::new(config, Time(0));
        let one = address("2001:db8::1");
        assert!(
            doorway.admit(Time(0), "a", one).is_ok() && doorway.admit(Time(0), "b", one).is_ok()
        );
        let neighbour = address("2001:db8::2");
        assert_eq!(
            doorway.admit(Time(0), "a", neighbour),
            Err("the address connects too often"),
            "one /64"
        );
        assert!(doorway.admit(Time(0), "a", address("2001:db8:1::1")).is_ok());
        assert!(doorway.admit(Time(500), "a", one).is_ok());
        let full = Err("the address has as many connections as it may");
        assert_eq!(doorway.admit(Time(9000), "a", one), full);
        doorway.left("a", one);
        assert!(doorway.admit(Time(9000), "a", one).is_ok());
        for _ in 0..10 {
            assert!(doorway.admit(Time(0), "a", address("192.0.2.1")).is_ok(), "excepted");
            assert!(doorway.admit(Time(0), "unix", None).is_ok(), "no address");
        }
    }

    #[test]
    fn all_have_a_rate_and_listeners_their_connections() {
        let config = DoorwayConfig {
            rate: "3:1".parse().unwrap(),
            max_by_listener: vec![("a".into(), 1)],
            ..DoorwayConfig::default()
        };
        let mut doorway = Doorway::new(config, Time(0));
        assert!(doorway.admit(Time(0), "a", None).is_ok());
        let full = Err("the listener has as many connections as it may");
        assert_eq!(doorway.admit(Time(0), "a", None), full);
        assert!(
            doorway.admit(Time(0), "b", None).is_ok() && doorway.admit(Time(0), "b", None).is_ok()
        );
        assert_eq!(doorway.admit(Time(0), "b", None), Err("too many connect at once"));
        doorway.left("a", None);
        assert!(doorway.admit(Time(1000), "a", None).is_ok());
        assert!(DoorwayConfig::default().is_open());
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory() {
        let config = DoorwayConfig {
            rate_per_address: "1:1".parse().unwrap(),
            max_per_address: Some(1),
            ..DoorwayConfig::default()
        };
        let mut doorway = Doorway::new(config, Time(0));
        for number in 0..200_000_u32 {
            let address = Some(IpAddr::V4(number.into()));
            doorway.admit(Time(0), "a", address).unwrap();
            doorway.left("a", address);
        }
        assert!(doorway.recent.len() + doorway.older.len() <= ADDRESSES_MAX);
        assert!(doorway.by_address.is_empty());
    }
}
