//! Whether a server that has failed is asked again.

use session_core::Time;

/// When a server is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// After so many failures in a row it is not asked; 0 always asks.
    pub failures: u32,
    /// How long it is left alone, milliseconds. Then one question tries whether it is back.
    pub open_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, open_ms: 10_000 }
    }
}

/// Counts failures in a row, and says when nobody need be asked since nobody answers. A server that hangs
/// then costs the clients no time, and the broker no threads.
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    /// Changes with every change of state: what was asked before tells nothing about the time after.
    epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is asked; so many failures in a row.
    Closed { failures: u32 },
    /// It is left alone until then.
    Open { until: Time },
    /// One question is on its way. If nobody tells its end until then, another one is.
    HalfOpen { until: Time },
}

/// The right to ask once; its end is told with [`Breaker::ended`].
#[derive(Debug)]
#[must_use]
pub struct Pass {
    epoch: u64,
}

impl Breaker {
    /// A breaker that thinks well of its server.
    pub const fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { failures: 0 }, epoch: 0 }
    }

    /// Until when the server is left alone; `None` if [`Breaker::ask`] would let somebody ask.
    pub fn closed_until(&self, now: Time) -> Option<Time> {
        match self.state {
            State::Open { until } | State::HalfOpen { until } if now < until => Some(until),
            _ => None,
        }
    }

    /// The right to ask now.
    ///
    /// # Errors
    /// Until when the server is left alone.
    pub fn ask(&mut self, now: Time) -> Result<Pass, Time> {
        if let Some(until) = self.closed_until(now) {
            return Err(until);
        }
        if !matches!(self.state, State::Closed { .. }) {
            self.change(State::HalfOpen { until: now.plus_ms(self.config.open_ms) });
        }
        Ok(Pass { epoch: self.epoch })
    }

    /// A question has ended: with an answer of any kind, or with none.
    pub fn ended(&mut self, now: Time, pass: Pass, is_answered: bool) {
        if pass.epoch != self.epoch {
            return;
        }
        match (self.state, is_answered) {
            (State::Closed { .. }, true) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, false) => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                if self.config.failures > 0 && failures >= self.config.failures {
                    self.open(now);
                }
            }
            (_, true) => self.change(State::Closed { failures: 0 }),
            (_, false) => self.open(now),
        }
    }

    fn open(&mut self, now: Time) {
        self.change(State::Open { until: now.plus_ms(self.config.open_ms) });
    }

    const fn change(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig { failures: 3, open_ms: 1000 })
    }

    fn asks(breaker: &mut Breaker, now: u64, is_answered: bool) {
        let pass = breaker.ask(Time(now)).expect("it is asked");
        breaker.ended(Time(now), pass, is_answered);
    }

    fn opened() -> Breaker {
        let mut breaker = breaker();
        (0..3).for_each(|now| asks(&mut breaker, now, false));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let mut breaker = breaker();
        for answered in [false, false, true, false, false] {
            asks(&mut breaker, 0, answered);
        }
        assert_eq!(breaker.closed_until(Time(0)), None);
        asks(&mut breaker, 5, false);
        assert_eq!(breaker.ask(Time(5)).unwrap_err(), Time(1005));
        assert_eq!(breaker.ask(Time(1004)).unwrap_err(), Time(1005));
    }

    #[test]
    fn one_question_tries_whether_the_server_is_back() {
        let mut breaker = opened();
        let probe = breaker.ask(Time(1002)).expect("time is up");
        assert_eq!(breaker.ask(Time(1003)).unwrap_err(), Time(2002), "one is enough");
        breaker.ended(Time(1100), probe, true);
        assert_eq!(breaker.closed_until(Time(1100)), None);
        for _ in 0..2 {
            asks(&mut breaker, 1100, false);
        }
        assert_eq!(breaker.closed_until(Time(1100)), None, "it counts from zero");
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_one_that_is_lost_is_replaced() {
        let mut breaker = opened();
        asks(&mut breaker, 1002, false);
        assert_eq!(breaker.closed_until(Time(1500)), Some(Time(2002)));
        let lost = breaker.ask(Time(2002)).expect("time is up");
        assert!(breaker.ask(Time(3001)).is_err());
        let next = breaker.ask(Time(3002)).expect("the first did not come back");
        breaker.ended(Time(3003), lost, false);
        assert!(breaker.ask(Time(3003)).is_err());
        breaker.ended(Time(3004), next, true);
        assert_eq!(breaker.closed_until(Time(3004)), None, "what the lost one tells is too old");
    }

    #[test]
    fn what_was_asked_before_it_opened_neither_closes_it_nor_keeps_it_open() {
        let mut breaker = breaker();
        let (early, late) = (breaker.ask(Time(0)).unwrap(), breaker.ask(Time(0)).unwrap());
        (0..3).for_each(|now| asks(&mut breaker, now, false));
        breaker.ended(Time(500), early, true);
        assert_eq!(breaker.closed_until(Time(500)), Some(Time(1002)));
        breaker.ended(Time(600), late, false);
        assert_eq!(breaker.closed_until(Time(600)), Some(Time(1002)));
    }

    #[test]
    fn a_count_of_zero_always_asks() {
        let mut breaker = Breaker::new(BreakerConfig { failures: 0, open_ms: 1000 });
        (0..100).for_each(|now| asks(&mut breaker, now, false));
        assert_eq!(breaker.closed_until(Time(100)), None);
    }
}
