//! The small models, explored to their ends in every test run; the others by `explore --check`.

use conformance::explore::{explore, models};

/// States that a debug build explores in a second or two.
const SMALL: usize = 20_000;

#[test]
fn the_small_models_hold_and_have_their_counts() {
    let mut explored_models = 0;
    for model in models::all() {
        if model.states > SMALL {
            continue;
        }
        explored_models += 1;
        let explored = explore(&model.setup, model.states + 1);
        assert_eq!(explored.finding, None, "{}", model.name);
        assert!(explored.is_complete, "{} is not complete", model.name);
        assert_eq!(explored.states, model.states, "{} has another number of states", model.name);
        for sight in model.sights {
            assert!(explored.sights & sight.bit() != 0, "{} never saw {sight:?}", model.name);
        }
    }
    assert!(explored_models >= 6, "{explored_models} models are small");
}
