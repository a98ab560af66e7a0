//! The broker as its operator has it: configuration, reload, logs, metrics, health, control, drain.

mod config;
mod control;
mod logs;
mod observe;
mod reload;
mod support;
