//! The defects that no model looks for, and those that unit tests of the memory manager look for as well: each makes its test fail.

use crate::defects::{Defect::*, must_fail};

#[test]
fn a_lost_parity() {
    must_fail("entry::tests::no_right_outlives_an_edit", &[UnmapParity]);
}

#[test]
fn a_scan_under_an_edit() {
    must_fail("scan::tests::no_scan_begins_under_an_edit", &[ScanUnderEdit]);
}
