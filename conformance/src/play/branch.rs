//! `either` and `unordered`: which of several things happened.

use super::{Player, Problem, client::Event, farewell};
use crate::lang::{Action, Expected, PacketSpec, Statement};

impl Player<'_> {
    pub(super) fn unordered(&mut self, statements: &[Statement]) -> Result<(), Problem> {
        let mut left: Vec<_> =
            statements.iter().filter(|statement| statement.is_for(self.version)).collect();
        let mut lines: Vec<(usize, String)> = Vec::new();
        while let Some(first) = left.first() {
            let Action::Expect(name, _) = &first.action else {
                unreachable!("judged by the parser")
            };
            self.link(name)?;
            let client = self.client(name);
            let name = name.clone();
            let Some(Event::Packet { packet, bytes, topic }) = self.next(client)? else {
                let event = self.peek(client);
                return self.not_expected(client, "one of these packets", event);
            };
            let fitting = left.iter().enumerate().find_map(|(index, statement)| {
                let spec = packet_of(statement, &name)?;
                let bindings = self.compare(client, spec, &packet, &topic).ok()?;
                Some((index, spec, bindings))
            });
            let Some((index, spec, bindings)) = fitting else {
                let shown = self.shown(client, &packet, &topic, None);
                let still =
                    left.iter().map(|statement| format!("still expected: {}", statement.text));
                let lines: Vec<_> = still.chain([format!("received: {shown}")]).collect();
                return Err(Problem::from(lines));
            };
            self.variables.extend(bindings);
            self.take(client, &packet, bytes, &topic, Some(spec))?;
            let line = left.remove(index).at.line;
            lines.extend(self.trace.pop().map(|text| (line, text)));
        }
        lines.sort();
        self.trace.extend(lines.into_iter().map(|(_, text)| text));
        Ok(())
    }

    /// The branch whose first statement is met.
    pub(super) fn choose<'s>(
        &mut self,
        branches: &'s [Vec<Statement>],
    ) -> Result<&'s [Statement], Problem> {
        let version = self.version;
        let first = |branch: &'s Vec<Statement>| branch.iter().find(|s| s.is_for(version));
        let expects_nothing =
            |s: &Statement| matches!(s.action, Action::Expect(_, Expected::Nothing));
        let quiet = branches.iter().find(|branch| first(branch).is_none_or(expects_nothing));
        let mut has_settled = false;
        loop {
            let mut is_open = false;
            for branch in branches {
                match first(branch).map(|statement| self.meets(statement)).transpose()? {
                    Some(Some(true)) => return Ok(branch),
                    Some(None) => is_open = true,
                    Some(Some(false)) | None => {}
                }
            }
            match quiet {
                Some(branch) if has_settled => return Ok(branch),
                Some(_) => {
                    self.settle()?;
                    has_settled = true;
                }
                None if is_open && self.advance()? => {}
                None => return Err(self.no_branch(branches.iter().filter_map(first))),
            }
        }
    }

    /// Whether a `<` statement is met; `None` if that cannot be told yet.
    fn meets(&mut self, statement: &Statement) -> Result<Option<bool>, Problem> {
        let (name, expected) = match &statement.action {
            Action::Expect(name, expected) => (name, expected),
            Action::Unordered(statements) => return self.meets_any(statements),
            _ => return Ok(Some(false)),
        };
        self.link(name)?;
        let client = self.client(name);
        self.pull(client);
        if let Expected::Raw(items) = expected {
            return Ok(self.raw_is_there(client, items));
        }
        let Some(event) = self.peek(client) else { return Ok(None) };
        let version = self.clients[client].version;
        Ok(Some(match (expected, event) {
            (Expected::Packet(spec), Event::Packet { packet, topic, .. }) => {
                self.compare(client, spec, &packet, &topic).is_ok()
            }
            (Expected::Closed(_), Event::Closed) => true,
            (Expected::Closed(Some(codes)), Event::Packet { packet, .. }) => {
                farewell(&packet, version).is_some_and(|code| codes.contains(&code))
            }
            _ => false,
        }))
    }

    fn meets_any(&mut self, statements: &[Statement]) -> Result<Option<bool>, Problem> {
        let mut is_open = false;
        for statement in statements.iter().filter(|s| s.is_for(self.version)).collect::<Vec<_>>() {
            match self.meets(statement)? {
                Some(true) => return Ok(Some(true)),
                Some(false) => {}
                None => is_open = true,
            }
        }
        Ok(if is_open { None } else { Some(false) })
    }

    fn no_branch<'s>(&mut self, firsts: impl Iterator<Item = &'s Statement>) -> Problem {
        let mut lines = Vec::new();
        for statement in firsts {
            lines.push(format!("not met: {}", statement.text));
            if let Action::Expect(name, _) = &statement.action {
                let client = self.client(name);
                let event = self.peek(client);
                lines.push(format!("  {name} received: {}", self.event(client, event)));
            }
        }
        Problem::from(lines)
    }
}

/// The packet that a statement expects, if it is about this client.
fn packet_of<'s>(statement: &'s Statement, name: &str) -> Option<&'s PacketSpec> {
    match &statement.action {
        Action::Expect(client, Expected::Packet(spec)) if client == name => Some(spec),
        _ => None,
    }
}
