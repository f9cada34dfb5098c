//! A sink that keeps the outputs of each job, for tests.

use std::io;
use std::time::Instant;

use crate::frame::{Event, How};
use crate::session::Sink;

/// What one job did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub how: How,
    /// The audit after it was clean, or not asked for.
    pub audit_clean: bool,
    /// Milliseconds since the job before it ended.
    pub millis: u128,
}

/// Keeps everything.
#[derive(Debug)]
pub struct Collected {
    /// One report for each job that ended.
    pub reports: Vec<Report>,
    /// The kernel's own lines.
    pub lines: Vec<String>,
    /// The report of a panic.
    pub panic: Option<String>,
    /// Nanoseconds from the kernel's entry to the first program's first instruction.
    pub started: Option<u64>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    since: Instant,
}

impl Collected {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            reports: Vec::new(),
            lines: Vec::new(),
            panic: None,
            started: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            since: Instant::now(),
        }
    }

    /// What the job that runs now has written so far, standard output first.
    pub fn unfinished(&self) -> (&[u8], &[u8]) {
        (&self.stdout, &self.stderr)
    }
}

impl Default for Collected {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Collected {
    fn take(&mut self, event: &Event<'_>) -> io::Result<()> {
        match *event {
            Event::Stdout(bytes) => self.stdout.extend_from_slice(bytes),
            Event::Stderr(bytes) => self.stderr.extend_from_slice(bytes),
            Event::Ended(job, How::AuditFailed) => {
                if let Some(report) = self.reports.get_mut(job as usize) {
                    report.audit_clean = false;
                }
            }
            Event::Ended(_, how) => {
                let now = Instant::now();
                self.reports.push(Report {
                    stdout: std::mem::take(&mut self.stdout),
                    stderr: std::mem::take(&mut self.stderr),
                    how,
                    audit_clean: true,
                    millis: now.duration_since(self.since).as_millis(),
                });
                self.since = now;
            }
            Event::Line(line) => self.lines.push(line.to_owned()),
            Event::Panicked(report) => self.panic = Some(report.to_owned()),
            Event::Started(nanoseconds) => self.started = Some(nanoseconds),
            Event::Done => {}
        }
        Ok(())
    }
}
