//! Doors.

mod certificates;
#[test]
fn t() {
    let d = tempfile::tempdir().unwrap();
    let a = certificates::Authority::new(d.path(), "ca");
    let s = a.server("s", &["localhost", "127.0.0.1"]);
    let c = a.client("alice", 7);
    a.revoke("crl.pem", &[&c]);
    for f in [&s.chain, &s.key, &c.key] {
        assert!(std::fs::read_to_string(f).unwrap().contains("BEGIN"));
    }
}
