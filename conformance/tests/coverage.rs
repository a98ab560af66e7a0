//! Every statement of the standards that binds a server is proved by a scenario and kept by tagged
//! code, or a written reason says why not; and `docs/conformance.md` shows the table as it is.
#![allow(clippy::print_stderr, reason = "it says which statements are open")]

use std::{fs, path::Path};

use conformance::{
    coverage::{self, Coverage},
    requirements::Requirements,
    sim, suite,
};

const RENEW: &str =
    "cargo run -p conformance -- report --format markdown --output docs/conformance.md";

#[test]
fn every_statement_is_covered_or_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let requirements = Requirements::embedded();
    let files = suite::load(&[root.join("spec-tests")]).expect("the scenarios are readable");
    let coverage = Coverage::measure(&requirements, &files, &root).expect("the code is readable");

    let open: Vec<_> = coverage
        .unexplained()
        .map(|row| format!("{} {}", row.requirement.table.name(), row.requirement.id))
        .collect();
    for problem in &coverage.problems {
        eprintln!("{problem}");
    }
    assert!(
        open.is_empty(),
        "neither covered nor explained in exceptions.tsv: {}",
        open.join(", ")
    );
    assert!(coverage.problems.is_empty(), "{} problems, shown above", coverage.problems.len());

    let shown = coverage::markdown(&coverage, &coverage.verdicts(&sim::play_all(&files)));
    let xml = coverage::junit(&coverage, &coverage.verdicts(&[]));
    let xml = roxmltree::Document::parse(&xml).expect("it is XML");
    let cases = xml.descendants().filter(|node| node.has_tag_name("testcase")).count();
    assert_eq!(cases, requirements.all.len());
    let committed = fs::read_to_string(root.join("docs/conformance.md")).unwrap_or_default();
    assert!(shown == committed, "docs/conformance.md is not fresh, renew it: {RENEW}");
}

#[test]
fn what_lacks_a_scenario_or_a_tag_is_open() {
    const HEAD: &str = "id\tsection\tbinds\tlevel\tobservable\tsame_as\tsummary\thow";
    let v3 = format!("{HEAD}\nX-1\t1\tserver\tMUST\tyes\t\tSay it.\tAsk.\n");
    let v5 = format!("{HEAD}\nMQTT-3.1.0-2\t3.1\tboth\tMUST\tyes\t\tOnce.\tTwice.\n");
    let v5 = v5.replace("same_as\t", "").replace("\t\tOnce", "\tOnce");
    let open = |exceptions: &str| {
        let exceptions = format!("table\tid\tlacks\treason\n{exceptions}");
        let requirements = Requirements::parse(&v3, &v5, &exceptions).expect("tables");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let coverage = Coverage::measure(&requirements, &[], &root).expect("the code is readable");
        let open = coverage.unexplained().map(|row| row.requirement.id.clone());
        (open.collect::<Vec<_>>(), coverage.problems.iter().any(|p| p.contains("exceptions.tsv")))
    };
    assert_eq!(open("").0, ["X-1", "MQTT-3.1.0-2"]);
    assert_eq!(open("v3\tX-1\tscenario\tNobody sees it.\n").0, ["X-1", "MQTT-3.1.0-2"]);
    let both = "v3\tX-1\tscenario\tNobody sees it.\nv3\tX-1\tcode\tNothing does it.\n";
    assert_eq!(open(both), (vec!["MQTT-3.1.0-2".to_owned()], false));
    let tagged = "v5\tMQTT-3.1.0-2\tcode\tThere is a tag, so that this reason is needless.\n";
    assert!(open(tagged).1, "a needless reason is a problem");
    assert!(open("v5\tX-9\tcode\tThere is no such statement.\n").1);
}
