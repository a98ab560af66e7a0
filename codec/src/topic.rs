//! Topic Names and Topic Filters: what is valid and what matches.

/// The longest topic or filter in bytes. `[MQTT-4.7.3-3]`
const LEN_MAX: usize = 65_535;

/// Whether these bytes are a Topic Filter by section 4.7: at least one character, `#` last and
/// alone in its level, `+` alone in its level. A `$share/` prefix is not looked at.
pub fn is_valid_filter(filter: &str) -> bool {
    //= [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]
    if filter.is_empty() || filter.len() > LEN_MAX || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/');
    while let Some(level) = levels.next() {
        let valid = match level {
            //= [MQTT-4.7.1-1]
            "#" => levels.next().is_none() || seeded!(AcceptsHashInside),
            //= [MQTT-4.7.1-2]
            "+" => true,
            level => !level.contains(['#', '+']),
        };
        if !valid {
            return false;
        }
    }
    true
}

/// Whether this is a Topic Name by section 4.7: at least one character, no wildcard.
pub fn is_valid_name(name: &str) -> bool {
    //= [MQTT-4.7.3-1] [MQTT-4.7.3-3]
    !name.is_empty()
        && name.len() <= LEN_MAX
        && !name.bytes().any(|b| b == 0)
        && !has_wildcard(name)
}

/// Whether a character of this is a wildcard, which no Topic Name has.
pub(crate) fn has_wildcard(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'#' | b'+'))
}

/// Splits `$share/NAME/FILTER`; `None` if the filter does not begin with `$share/`; `Some(Err(()))`
/// if it does and is no valid Shared Subscription `[MQTT-4.8.2-1]` `[MQTT-4.8.2-2]`.
#[allow(clippy::type_complexity, clippy::result_unit_err, reason = "split and verdict in one")]
pub fn split_shared(filter: &str) -> Option<Result<(&str, &str), ()>> {
    let shared = filter.strip_prefix("$share/")?;
    Some(match shared.split_once('/') {
        Some((name, filter))
            if !name.is_empty() && !has_wildcard(name) && is_valid_filter(filter) =>
        {
            Ok((name, filter))
        }
        None if seeded!(SharesWithoutFilter) => Ok((shared, "")),
        _ => Err(()),
    })
}

/// Whether a filter matches a name, including the rule of `$` topics `[MQTT-4.7.2-1]`. Naive and
/// exact; the broker's routing uses an index instead.
pub fn matches(filter: &str, name: &str) -> bool {
    //= [U3-3.8.3-a]
    //= [MQTT-4.7.3-4] [U5-4.7.1-a] [U5-4.7.3-a]
    //= [MQTT-4.7.2-1]
    if name.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Whether every name that `narrow` matches is matched by `wide` too.
pub fn covers(wide: &str, narrow: &str) -> bool {
    //= [MQTT-4.7.2-1]
    if narrow.starts_with('$') && wide.starts_with(['#', '+']) {
        return false;
    }
    // A name has at least one character, so "#" alone matches the same names as "+/#", and "/#"
    // the same as "/+/#".
    let narrow = match narrow {
        "#" => "+/#",
        "/#" => "/+/#",
        other => other,
    };
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        if level == "#" {
            return true;
        }
        match narrow.next() {
            None | Some("#") => return false,
            Some(narrow) if level == "+" || level == narrow => {}
            Some(_) => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec, vec::Vec};

    use super::*;

    #[test]
    fn filters_are_valid_by_section_4_7() {
        for filter in
            ["#", "+", "/", "//", "a", "a/#", "+/a/+", "/#", "+/#", "$SYS/#", " ", "a/+/b"]
        {
            assert!(is_valid_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "#a", "a/#/b", "a+", "+a/b", "a/b+", "##", "++", "a\0", "#/"] {
            assert!(!is_valid_filter(filter), "{filter:?}");
        }
        assert!(is_valid_filter(&"a".repeat(65_535)));
        assert!(!is_valid_filter(&"a".repeat(65_536)));
    }

    #[test]
    fn names_are_valid_by_section_4_7() {
        for name in ["/", "a", "a//b", "$SYS/x", " ", "ä/\u{FEFF}", &"a".repeat(65_535)] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", "a/+", "#", "a#b", "a+b", "a\0b", &"a".repeat(65_536)] {
            assert!(!is_valid_name(name), "{name:?}");
        }
    }

    #[test]
    fn shared_subscriptions_are_split_and_judged() {
        assert_eq!(split_shared("a/b"), None);
        assert_eq!(split_shared("$share"), None);
        assert_eq!(split_shared("$SHARE/g/t"), None);
        assert_eq!(split_shared("$share/g/t/#"), Some(Ok(("g", "t/#"))));
        assert_eq!(split_shared("$share/g//t"), Some(Ok(("g", "/t"))));
        for filter in [
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//t",
            "$share/g+/t",
            "$share/#/t",
            "$share/g/a#",
        ] {
            assert_eq!(split_shared(filter), Some(Err(())), "{filter}");
        }
    }

    #[test]
    fn filters_match_names() {
        for (filter, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b/c"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+", "a"),
            ("a/+", "a/"),
            ("+/#", "a"),
            ("$SYS/#", "$SYS/monitor/Clients"),
            ("$SYS/+", "$SYS/x"),
            ("a//b", "a//b"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in [
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/monitor", "$SYS/monitor"),
            ("a", "A"),
            ("a", "a/"),
            ("a/+", "a"),
            ("a/b", "a"),
            ("a//b", "a/b"),
        ] {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    /// All names and filters of up to three levels over a small alphabet: `covers` agrees with
    /// what it says of `matches`.
    #[test]
    fn covering_agrees_with_matching() {
        let levels = |alphabet: &[&str]| -> Vec<String> {
            let mut all: Vec<String> = alphabet.iter().map(|l| String::from(*l)).collect();
            let mut last = all.clone();
            for _ in 0..2 {
                last = last
                    .iter()
                    .flat_map(|head| alphabet.iter().map(move |level| format!("{head}/{level}")))
                    .collect();
                all.extend(last.iter().cloned());
            }
            all
        };
        let names: Vec<String> = levels(&["a", "b", "", "$a"])
            .into_iter()
            .flat_map(|name| vec![format!("{name}/z"), format!("{name}/z/z"), name])
            .filter(|name| is_valid_name(name))
            .collect();
        let filters: Vec<String> =
            levels(&["a", "", "$a", "+", "#"]).into_iter().filter(|f| is_valid_filter(f)).collect();
        for wide in &filters {
            for narrow in &filters {
                let all = names.iter().filter(|n| matches(narrow, n)).all(|n| matches(wide, n));
                assert_eq!(covers(wide, narrow), all, "{wide} {narrow}");
            }
        }
    }
}
