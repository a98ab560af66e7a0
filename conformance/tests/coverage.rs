//! How the coverage of the standards' statements is judged.

use std::path::Path;

use conformance::{coverage::Coverage, requirements::Requirements};

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
