//! The scenarios and tables of `spec-tests` as they were when this was built.

/// Paths below `spec-tests` with `/` between folders, in order, and what the files hold.
pub static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/spec_tests.rs"));

/// The file of this path.
pub fn file(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}
