//! A few random worlds in every test run; millions by `swarm --seconds N`.

use conformance::swarm;

#[test]
fn the_first_worlds_hold() {
    let mut operations = 0;
    for seed in 1..=60 {
        let run = swarm::run(seed, 1000);
        assert_eq!(run.finding, None, "swarm --seed {seed} --operations 1000");
        operations += run.operations;
    }
    assert!(operations > 30_000, "the worlds were busy: {operations}");
}

#[test]
fn a_seed_names_its_run() {
    let (one, two) = (swarm::run(7, 500), swarm::run(7, 500));
    assert_eq!(one.trace, two.trace);
    assert_eq!(one.sights, two.sights);
}
