//! Sweeping away what a session leaves that ended: there may be millions of rows.

use crate::{
    changes::Change,
    keys::{self, Sid, kind},
    rows::Rows,
    tables::Tables,
    values,
};

/// Rows that are swept away in one step.
const STEP_ROWS: usize = 1000;

/// Removals of rows, and the bodies that they referred to, once for each.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) changes: Vec<Change>,
    pub(crate) bodies: Vec<u64>,
}

/// Removes the rows of a session that ended, a part at a time; that it ended is forgotten last.
pub(crate) fn sweep<T: Tables>(rows: &Rows<T>, sid: Sid, mut write: impl FnMut(Swept)) {
    for kind in kind::MANY {
        let prefix = keys::of(kind, sid);
        let end = keys::end_of(&prefix);
        let mut begin = prefix;
        loop {
            let (found, _) = rows.collect(&begin, &end, STEP_ROWS);
            let is_last = found.len() < STEP_ROWS;
            if let Some((last, _)) = found.last() {
                begin = [last, &[0][..]].concat();
            }
            if !found.is_empty() {
                let mut swept = Swept::default();
                for (key, value) in found {
                    if kind == kind::QUEUED {
                        swept.bodies.extend(values::body_of(&value));
                    }
                    swept.changes.push(Change::Delete(key));
                }
                write(swept);
            }
            if is_last {
                break;
            }
        }
    }
    let changes = vec![Change::Delete(keys::of(kind::ENDING, sid))];
    write(Swept { changes, bodies: Vec::new() });
}
