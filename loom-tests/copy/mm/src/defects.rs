//! The switches of the defects. The environment of a process says which ones are on in it.

use std::sync::OnceLock;

include!(concat!(env!("OUT_DIR"), "/defects.rs"));

/// The variable with the names of the defects that are on, with commas between.
pub const VARIABLE: &str = "QUIRE_DEFECTS";

/// Whether a defect is on.
///
/// # Panics
///
/// If the variable names something that is no defect.
pub fn is_on(defect: Defect) -> bool {
    static ON: OnceLock<Vec<Defect>> = OnceLock::new();
    let on = ON.get_or_init(|| {
        let names = std::env::var(VARIABLE).unwrap_or_default();
        let named = |name: &str| ALL.iter().copied().find(|d| format!("{d:?}") == name);
        let names = names.split(',').filter(|name| !name.is_empty());
        names.map(|name| named(name).unwrap_or_else(|| panic!("there is no defect {name}"))).collect()
    });
    on.contains(&defect)
}

#[cfg(not(loom))]
pub use host::must_fail;

#[cfg(not(loom))]
mod host {
    use super::{Defect, VARIABLE};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    /// How long a test with a defect may take: one that does not end has found it, too.
    const PATIENCE: Duration = Duration::from_secs(120);

    /// Runs a test of the calling test's program again, in processes of its own: as it is, then with each of the defects.
    ///
    /// # Panics
    ///
    /// If there is no such test, if it fails as it is, or if it passes with a defect.
    pub fn must_fail(test: &str, defects: &[Defect]) {
        let me = || Command::new(std::env::current_exe().expect("the path of this program"));
        let list = me().args(["--exact", "--list", test]).output().expect("the list of tests");
        let found = String::from_utf8_lossy(&list.stdout).lines().any(|l| l == format!("{test}: test"));
        assert!(found, "there is no test named {test}");
        let run = |defect: Option<Defect>| {
            let mut command = me();
            command.args(["--exact", "--test-threads=1", test]).stdout(Stdio::null()).stderr(Stdio::null());
            command.env(VARIABLE, defect.map_or(String::new(), |d| format!("{d:?}")));
            let mut child = command.spawn().expect("a run of the test");
            let end = Instant::now() + PATIENCE;
            loop {
                match child.try_wait().expect("its end") {
                    Some(status) => return status.success(),
                    None if defect.is_some() && Instant::now() > end => {
                        child.kill().and_then(|()| child.wait()).expect("its end");
                        return false;
                    }
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        };
        assert!(run(None), "{test} fails without a defect");
        for &defect in defects {
            assert!(!run(Some(defect)), "{test} does not find {defect:?}");
        }
    }
}
