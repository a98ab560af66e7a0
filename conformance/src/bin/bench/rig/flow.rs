//! How far the publishers of a group may run ahead of its subscribers: a broker that bounds its
//! queues is not made to drop.

use std::collections::VecDeque;
use std::ops::Range;

use super::plan::Routing;
use super::share::ShareLedger;

/// A group, as far as it goes beyond one publisher or subscriber.
pub(crate) struct Group {
    pub(crate) routing: Routing,
    /// Its publishers in the list of all.
    pub(crate) publishers: Range<usize>,
    /// Its subscribers in the list of all.
    pub(crate) subscribers: Range<usize>,
    /// The number of its first stream, and how many there are.
    pub(crate) first_stream: usize,
    pub(crate) streams: usize,
    /// What members of a shared subscription have received together.
    pub(crate) share: Option<ShareLedger>,
    pub(crate) window: Window,
    /// Publishers that wait until there is room again, in the order in which they came.
    pub(crate) waiting: VecDeque<usize>,
}

/// Counts what is on its way without looking at every subscriber for every message.
#[derive(Debug, PartialEq)]
pub(crate) enum Window {
    /// Every subscriber gets every message, so the slowest one decides. It is looked for only when
    /// all have reached `mark`.
    Slowest {
        window: u64,
        /// Messages that were sent.
        sent: u64,
        /// Messages that every subscriber is known to have.
        base: u64,
        mark: u64,
        /// Subscribers that have not reached the mark.
        behind: usize,
    },
    /// All subscribers together.
    Sum { limit: u64, outstanding: u64 },
    /// Nobody receives.
    Open,
}

impl Window {
    /// For a group with so many subscribers.
    pub(crate) fn new(routing: Routing, window: u64, subscribers: usize) -> Window {
        match routing {
            _ if subscribers == 0 => Window::Open,
            Routing::Each => {
                let mark = (window / 4).max(1);
                Window::Slowest { window, sent: 0, base: 0, mark, behind: subscribers }
            }
            Routing::Some | Routing::Share => {
                let limit = window.saturating_mul(subscribers as u64) / 2;
                Window::Sum { limit: limit.max(1), outstanding: 0 }
            }
        }
    }

    /// Messages that may be sent now, about.
    pub(crate) fn room(&self) -> u64 {
        match *self {
            Window::Slowest { window, sent, base, .. } => {
                base.saturating_add(window).saturating_sub(sent)
            }
            Window::Sum { limit, outstanding } => limit.saturating_sub(outstanding),
            Window::Open => u64::MAX,
        }
    }

    /// One message was sent that so many subscribers get.
    pub(crate) fn send(&mut self, receivers: u64) {
        match self {
            Window::Slowest { sent, .. } => *sent += 1,
            Window::Sum { outstanding, .. } => *outstanding += receivers,
            Window::Open => {}
        }
    }

    /// The count of what one subscriber has received went up; `passed` says of any subscriber how
    /// much that is. Whether publishers that wait should look again.
    pub(crate) fn receive(
        &mut self,
        before: u64,
        after: u64,
        passed: impl Iterator<Item = u64> + Clone,
    ) -> bool {
        match self {
            Window::Slowest { mark, behind, .. } => {
                if before < *mark && after >= *mark {
                    *behind -= 1;
                    if *behind == 0 {
                        self.advance(passed);
                        return true;
                    }
                }
                false
            }
            Window::Sum { limit, outstanding } => {
                *outstanding = outstanding.saturating_sub(after - before);
                *outstanding <= *limit - *limit / 4
            }
            Window::Open => false,
        }
    }

    /// Looks for the slowest subscriber anew.
    fn advance(&mut self, passed: impl Iterator<Item = u64> + Clone) {
        if let Window::Slowest { window, base, mark, behind, .. } = self {
            *base = passed.clone().min().unwrap_or(0);
            *mark = base.saturating_add((*window / 4).max(1));
            *behind = passed.filter(|passed| passed < mark).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two subscribers that have received so much.
    fn receive(window: &mut Window, passed: &mut [u64; 2], who: usize, count: u64) -> bool {
        let before = passed[who];
        passed[who] += count;
        window.receive(before, passed[who], passed.iter().copied())
    }

    #[test]
    fn the_slowest_subscriber_opens_the_window() {
        let mut window = Window::new(Routing::Each, 8, 2);
        let mut passed = [0, 0];
        (0..8).for_each(|_| window.send(2));
        assert_eq!(window.room(), 0);
        assert!(!receive(&mut window, &mut passed, 0, 8));
        assert!(!receive(&mut window, &mut passed, 1, 1));
        assert_eq!(window.room(), 0);
        assert!(receive(&mut window, &mut passed, 1, 2));
        assert_eq!(window.room(), 3);
        assert!(receive(&mut window, &mut passed, 1, 2));
        assert_eq!(window.room(), 5);
    }

    #[test]
    fn a_window_of_one_message_opens_with_each() {
        let mut window = Window::new(Routing::Each, 1, 1);
        for received in 0..3 {
            assert_eq!(window.room(), 1);
            window.send(1);
            assert_eq!(window.room(), 0);
            let passed = std::iter::once(received + 1);
            assert!(window.receive(received, received + 1, passed));
        }
    }

    #[test]
    fn a_sum_opens_when_a_quarter_is_free() {
        let mut window = Window::new(Routing::Some, 8, 2);
        window.send(3);
        window.send(5);
        assert_eq!(window.room(), 0);
        assert!(!window.receive(0, 1, std::iter::empty()));
        assert!(window.receive(1, 2, std::iter::empty()));
        assert_eq!(window.room(), 2);
    }
}
