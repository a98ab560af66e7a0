//! What is bounded, and what is switched on: `[limits]`, `[features]` and `[connections]`.

use access::DoorwayConfig;
use codec::QoS;
use session_core::{ClientLimits, Features, Limits, OverRate, QueueFull, Rates};
use settings::Section;

use super::listener::ranges;

/// Every key has the name of the field it sets; the least values are those with which a broker
/// still works.
pub(super) fn read_limits(section: &mut Section<'_, '_>, limits: &mut Limits) {
    // Named one by one, so that a new limit cannot be forgotten here.
    let Limits {
        connect_timeout_ms,
        ask_timeout_ms,
        reauthenticate_grace_ms,
        connections_max,
        sessions_max,
        client_id_bytes_max,
        connect_packet_bytes_max,
        packet_bytes_max,
        keep_alive_s_max,
        session_expiry_s_max,
        receive_maximum,
        send_window_max,
        packet_id_max,
        topic_alias_maximum,
        topic_alias_out_max,
        subscriptions_per_session_max,
        topic_levels_max,
        topic_bytes_max,
        retained_max,
        retained_bytes_max,
        session_queue_max,
        session_queue_bytes_max,
        session_queue_age_s_max,
        session_queue_full,
        session_resident_max,
        session_resident_bytes_max,
        publishes_in_flight_max,
        link_in_flight_max,
        deliveries_per_turn_max,
        keep_alive_v3_cut,
        client,
        all,
    } = limits;
    /// The largest packet that a Remaining Length can tell of, with its fixed header.
    const PACKET_MAX: u32 = 268_435_455 + 5;
    section.number("connect_timeout_ms", 1, 3_600_000, connect_timeout_ms);
    section.number("ask_timeout_ms", 1, 3_600_000, ask_timeout_ms);
    section.number("reauthenticate_grace_ms", 0, 3_600_000, reauthenticate_grace_ms);
    section.number("connections_max", 1, u32::MAX, connections_max);
    section.number("sessions_max", 1, u32::MAX, sessions_max);
    section.number("client_id_bytes_max", 1, u16::MAX, client_id_bytes_max);
    section.number("connect_packet_bytes_max", 32, PACKET_MAX, connect_packet_bytes_max);
    section.number("packet_bytes_max", 32, PACKET_MAX, packet_bytes_max);
    section.number("keep_alive_s_max", 0, u16::MAX, keep_alive_s_max);
    section.number("session_expiry_s_max", 0, u32::MAX, session_expiry_s_max);
    section.number("receive_maximum", 1, u16::MAX, receive_maximum);
    section.number("send_window_max", 1, u16::MAX, send_window_max);
    section.number("packet_id_max", 1, u16::MAX, packet_id_max);
    section.number("topic_alias_maximum", 0, u16::MAX, topic_alias_maximum);
    section.number("topic_alias_out_max", 0, u16::MAX, topic_alias_out_max);
    section.number("subscriptions_per_session_max", 1, u32::MAX, subscriptions_per_session_max);
    section.number("topic_levels_max", 1, u16::MAX, topic_levels_max);
    section.number("topic_bytes_max", 1, u16::MAX, topic_bytes_max);
    section.number("retained_max", 0, u32::MAX, retained_max);
    section.number("retained_bytes_max", 0, u64::MAX, retained_bytes_max);
    section.number("session_queue_max", 0, u32::MAX, session_queue_max);
    section.number("session_queue_bytes_max", 0, u64::MAX, session_queue_bytes_max);
    section.number("session_queue_age_s_max", 0, u32::MAX, session_queue_age_s_max);
    section.choice_of("session_queue_full", QUEUE_FULL, session_queue_full);
    section.number("session_resident_max", 1, u32::MAX, session_resident_max);
    section.number("session_resident_bytes_max", 0, u64::MAX, session_resident_bytes_max);
    section.number("publishes_in_flight_max", 1, u32::MAX, publishes_in_flight_max);
    section.number("link_in_flight_max", 1, u32::MAX, link_in_flight_max);
    section.number("deliveries_per_turn_max", 1, u32::MAX, deliveries_per_turn_max);
    section.boolean("keep_alive_v3_cut", keep_alive_v3_cut);
    if let Some(read) = read_client_limits(section) {
        *client = read.into();
    }
    let mut together = ClientLimits::default();
    read_rate(section, "all_publish_rate_in", &mut together.publishes_in);
    read_rate(section, "all_byte_rate_in", &mut together.bytes_in);
    *all = together.into();
}

/// Limits of one client, if any of their keys is there.
pub(super) fn read_client_limits(section: &mut Section<'_, '_>) -> Option<ClientLimits> {
    let mut limits = ClientLimits::default();
    let ClientLimits {
        publishes_in,
        bytes_in,
        publishes_out,
        bytes_out,
        over_rate,
        subscriptions_max,
    } = &mut limits;
    read_rate(section, "publish_rate_in", publishes_in);
    read_rate(section, "byte_rate_in", bytes_in);
    read_rate(section, "publish_rate_out", publishes_out);
    read_rate(section, "byte_rate_out", bytes_out);
    section.choice_of("over_rate", OVER_RATE, over_rate);
    let mut max = 0;
    section.number("client_subscriptions_max", 1, u32::MAX, &mut max);
    *subscriptions_max = (max > 0).then_some(max);
    (limits != ClientLimits::default()).then_some(limits)
}

/// A rate in the notation `10:1,300:60`.
fn read_rate(section: &mut Section<'_, '_>, key: &'static str, rates: &mut Rates) {
    if let Some((text, span)) = section.string(key) {
        match text.parse() {
            Ok(read) => *rates = read,
            Err(error) => section.problem(&span, error),
        }
    }
}

const OVER_RATE: &[(&str, OverRate)] = &[
    ("refuse", OverRate::Refuse),
    ("pause", OverRate::Pause),
    ("disconnect", OverRate::Disconnect),
];

/// How many may knock, and how often.
pub(super) fn read_doorway(section: &mut Section<'_, '_>, doorway: &mut DoorwayConfig) {
    read_rate(section, "rate", &mut doorway.rate);
    read_rate(section, "rate_per_address", &mut doorway.rate_per_address);
    let mut max = 0;
    section.number("max_per_address", 1, u32::MAX, &mut max);
    doorway.max_per_address = (max > 0).then_some(max);
    doorway.except = ranges(section, "except");
}

/// What is switched on.
pub(super) fn read_features(section: &mut Section<'_, '_>, features: &mut Features) {
    let Features {
        maximum_qos,
        retain,
        wildcard_subscriptions,
        subscription_identifiers,
        shared_subscriptions,
        response_topic_prefix,
    } = features;
    let mut qos = *maximum_qos as u8;
    section.number("maximum_qos", 0, 2, &mut qos);
    *maximum_qos = QoS::from_bits(qos).unwrap_or_default();
    section.boolean("retain", retain);
    section.boolean("wildcard_subscriptions", wildcard_subscriptions);
    section.boolean("subscription_identifiers", subscription_identifiers);
    section.boolean("shared_subscriptions", shared_subscriptions);
    if let Some((prefix, _)) = section.string("response_topic_prefix") {
        *response_topic_prefix = Some(prefix.into());
    }
}

const QUEUE_FULL: &[(&str, QueueFull)] =
    &[("drop_oldest", QueueFull::DropOldest), ("reject", QueueFull::Reject)];
