//! The defects that no model looks for, and those that host tests look for as well: each makes its test fail.
#![cfg(not(loom))]
#![allow(clippy::duplicate_mod, reason = "the tests share what is set up for them")]

#[path = "../../../../mm/tests/basics.rs"]
mod basics;
#[path = "../../../../swapd/tests/memory.rs"]
mod memory;
#[path = "../../../../swapd/tests/pressure.rs"]
mod pressure;
#[path = "../../../../mm/tests/rights.rs"]
mod rights;

/// What is run here; the tests themselves are run over the code as it is, by the crates that have them.
mod found {
    use quire_mm::defects::{Defect::*, must_fail};

    /// Race 44.
    #[test]
    fn no_nodes_in_reserve() {
        must_fail("basics::race_44_no_nodes_after_the_publish", &[NoReserve]);
    }

    #[test]
    fn pages_under_a_reservation_unseen() {
        must_fail("basics::pieces_of_a_reservation_begin_with_zeros", &[IdleUnseen]);
    }

    #[test]
    fn a_look_before_the_claim() {
        must_fail("rights::a_view_for_reading_is_never_writable", &[ProtectLookedBefore]);
    }

    /// Race 25.
    #[test]
    fn an_error_of_the_disk_that_is_overlooked() {
        must_fail("memory::race_25_the_disk_fails", &[WriteErrorIsDone, ReadErrorIsDone]);
    }

    #[test]
    fn a_search_for_links_from_the_start() {
        must_fail("pressure::links_are_broken_by_the_handful", &[LinksFromStart]);
    }

    #[test]
    fn a_lock_that_waits_for_no_scan() {
        must_fail("pressure::locked_pages_stay", &[NoScanWait]);
    }
}
