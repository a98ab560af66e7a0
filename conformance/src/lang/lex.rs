//! One line at a time: white space, words, values.

use super::{Literal, ParseError, Position};

/// What is left of one line.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    rest: &'a str,
    at: Position,
}

/// A value with the field it is written for.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub(super) at: Position,
    /// `name` of `name=value`.
    pub(super) field: Option<String>,
    pub(super) value: TermValue,
}

#[derive(Clone, Debug)]
pub(super) enum TermValue {
    Literal(Literal),
    /// `*`
    Any,
    /// `!field`; the name is in [`Term::field`].
    Absent,
}

impl<'a> Line<'a> {
    pub(super) fn new(text: &'a str, number: usize) -> Self {
        let mut line = Self { rest: text.trim_end(), at: Position { line: number, column: 1 } };
        line.skip_space();
        line
    }

    pub(super) fn at(&self) -> Position {
        self.at
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.at, message))
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.is_empty() {
            return Ok(());
        }
        self.error(format!("expected the end of the line, found `{}`", self.rest))
    }

    /// Takes this text if it comes next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = self.rest.starts_with(text);
        if found {
            self.skip(text.len());
        }
        found
    }

    /// Takes characters up to white space or the end, then the white space.
    pub(super) fn word(&mut self) -> &'a str {
        let word = self.take_while(|c| !c.is_whitespace());
        self.skip_space();
        word
    }

    pub(super) fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn skip(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.at.column += taken.chars().count();
        self.rest = rest;
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let taken = &self.rest[..self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len())];
        self.skip(taken.len());
        taken
    }

    /// `value`, `field=value`, `field` is left to the caller as a word, `!field`.
    pub(super) fn term(&mut self) -> Result<Term, ParseError> {
        let at = self.at;
        if self.take("!") {
            let field = self.take_while(is_field_char).to_owned();
            if field.is_empty() {
                return self.error("expected the name of a field after `!`");
            }
            self.boundary()?;
            return Ok(Term { at, field: Some(field), value: TermValue::Absent });
        }
        let name_end = self.rest.find(|c| !is_field_char(c)).unwrap_or(self.rest.len());
        let (name, behind) = self.rest.split_at(name_end);
        let field = (!name.is_empty() && behind.starts_with('=')).then(|| name.to_owned());
        if field.is_some() {
            self.skip(name_end + 1);
        }
        let value = self.value()?;
        self.boundary()?;
        Ok(Term { at, field, value })
    }

    fn boundary(&mut self) -> Result<(), ParseError> {
        if self.peek().is_some_and(|c| !c.is_whitespace()) {
            return self.error(format!("expected white space, found `{}`", self.rest));
        }
        self.skip_space();
        Ok(())
    }

    fn value(&mut self) -> Result<TermValue, ParseError> {
        if self.rest == "*" || self.rest.starts_with("* ") {
            self.skip(1);
            return Ok(TermValue::Any);
        }
        if let Some(name) = self.variable() {
            return Ok(TermValue::Literal(Literal::Variable(name.to_owned())));
        }
        let first = match self.bytes()? {
            Some(bytes) => Literal::Bytes(bytes),
            None => Literal::Word(self.bare_word()?.to_owned()),
        };
        if !self.take(":") {
            return Ok(TermValue::Literal(first));
        }
        let first = match first {
            Literal::Word(word) => word.into_bytes(),
            Literal::Bytes(bytes) => bytes,
            Literal::Pair(..) | Literal::Variable(_) => unreachable!("made above"),
        };
        match self.bytes()? {
            Some(second) => Ok(TermValue::Literal(Literal::Pair(first, second))),
            None => self.error("expected a text in quotes or x'…' after `:`"),
        }
    }

    /// `$name`; `$name/…` is a topic instead.
    fn variable(&mut self) -> Option<&'a str> {
        let name = self.rest.strip_prefix('$')?.split_whitespace().next()?;
        let is_name = self.rest.as_bytes().get(1).is_some_and(|byte| !byte.is_ascii_whitespace())
            && name.chars().all(is_field_char);
        is_name.then(|| self.skip(1 + name.len()))?;
        Some(name)
    }

    /// Characters up to white space, or up to a `:` that begins the second part of a pair.
    fn bare_word(&mut self) -> Result<&'a str, ParseError> {
        let end = self
            .rest
            .char_indices()
            .find(|(index, c)| {
                let behind = &self.rest[index + c.len_utf8()..];
                let second = *c == ':' && (behind.starts_with('"') || behind.starts_with("x'"));
                c.is_whitespace() || second
            })
            .map_or(self.rest.len(), |(index, _)| index);
        let word = &self.rest[..end];
        if word.is_empty() {
            return self.error("expected a value");
        }
        if let Some(bad) = word.chars().find(|c| matches!(c, '"' | '=')) {
            return self.error(format!("a word holds no `{bad}`: write `{word}` in quotes"));
        }
        self.skip(end);
        Ok(word)
    }

    /// `"…"`, `x'…'`, either followed by `*n`; `None` if neither begins here.
    pub(super) fn bytes(&mut self) -> Result<Option<Vec<u8>>, ParseError> {
        let bytes = if self.take("\"") {
            self.quoted()?
        } else if self.take("x'") {
            self.hexadecimal()?
        } else {
            return Ok(None);
        };
        if !self.take("*") {
            return Ok(Some(bytes));
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse::<usize>() {
            Ok(times) if times <= 1 << 28 => Ok(Some(bytes.repeat(times))),
            _ => self.error("expected how many times, such as `\"x\"*1000`"),
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, ParseError> {
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return self.error("expected a closing `\"`"),
                Some('"') => {
                    self.skip(1);
                    return Ok(text.into_bytes());
                }
                Some('\\') => text.push(self.escape()?),
                Some(c) => {
                    self.skip(c.len_utf8());
                    text.push(c);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        self.skip(1);
        let escaped = match self.peek() {
            Some(c @ ('"' | '\\')) => c,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('0') => '\0',
            Some('u') => return self.unicode_escape(),
            _ => return self.error(r#"expected one of \" \\ \n \r \t \0 \u{…}"#),
        };
        self.skip(1);
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char, ParseError> {
        self.skip(1);
        if self.take("{") {
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            let value = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
            if let Some(c) = value
                && self.take("}")
            {
                return Ok(c);
            }
        }
        self.error(r"expected a Unicode scalar value, such as \u{e9}; for other bytes write x'…'")
    }

    /// The digits and the closing quote of `x'…'` or `s'…'`.
    pub(super) fn hexadecimal(&mut self) -> Result<Vec<u8>, ParseError> {
        let digits = self.take_while(|c| c.is_ascii_hexdigit() || c == ' ').replace(' ', "");
        if !self.take("'") {
            return self.error("expected hexadecimal digits and a closing `'`");
        }
        match hexadecimal(&digits) {
            Some(bytes) => Ok(bytes),
            None => self.error("expected an even number of hexadecimal digits"),
        }
    }

    /// A run of hexadecimal digits, for `raw`.
    pub(super) fn digits(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_hexdigit())
    }
}

/// The bytes of an even number of hexadecimal digits.
pub(super) fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}

/// A number in decimal, or in hexadecimal after `0x`.
pub(super) fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if word.starts_with(|c: char| c.is_ascii_digit()) => word.parse().ok(),
        None => None,
    }
}

fn is_field_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}
