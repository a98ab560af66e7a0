//! Ranges of network addresses.

use alloc::{format, string::String};
use core::{fmt, net::IpAddr, str::FromStr};

/// Addresses that share their first bits, written as `10.0.0.0/8`; one address without `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// The range of all addresses whose first `bits` bits are those of this one; `None` if it has not so many.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let address = address.to_canonical();
        let shift = width(address).checked_sub(bits)?;
        let first = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.unbounded_shl(shift.into())).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.unbounded_shl(shift.into())).into())
            }
        };
        Some(Self { first, bits })
    }

    /// Whether an address lies in it. An IPv4 address that came by IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && Self::new(address, self.bits) == Some(*self)
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no range of addresses; write 10.0.0.0/8, fd00::/8 or one address")
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = match bits {
            Some(bits) if address.to_canonical() == address => bits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
            None => width(address.to_canonical()),
        };
        let range = Self::new(address, bits).ok_or_else(wrong)?;
        if range.first != address.to_canonical() {
            return Err(format!("`{text}` names one address of a range; write {range}"));
        }
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == width(self.first) {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().expect(text)
    }

    #[test]
    fn a_range_has_the_addresses_that_share_its_bits() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("192.168.1.128/25", "192.168.1.255", "192.168.1.127"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.6"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("::/0", "fd00::1", "10.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
        ] {
            assert!(range(text).contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!range(text).contains(outside.parse().unwrap()), "{text} {outside}");
            assert_eq!(range(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_range_is_explained() {
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "/8", "::ffff:10.0.0.0/104"]
        {
            let error = text.parse::<AddressRange>().unwrap_err();
            assert!(error.contains("is no range of addresses"), "{text}: {error}");
        }
        let error = "10.1.2.3/8".parse::<AddressRange>().unwrap_err();
        assert_eq!(error, "`10.1.2.3/8` names one address of a range; write 10.0.0.0/8");
    }
}
