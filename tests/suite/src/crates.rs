//! The house as it stands: the crates from `cargo metadata`, and the rooms and circles of each from its modules' imports.
//!
//! An import is a path of the code that begins with `crate::` or `super::`, and leads to another file; a parent that names its own
//! children imports nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::House;
use crate::map::{self, File, Module, Modules};

/// Crates that are no part of the running system.
const BESIDE: [&str; 2] = ["tests", "loom-tests"];
/// How large a circle of imports may be.
const CIRCLE: usize = 25;

/// A crate of ours.
struct Crate {
    folder: PathBuf,
    what: String,
    /// Why it has unsafe code, from its `[package.metadata.house]`.
    unsafe_for: String,
    files: Vec<File>,
}

/// What each of the files needs, by their paths.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Prints the page, or says what is wrong with the house.
pub fn run(house: &House) -> i32 {
    match draw(&house.root) {
        Ok(page) => {
            print!("{page}");
            0
        }
        Err(why) => {
            eprintln!("quire: {why}");
            1
        }
    }
}

fn draw(root: &Path) -> Result<String, String> {
    let (crates, graph) = crates(root)?;
    let mut page = String::from(
        "# The crates\n\n\
        Drawn from `cargo metadata` and the modules' imports by `./run.sh map --crates`; `./run.sh lint` fails where this page is not what it\n\
        draws, and where a circle of imports has more than 25 modules. A crate needs only crates of the lines below its own.\n\n```text\n",
    );
    for (number, names) in map::layers(&graph).iter().rev() {
        let _ = writeln!(page, "{number:>3}  {}", names.join("  "));
    }
    page += "```\n\n| crate | what it is | stands on | modules | largest circle | lines with `unsafe`, and for what |\n\
             |---|---|---|---|---|---|\n";
    for name in map::layers(&graph).values().flatten() {
        let of = &crates[*name];
        let arrows = arrows(&of.files);
        let circle = largest_circle(&arrows);
        if circle.len() > CIRCLE {
            let circle = circle.into_iter().collect::<Vec<_>>().join(" ");
            return Err(format!("more than {CIRCLE} modules of {name} import each other in a circle: {circle}"));
        }
        let size = if circle.is_empty() { "none".into() } else { circle.len().to_string() };
        let lines = of.files.iter().map(unsafe_lines).sum::<usize>();
        if (lines != 0) == of.unsafe_for.is_empty() {
            let file = of.folder.join("Cargo.toml");
            return Err(format!(
                "{}: {lines} lines of {name} are unsafe; `house.unsafe` is to say for what",
                file.display()
            ));
        }
        let why = if lines == 0 { "none".into() } else { format!("{lines}: {}", of.unsafe_for) };
        let on = map::stands_on(&graph, name).join(", ");
        let folder = of.folder.strip_prefix(root).unwrap_or(&of.folder).display();
        let _ = writeln!(page, "| `{folder}` | {} | {on} | {} | {size} | {why} |", of.what, arrows.len());
    }
    if let Some(binary) = crates.get("kernel") {
        page += "\nThe rooms of the kernel's binary, and how many of their modules import something of another room:\n\n\
                 | room | modules | imports from |\n|---|---|---|\n";
        page += &rooms(&arrows(&binary.files));
    }
    Ok(page)
}

/// Our crates by their short names, and what each needs of the others.
fn crates(root: &Path) -> Result<(BTreeMap<String, Crate>, Modules), String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root);
    let answer = cargo.output().map_err(|why| format!("cargo metadata: {why}"))?;
    let all: Value = serde_json::from_slice(&answer.stdout).map_err(|why| format!("cargo metadata: {why}"))?;
    let (mut crates, mut graph) = (BTreeMap::new(), Modules::new());
    for package in all["packages"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let folder = PathBuf::from(text(&package["manifest_path"])).parent().unwrap_or(root).to_path_buf();
        if BESIDE.iter().any(|beside| folder.starts_with(root.join(beside))) {
            continue;
        }
        let ours = |d: &&Value| d["path"].is_string() && d["kind"].is_null();
        let name = short(&text(&package["name"]));
        let needs = package["dependencies"].as_array().into_iter().flatten().filter(ours);
        let needs = needs.map(|d| (short(&text(&d["name"])), String::new())).filter(|(to, _)| *to != name).collect();
        let what = text(&package["description"]).replace("Quire: ", "");
        graph.insert(name.clone(), Module { what: what.clone(), needs });
        let mut files = Vec::new();
        map::collect(&folder.join("src"), "", &mut Vec::new(), &mut files).map_err(|why| format!("{name}: {why}"))?;
        let unsafe_for = text(&package["metadata"]["house"]["unsafe"]);
        crates.insert(name, Crate { folder, what, unsafe_for, files });
    }
    Ok((crates, graph))
}

fn short(name: &str) -> String {
    name.strip_prefix("quire-").unwrap_or(name).to_string()
}

/// A file's place in the crate: a folder's `mod.rs` stands for the folder.
fn place(file: &File) -> Vec<String> {
    let mut at = file.path.clone();
    at.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    at
}

fn arrows(files: &[File]) -> Arrows {
    let places: BTreeSet<Vec<String>> = files.iter().map(place).filter(|at| !at.is_empty()).collect();
    let mut arrows: Arrows = places.iter().map(|at| (at.join("/"), BTreeSet::new())).collect();
    for file in files {
        let from = place(file);
        let parent = from.len() < file.path.len();
        let Some(to) = arrows.get_mut(&from.join("/")) else { continue };
        for (at, start) in map::starts(&file.code) {
            for path in map::paths(&file.code[at + start.len() + 2..], &[]) {
                let ups = path.iter().take_while(|word| *word == "super").count();
                let base = if start == "crate" { 0 } else { from.len().saturating_sub(1 + ups) };
                let path = [&from[..base], &path[ups..]].concat();
                let found = (1..=path.len()).rev().find_map(|n| places.get(&path[..n]));
                let Some(found) = found.filter(|found| **found != from && !(parent && found.starts_with(&from))) else {
                    continue;
                };
                to.insert(found.join("/"));
            }
        }
    }
    arrows
}

/// All that can be reached from a module.
fn reach<'a>(arrows: &'a Arrows, from: &str) -> BTreeSet<&'a str> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(at) = left.pop() {
        for to in &arrows[at] {
            if seen.insert(to.as_str()) {
                left.push(to);
            }
        }
    }
    seen
}

/// The largest set of modules of which each leads to all others.
fn largest_circle(arrows: &Arrows) -> BTreeSet<&str> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|at| (at.as_str(), reach(arrows, at))).collect();
    let circle = |at: &str| reach[at].iter().copied().filter(|to| reach[to].contains(at)).collect::<BTreeSet<_>>();
    arrows.keys().map(|at| circle(at)).max_by_key(BTreeSet::len).unwrap_or_default()
}

/// A row for each folder of the top level, and for the files that stand alone there.
fn rooms(arrows: &Arrows) -> String {
    let room = |at: &str| at.split('/').next().unwrap_or_default().to_string();
    let mut all: BTreeMap<String, (usize, BTreeMap<String, usize>)> = BTreeMap::new();
    for (from, needs) in arrows {
        let (modules, to) = all.entry(room(from)).or_default();
        *modules += 1;
        let others: BTreeSet<String> = needs.iter().map(|n| room(n)).filter(|n| *n != room(from)).collect();
        others.into_iter().for_each(|other| *to.entry(other).or_default() += 1);
    }
    let mut rows = String::new();
    for (room, (modules, to)) in all {
        let to = to.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(rows, "| `{room}` | {modules} | {to} |");
    }
    rows
}

/// Lines of code with the word `unsafe`.
fn unsafe_lines(file: &File) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    file.code.lines().filter(|line| line.split(|c| !is_word(c)).any(|word| word == "unsafe")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Arrows {
        let file =
            |&(path, text): &(&str, &str)| File::new("", path.split('/').map(String::from).collect(), text.into());
        arrows(&files.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn a_circle_goes_through_folders() {
        let files = [
            ("main", "mod a; use crate::a::b;"),
            ("a/mod", "pub mod b; pub mod c; use crate::a::c::X;"),
            ("a/b", "use super::c::{X, Y};"),
            ("a/c", "use crate::d::Z; // crate::e"),
            ("d", "fn f() { crate::a::b::g() }"),
            ("e", "use crate::a::W;"),
        ];
        let arrows = of(&files);
        assert_eq!(largest_circle(&arrows), ["a/b", "a/c", "d"].into());
        assert!(arrows["a"].is_empty() && arrows["e"].contains("a"));
        assert_eq!(rooms(&arrows), "| `a` | 3 | d 1 |\n| `d` | 1 | a 1 |\n| `e` | 1 | a 1 |\n");
    }

    #[test]
    fn unsafe_is_counted_as_a_word_of_code() {
        let file = File::new("", vec!["a".into()], "unsafe { f() } // unsafe\n// unsafe\nlet unsafe_for = 1;\n".into());
        assert_eq!(unsafe_lines(&file), 1);
    }
}
