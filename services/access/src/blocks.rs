//! Who may not even try: blocked clients, with an end and a note.

use std::{collections::HashMap, net::IpAddr};

use regex::Regex;
use session_core::{AddressRange, Time};
use settings::Section;

use crate::matching::whole;

/// What a block speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blocked {
    /// This Client Identifier.
    ClientId(Box<str>),
    /// This User Name.
    User(Box<str>),
    /// These addresses.
    Address(AddressRange),
    /// Client Identifiers that a regular expression fits as a whole.
    ClientIdPattern(Box<str>),
    /// User Names that one fits.
    UserPattern(Box<str>),
    /// Addresses, as text, that one fits.
    AddressPattern(Box<str>),
}

impl Blocked {
    /// What it speaks of, as the file of blocks names it.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::ClientId(_) => "client_id",
            Self::User(_) => "user",
            Self::Address(_) => "address",
            Self::ClientIdPattern(_) => "client_id_pattern",
            Self::UserPattern(_) => "user_pattern",
            Self::AddressPattern(_) => "address_pattern",
        }
    }

    /// Whom it names.
    pub fn value(&self) -> String {
        match self {
            Self::ClientId(text)
            | Self::User(text)
            | Self::ClientIdPattern(text)
            | Self::UserPattern(text)
            | Self::AddressPattern(text) => text.to_string(),
            Self::Address(range) => range.to_string(),
        }
    }
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it speaks of.
    pub of: Blocked,
    /// When it ends; absent: never.
    pub until: Option<Time>,
    /// Why, for people.
    pub note: Box<str>,
}

impl Block {
    fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// All blocks. Looking somebody up takes as long as there are ranges and patterns, however many names there are.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    exact: HashMap<Blocked, Block>,
    ranges: Vec<(AddressRange, Block)>,
    patterns: Vec<(Regex, Block)>,
}

impl Blocks {
    /// Reads the text of a file; `file` is its name for messages.
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let mut blocks = Self::default();
        settings::read(file, text, |top| {
            top.tables("block", |section| {
                let span = section.span();
                match read_block(section).and_then(|block| blocks.add(block)) {
                    Ok(()) => {}
                    Err(problem) => section.problem(&span, problem),
                }
            });
        })?;
        Ok(blocks)
    }

    /// The text of a file with all blocks that still hold.
    pub fn text(&self, now: Time) -> String {
        let mut text =
            String::from("# Written by the broker; changed while it runs by its commands only.\n");
        let quoted = |text: &str| toml::Value::from(text).to_string();
        for block in self.iter().filter(|block| block.holds(now)) {
            let value = quoted(&block.of.value());
            text.push_str(&format!("\n[[block]]\n{} = {value}\n", block.of.key()));
            if let Some(until) = block.until {
                text.push_str(&format!("until_ms = {}\n", until.0));
            }
            if !block.note.is_empty() {
                text.push_str(&format!("note = {}\n", quoted(&block.note)));
            }
        }
        text
    }

    /// Adds a block, or replaces the one of the same clients.
    ///
    /// # Errors
    /// Its regular expression is none.
    pub fn add(&mut self, block: Block) -> Result<(), String> {
        self.remove(&block.of);
        match &block.of {
            Blocked::ClientId(_) | Blocked::User(_) => {
                self.exact.insert(block.of.clone(), block);
            }
            Blocked::Address(range) => self.ranges.push((*range, block)),
            Blocked::ClientIdPattern(text)
            | Blocked::UserPattern(text)
            | Blocked::AddressPattern(text) => {
                let regex = whole(text)?;
                self.patterns.push((regex, block));
            }
        }
        Ok(())
    }

    /// Removes a block. Whether it was there.
    pub fn remove(&mut self, of: &Blocked) -> bool {
        let before = self.len();
        self.exact.remove(of);
        self.ranges.retain(|(_, block)| block.of != *of);
        self.patterns.retain(|(_, block)| block.of != *of);
        self.len() < before
    }

    /// Forgets what holds no longer. Whether there was such a block.
    pub fn sweep(&mut self, now: Time) -> bool {
        let before = self.len();
        self.exact.retain(|_, block| block.holds(now));
        self.ranges.retain(|(_, block)| block.holds(now));
        self.patterns.retain(|(_, block)| block.holds(now));
        self.len() < before
    }

    /// The block that keeps this client out.
    pub fn find(
        &self,
        now: Time,
        client_id: &str,
        user: Option<&str>,
        address: Option<IpAddr>,
    ) -> Option<&Block> {
        let exact = [
            Some(Blocked::ClientId(client_id.into())),
            user.map(|user| Blocked::User(user.into())),
        ];
        let exact = exact.into_iter().flatten().filter_map(|of| self.exact.get(&of));
        let ranges = self.ranges.iter().filter_map(|(range, block)| {
            address.is_some_and(|address| range.contains(address)).then_some(block)
        });
        let address_text = address.map(|address| address.to_canonical().to_string());
        let patterns = self.patterns.iter().filter_map(|(regex, block)| {
            let text = match &block.of {
                Blocked::ClientIdPattern(_) => Some(client_id),
                Blocked::UserPattern(_) => user,
                _ => address_text.as_deref(),
            };
            text.is_some_and(|text| regex.is_match(text)).then_some(block)
        });
        exact.chain(ranges).chain(patterns).find(|block| block.holds(now))
    }

    /// All blocks, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        let ranges = self.ranges.iter().map(|(_, block)| block);
        let patterns = self.patterns.iter().map(|(_, block)| block);
        self.exact.values().chain(ranges).chain(patterns)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.ranges.len() + self.patterns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn read_block(section: &mut Section<'_, '_>) -> Result<Block, String> {
    let mut text = |key| section.string(key).map(|(text, _)| text);
    let address = text("address").map(|text| text.parse().map(Blocked::Address)).transpose()?;
    let all = [
        text("client_id").map(|text| Blocked::ClientId(text.into())),
        text("user").map(|text| Blocked::User(text.into())),
        address,
        text("client_id_pattern").map(|text| Blocked::ClientIdPattern(text.into())),
        text("user_pattern").map(|text| Blocked::UserPattern(text.into())),
        text("address_pattern").map(|text| Blocked::AddressPattern(text.into())),
    ];
    let note = text("note").unwrap_or_default().into();
    let mut until = u64::MAX;
    section.number("until_ms", 0, u64::MAX, &mut until);
    let mut all = all.into_iter().flatten();
    let (Some(of), None) = (all.next(), all.next()) else {
        return Err("a block has one of `client_id`, `user`, `address`, `client_id_pattern`, `user_pattern`, \
                    `address_pattern`"
            .to_owned());
    };
    Ok(Block { of, until: (until < u64::MAX).then_some(Time(until)), note })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(of: Blocked, until: Option<u64>) -> Block {
        Block { of, until: until.map(Time), note: "a \"note\"\n".into() }
    }

    fn all() -> Blocks {
        let mut blocks = Blocks::default();
        for one in [
            block(Blocked::ClientId("bad".into()), None),
            block(Blocked::User("mallory".into()), Some(100)),
            block(Blocked::Address("10.0.0.0/8".parse().unwrap()), None),
            block(Blocked::ClientIdPattern("bot-[0-9]+".into()), None),
            block(Blocked::UserPattern("~.*".into()), None),
            block(Blocked::AddressPattern(r"192\.168\..*\.66".into()), None),
        ] {
            blocks.add(one).unwrap();
        }
        blocks
    }

    fn is_blocked(blocks: &Blocks, now: u64, id: &str, user: Option<&str>, address: &str) -> bool {
        blocks.find(Time(now), id, user, address.parse().ok()).is_some()
    }

    #[test]
    fn each_kind_of_block_keeps_out_whom_it_names_and_nobody_else() {
        for blocks in [all(), Blocks::parse("b", &all().text(Time(0))).unwrap()] {
            assert_eq!(blocks.len(), 6);
            for (id, user, address) in [
                ("bad", None, ""),
                ("c", Some("mallory"), ""),
                ("c", None, "10.1.1.1"),
                ("c", None, "::ffff:10.1.1.1"),
                ("bot-7", None, ""),
                ("c", Some("~x"), ""),
                ("c", None, "192.168.7.66"),
            ] {
                assert!(is_blocked(&blocks, 0, id, user, address), "{id} {user:?} {address}");
            }
            for (id, user, address) in [
                ("Bad", Some("bad"), "11.0.0.1"),
                ("mallory", Some("mallor"), "192.168.7.6"),
                ("bot-7x", None, "fd00::1"),
            ] {
                assert!(!is_blocked(&blocks, 0, id, user, address), "{id} {user:?} {address}");
            }
        }
    }

    #[test]
    fn a_block_ends_and_is_forgotten() {
        let mut blocks = all();
        assert!(is_blocked(&blocks, 99, "c", Some("mallory"), ""));
        assert!(!is_blocked(&blocks, 100, "c", Some("mallory"), ""));
        assert!(!blocks.sweep(Time(99)) && blocks.sweep(Time(100)));
        assert_eq!(blocks.len(), 5);
        assert!(!all().text(Time(100)).contains("mallory"));
    }

    #[test]
    fn blocks_are_replaced_and_removed() {
        let mut blocks = all();
        blocks.add(block(Blocked::ClientId("bad".into()), Some(5))).unwrap();
        assert_eq!(blocks.len(), 6);
        assert!(
            blocks.remove(&Blocked::ClientId("bad".into()))
                && !blocks.remove(&Blocked::ClientId("bad".into()))
        );
        assert!(!is_blocked(&blocks, 0, "bad", None, ""));
        assert!(blocks.add(block(Blocked::UserPattern("(".into()), None)).is_err());
    }

    #[test]
    fn a_wrong_file_is_explained() {
        let text = "[[block]]\nclient_id = \"a\"\nuser = \"b\"\n[[block]]\nuser_pattern = \"(\"\n[[block]]\nadress = \"10.0.0.1\"\n";
        let problems = Blocks::parse("b", text).unwrap_err().join("\n");
        for expected in
            ["b:1:1: a block has one of", "b:4:1: `(` is no regular", "did you mean `address`?"]
        {
            assert!(problems.contains(expected), "{expected}\n{problems}");
        }
    }
}
