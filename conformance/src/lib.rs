//! Scenarios for MQTT brokers: their language, and the player that plays them in memory or over
//! sockets. The language is described in `spec-tests/README.md`.

pub mod coverage;
pub mod deviations;
pub mod differential;
pub mod embedded;
pub mod explore;
pub mod folder;
pub mod lang;
pub mod live;
pub mod play;
pub mod requirements;
pub mod results;
pub mod run;
pub mod sim;
pub mod suite;
pub mod swarm;
pub mod traces;
pub mod tsv;
pub mod universe;
pub mod world;
