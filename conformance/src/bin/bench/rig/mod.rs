//! What both benchmarks are made of: brokers that are started and read through /proc, connections,
//! and a load whose every delivery is checked.

pub(crate) mod broker;
mod client;
mod flow;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod open;
mod pace;
pub(crate) mod packet;
pub(crate) mod plan;
pub(crate) mod recipe;
mod share;
pub(crate) mod statistics;
