//! What passed and what failed.

use std::time::Instant;

/// Counts, prints each result as it comes, and the sum at the end.
#[derive(Default)]
pub struct Tally {
    passed: usize,
    failures: Vec<String>,
    began: Option<Instant>,
}

impl Tally {
    /// A heading.
    pub fn part(&mut self, name: &str) {
        self.began.get_or_insert_with(Instant::now);
        println!("\n== {name}");
    }

    /// One test.
    pub fn result(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                println!("ok      {name}");
                self.passed += 1;
            }
            Err(reason) => {
                println!("FAILED  {name}: {reason}");
                self.failures.push(format!("{name}: {}", reason.lines().next().unwrap_or_default()));
            }
        }
    }

    /// Tests that somebody else has counted and shown.
    pub fn add(&mut self, name: &str, passed: usize, failed: usize) {
        println!("{name}: {passed} passed, {failed} failed");
        self.passed += passed;
        self.failures.extend((0..failed).map(|_| format!("{name} (see above)")));
    }

    /// The failures again, the sum as the last line, and the exit status.
    pub fn finish(self) -> i32 {
        println!();
        for failure in &self.failures {
            println!("FAILED  {failure}");
        }
        if let Some(began) = self.began {
            println!("took {:.0} s", began.elapsed().as_secs_f64());
        }
        println!("{} passed, {} failed", self.passed, self.failures.len());
        i32::from(!self.failures.is_empty() || self.passed == 0)
    }
}
