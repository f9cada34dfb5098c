//! That every ordering of the production code is found, whatever is written there, and gets its switch.
#![cfg(not(loom))]

#[allow(dead_code, reason = "the build script uses all of it")]
#[path = "../../../build/orderings.rs"]
mod generator;

mod found {
    use super::generator::{is_left_out, places, with_switches};
    use quire_mm::orderings::PLACES;
    use std::path::{Path, PathBuf};

    const SAMPLE: &str = "\
use core::sync::atomic::Ordering::{Acquire, SeqCst};

/// Release in a comment.
impl<T> Lock<T> {
    fn take(&self) -> bool {
        self.words[n / 64].word.compare_exchange(0, f(1, 'Acquire'), AcqRel, Acquire).is_ok() // Acquire
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        fence(SeqCst);
        self.0.store(self.1.load(Relaxed), Ordering::Release);
        self.0.store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    fn f() {
        X.load(Acquire);
    }
}
";

    #[test]
    fn orderings_of_a_sample() {
        let sample = SAMPLE.replace("'Acquire'", "\"Acquire\"");
        let all = places("a.rs", &sample).unwrap();
        let names: Vec<&str> = all.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "a.rs Lock::take self.words[n/64].word.compare_exchange AcqRel",
                "a.rs Lock::take self.words[n/64].word.compare_exchange Acquire",
                "a.rs Guard::drop fence SeqCst",
                "a.rs Guard::drop self.0.store Release",
                "a.rs Guard::drop self.0.store Release #2",
            ]
        );
        let weaker: Vec<&[&str]> = all.iter().map(|p| p.weaker).collect();
        assert_eq!(weaker[..3], [&["Relaxed", "Acquire", "Release"][..], &["Relaxed"], &["none", "AcqRel"]]);
        assert_eq!(
            with_switches("    fence(SeqCst);", &[Some(7)], "q"),
            "    q::orderings::of_fence(7, SeqCst).into_iter().for_each(fence);"
        );
        assert_eq!(
            with_switches("a.store(b.load(Acquire), Ordering::Release)", &[None, Some(8)], "q"),
            "a.store(b.load(Acquire), q::orderings::order(8, Ordering::Release))"
        );
    }

    #[test]
    fn an_ordering_out_of_reach_is_refused() {
        assert!(places("a.rs", "const HOW: Ordering = Release;\n").is_err());
        assert!(places("a.rs", "fn f() {\n    g(Release)\n}\n").is_err());
    }

    /// Counts words in lines, knowing nothing else of the language.
    #[test]
    fn no_ordering_is_forgotten() {
        fn files(at: &Path, all: &mut Vec<PathBuf>) {
            if at.is_file() {
                return all.push(at.to_path_buf());
            }
            for entry in std::fs::read_dir(at).unwrap() {
                files(&entry.unwrap().path(), all);
            }
        }
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
        let mut all = Vec::new();
        for source in ["mm/src", "swapd/src", "kernel/sched/src/wake.rs"] {
            files(&top.join(source), &mut all);
        }
        let mut words = 0;
        for path in all {
            let file = path.strip_prefix(top).unwrap().display().to_string();
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
            let code = text.lines().map(|l| l.split("//").next().unwrap()).filter(|l| l.contains('('));
            let strong = |w: &&str| ["Acquire", "Release", "AcqRel", "SeqCst"].contains(w);
            let here = code.flat_map(|l| l.split(|c: char| !c.is_alphanumeric())).filter(strong).count();
            words += if is_left_out(&file) { 0 } else { here };
        }
        assert!(words > 100);
        assert_eq!(words, PLACES.len(), "orderings in the sources, and those that can be made weaker");
    }
}
