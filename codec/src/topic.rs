//! Topic Names and Topic Filters: what is valid and what matches.

/// Whether these bytes are a Topic Filter by section 4.7: at least one character, `#` last and
/// alone in its level, `+` alone in its level. A `$share/` prefix is not looked at.
pub fn is_valid_filter(filter: &str) -> bool {
    let _ = filter;
    unimplemented!()
}

/// Whether this is a Topic Name by section 4.7: at least one character, no wildcard.
pub fn is_valid_name(name: &str) -> bool {
    let _ = name;
    unimplemented!()
}

/// Splits `$share/NAME/FILTER`; `None` if the filter does not begin with `$share/`; `Some(Err(()))`
/// if it does and is no valid Shared Subscription `[MQTT-4.8.2-1]` `[MQTT-4.8.2-2]`.
#[allow(clippy::type_complexity, clippy::result_unit_err, reason = "split and verdict in one")]
pub fn split_shared(filter: &str) -> Option<Result<(&str, &str), ()>> {
    let _ = filter;
    unimplemented!()
}

/// Whether a filter matches a name, including the rule of `$` topics `[MQTT-4.7.2-1]`. Naive and
/// exact; the broker's routing uses an index instead.
pub fn matches(filter: &str, name: &str) -> bool {
    let _ = (filter, name);
    unimplemented!()
}

/// Whether every name that `narrow` matches is matched by `wide` too.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let _ = (wide, narrow);
    unimplemented!()
}
