//! 128-bit fingerprints: with 10^8 states two of them collide with a chance of 10^-23.

use std::hash::{Hash, Hasher};

/// Two lanes of folded multiplication with different constants; the same on every machine.
#[derive(Clone, Debug)]
pub struct Fingerprinter {
    low: u64,
    high: u64,
}

/// The fingerprint of a value.
pub fn fingerprint(value: &impl Hash) -> u128 {
    let mut hasher = Fingerprinter { low: 0x243F_6A88_85A3_08D3, high: 0x1319_8A2E_0370_7344 };
    value.hash(&mut hasher);
    (u128::from(hasher.low) << 64) | u128::from(hasher.high)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Hasher for Fingerprinter {
    fn finish(&self) -> u64 {
        self.low ^ self.high
    }

    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.low = fold(self.low ^ value ^ 0xA409_3822_299F_31D0, 0x9E37_79B9_7F4A_7C15)
            .wrapping_add(0x082E_FA98_EC4E_6C89);
        self.high = fold(self.high ^ value ^ 0x4528_21E6_38D0_1377, 0xD6E8_FEB8_6659_FD93)
            .rotate_left(29)
            .wrapping_add(0xBE54_66CF_34E9_0C6C);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn small_values_and_their_orders_differ() {
        let mut seen = BTreeSet::new();
        for a in 0_u64..300 {
            for b in 0_u64..300 {
                assert!(seen.insert(fingerprint(&(a, b))), "({a}, {b})");
            }
        }
        assert_ne!(fingerprint(&vec![0_u8; 3]), fingerprint(&vec![0_u8; 4]));
    }
}
