//! Rights that come with an answer: lists of Topic Filters, or of TBMQ's expressions.

use std::sync::Arc;

use codec::topic::is_valid_filter;
use session_core::{Action, Actions, Level, LevelTest, Pattern, Rule};

/// What may be done, and nothing else.
pub(super) struct Lists {
    pub(super) publish: Vec<String>,
    pub(super) subscribe: Vec<String>,
}

const RECEIVE: &[Action] = &[Action::Subscribe, Action::Receive];

/// The rights that lists of Topic Filters are.
///
/// # Errors
/// Which entry is none; its text is not repeated.
pub(super) fn of_filters(provider: &str, lists: &Lists) -> Result<Vec<Rule>, String> {
    let pattern = |filter: &str| {
        is_valid_filter(filter).then(|| Pattern::of_filter(filter)).ok_or("is no Topic Filter")
    };
    rules(provider, lists, pattern, pattern)
}

/// The rights that TBMQ's lists are, which hold regular expressions over whole topics.
///
/// Rights here are lists of levels, since a level is what nobody can get out of by what he writes into it. So
/// an expression is taken if it says the same as levels do: text with `\`-escapes, `[^/]+` for a level, `.*` for
/// the rest. What holds `+` or `#` as a level of its own is a Topic Filter, as many write there. All else is an
/// error, since to read it narrower or wider than it was meant would be a guess.
///
/// # Errors
/// Which entry says something else; its text is not repeated.
pub(super) fn of_expressions(provider: &str, lists: &Lists) -> Result<Vec<Rule>, String> {
    let publish = |text: &str| expression(text, Action::Publish);
    let subscribe = |text: &str| expression(text, Action::Subscribe);
    rules(provider, lists, publish, subscribe)
}

fn rules(
    provider: &str,
    lists: &Lists,
    publish: impl Fn(&str) -> Result<Pattern, &'static str>,
    subscribe: impl Fn(&str) -> Result<Pattern, &'static str>,
) -> Result<Vec<Rule>, String> {
    let source: Arc<str> = format!("the answer of provider {provider}").into();
    let mut rules = Vec::with_capacity(lists.publish.len() + lists.subscribe.len());
    let mut add = |name, number: usize, actions, pattern: Result<Pattern, &str>| {
        let pattern =
            pattern.map_err(|why| format!("entry {number} of `{name}` in its answer {why}"))?;
        let rule = Rule::new(true, Actions::of(actions), pattern, "");
        rules.push(Rule { source: Arc::clone(&source), ..rule });
        Ok::<_, String>(())
    };
    for (number, text) in (1..).zip(&lists.publish) {
        add("publish", number, &[Action::Publish], publish(text))?;
    }
    for (number, text) in (1..).zip(&lists.subscribe) {
        add("subscribe", number, RECEIVE, subscribe(text))?;
    }
    Ok(rules)
}

fn expression(text: &str, action: Action) -> Result<Pattern, &'static str> {
    const UNKNOWN: &str = "is an expression that levels cannot say; write a Topic Filter";
    let is_wild = |level: &str| matches!(level, "+" | "#");
    if text.split('/').any(is_wild) {
        let is_plain = |level| is_wild(level) || literal(level).as_deref() == Some(level);
        let is_filter = text.split('/').all(is_plain) && is_valid_filter(text);
        return is_filter.then(|| Pattern::of_filter(text)).ok_or("is no Topic Filter");
    }
    // TBMQ compares the whole topic, with or without these.
    let text = text.strip_prefix('^').unwrap_or(text);
    let text = text.strip_suffix('$').unwrap_or(text);
    let mut levels = Vec::new();
    let mut texts = text.split('/').peekable();
    while let Some(text) = texts.next() {
        match text {
            ".*" if texts.peek().is_none() => {
                // `a/.*` fits no message to `a`. For subscriptions TBMQ compares the filter's text, and so
                // it takes `a/#`, which gets the messages of `a` too.
                if action == Action::Publish && !levels.is_empty() {
                    levels.push(Level::Any);
                }
                levels.push(Level::Rest);
            }
            // `[^` and `]+` have been split at the `/` between them.
            "[^" if texts.peek() == Some(&"]+") => {
                texts.next();
                levels.push(match action {
                    Action::Publish => Level::Passes(LevelTest::new("[^/]+", |l| !l.is_empty())),
                    _ => Level::Any,
                });
            }
            "[^" if texts.peek() == Some(&"]*") => {
                texts.next();
                levels.push(Level::Any);
            }
            text => levels.push(Level::Is(literal(text).ok_or(UNKNOWN)?.into())),
        }
    }
    if text.is_empty() {
        return Err("is empty");
    }
    Ok(Pattern::new(levels))
}

/// The text that an expression of one level stands for, if it is only one. A dot is a dot: whoever writes
/// `v1.2` means it, and otherwise gets less than he wrote.
fn literal(text: &str) -> Option<String> {
    let mut literal = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => literal.push(chars.next().filter(|next| !next.is_alphanumeric())?),
            '.' if matches!(chars.peek(), Some('*' | '+' | '?' | '{')) => return None,
            '[' | ']' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '|' | '^' | '#' | '\0' => {
                return None;
            }
            // At the beginning of a topic it is no anchor: `$SYS`.
            '$' if !literal.is_empty() || chars.peek().is_none() => return None,
            char => literal.push(char),
        }
    }
    Some(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str, topic: &str) -> bool {
        let pattern = expression(text, Action::Publish);
        pattern.unwrap_or_else(|why| panic!("{text} {why}")).matches(topic)
    }

    fn subscribed(text: &str, filter: &str) -> bool {
        let pattern = expression(text, Action::Subscribe);
        pattern.unwrap_or_else(|why| panic!("{text} {why}")).covers(filter)
    }

    #[test]
    fn expressions_that_say_what_levels_say_are_taken_exactly() {
        for (text, topic, fits) in [
            (".*", "a/b", true),
            ("^.*$", "a", true),
            ("a/.*", "a/b", true),
            ("a/.*", "a/b/c", true),
            ("a/.*", "a/", true),
            ("a/.*", "a", false),
            ("a/.*", "b/a", false),
            ("a/[^/]+/c", "a/b/c", true),
            ("a/[^/]+/c", "a//c", false),
            ("a/[^/]*/c", "a//c", true),
            ("a/[^/]+/c", "a/b/b/c", false),
            ("a/[^/]+/.*", "a/b/c/d", true),
            (r"v1\.2/\$x", "v1.2/$x", true),
            (r"v1\.2", "v1x2", false),
            ("v1.2", "v1.2", true),
            ("^a/b$", "a/b", true),
            ("$own/a", "$own/a", true),
            ("a/+/c", "a/b/c", true),
            ("a/#", "a", true),
        ] {
            assert_eq!(published(text, topic), fits, "{text} and {topic}");
        }
    }

    #[test]
    fn subscriptions_are_compared_as_tbmq_does_by_their_text() {
        for (text, filter, fits) in [
            ("a/.*", "a/#", true),
            ("a/.*", "a/+/b", true),
            ("a/.*", "b/#", false),
            ("a/.*", "#", false),
            (".*", "#", true),
            ("a/[^/]+", "a/+", true),
            ("a/[^/]+", "a/#", false),
            ("a/b", "a/+", false),
        ] {
            assert_eq!(subscribed(text, filter), fits, "{text} and {filter}");
        }
    }

    #[test]
    fn an_expression_that_levels_cannot_say_is_an_error_and_no_guess() {
        for text in [
            "", "^$", "a|b", "(a|b)/c", "a/.*/c", "a/.+", "a.*", ".*b", "a/[a-z]+", r"a/\d+", "a?",
            "a/b{2}", "a/^b", "a$/b", "a/#/b", "a+", "a/x+", "+/a|b", r"a\", "a/[^/]", "a/[^/]+b",
            "[^", "a/b[^/]+",
        ] {
            assert!(expression(text, Action::Publish).is_err(), "{text}");
            assert!(expression(text, Action::Subscribe).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_says_where_it_comes_from() {
        let lists = Lists { publish: vec!["a".into()], subscribe: vec!["b".into(), "x#".into()] };
        let problem = of_filters("hook", &lists).unwrap_err();
        assert_eq!(problem, "entry 2 of `subscribe` in its answer is no Topic Filter");
        let lists = Lists { publish: vec!["a".into()], subscribe: vec![] };
        let rules = of_filters("hook", &lists).unwrap();
        assert_eq!(&*rules[0].source, "the answer of provider hook");
    }
}
