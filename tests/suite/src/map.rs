//! The map of the memory manager's modules: which ones each needs. A circle of them is an error, as it is in the other crates that have none.
//!
//! A module needs another one if a path of its code leads there (`crate::..`, `super::..`), be it by way of the crate's root, or if it calls
//! a method of `Space`, `Memory` or `Arena` that stands there: their inherent impls are spread over the files, each where it belongs. A call is
//! known by its name alone, so those methods count whose name no other function of the crate has. A folder is one module; tests are
//! left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::House;

/// Types whose methods stand in many files.
const SPREAD: [&str; 3] = ["Space<M>", "Memory<M>", "Arena"];
/// Their methods whose name the standard library has, too.
const STANDARD: [&str; 1] = ["map"];

/// A module, and why it needs others.
#[derive(Default)]
pub struct Module {
    /// The first sentence about it.
    pub what: String,
    /// By the name of the other: where, and what is named there.
    pub needs: BTreeMap<String, String>,
}

pub type Modules = BTreeMap<String, Module>;

/// A source file: its crate, its path below `src` without the ending, its text, and its code.
pub struct File {
    of: &'static str,
    pub path: Vec<String>,
    text: String,
    pub code: String,
}

/// The crates without circles; the page shows the first one.
const CRATES: [&str; 3] = ["mm", "kernel/base", "kernel/unix"];

/// Prints the page, or says that there is a circle.
pub fn run(house: &House) -> i32 {
    let mut maps = Vec::new();
    for name in CRATES {
        let source = house.root.join(name).join("src");
        let mut files = Vec::new();
        if let Err(why) = collect(&source, name, &mut Vec::new(), &mut files) {
            eprintln!("quire: {}: {why}", source.display());
            return 125;
        }
        let modules = modules(&files);
        if let Some(circle) = circle(&modules) {
            eprintln!("quire: modules of {name} need each other in a circle:\n{circle}");
            return 1;
        }
        maps.push(modules);
    }
    print!("{}", page(&maps[0]));
    0
}

pub fn collect(folder: &Path, of: &'static str, path: &mut Vec<String>, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let at = entry?.path();
        let name = at.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        path.push(name.clone());
        if at.is_dir() {
            collect(&at, of, path, files)?;
        } else if name != "tests" && !name.ends_with("_tests") {
            files.push(File::new(of, path.clone(), fs::read_to_string(&at)?));
        }
        path.pop();
    }
    Ok(())
}

impl File {
    pub fn new(of: &'static str, path: Vec<String>, text: String) -> File {
        File { of, path, code: code(&text), text }
    }

    /// The module that it is, or is a part of.
    fn module(&self) -> &str {
        &self.path[0]
    }

    fn is_root(&self) -> bool {
        self.path == ["lib"]
    }

    fn line(&self, at: usize) -> String {
        format!("{}/src/{}.rs:{}", self.of, self.path.join("/"), self.code[..at].matches('\n').count() + 1)
    }
}

/// The text line by line, without comments and tests.
fn code(text: &str) -> String {
    let mut code = String::new();
    let (mut test, mut head) = (false, false);
    for line in text.lines() {
        if line == "#[cfg(test)]" {
            (test, head) = (true, true);
        } else if !test {
            code += line.split("//").next().unwrap_or_default();
        } else {
            test = !(line == "}" || head && line.ends_with(';'));
            head = head && line.starts_with('#');
        }
        code.push('\n');
    }
    code
}

fn modules(files: &[File]) -> Modules {
    let mut all = Modules::new();
    for file in files.iter().filter(|file| !file.is_root()) {
        let module = all.entry(file.module().into()).or_default();
        if file.path.len() == 1 || file.path[1] == "mod" {
            module.what = first_sentence(&file.text);
        }
    }
    let exports: BTreeMap<String, String> = files
        .iter()
        .filter(|file| file.is_root())
        .flat_map(|root| root.code.match_indices("pub use ").map(|(at, word)| &root.code[at + word.len()..]))
        .flat_map(|rest| paths(rest, &[]))
        .filter_map(|path| Some((path.last()?.clone(), path.first()?.clone())))
        .collect();
    let methods = methods(files);
    for file in files.iter().filter(|file| !file.is_root()) {
        let mut found: Vec<(String, usize, String)> = Vec::new();
        for (at, start) in starts(&file.code) {
            for path in paths(&file.code[at + start.len() + 2..], &[]) {
                // `super` of a file in a folder is the folder.
                let Some(first) = path.first().filter(|_| start == "crate" || file.path.len() == 1) else { continue };
                let to = if all.contains_key(first) { Some(first) } else { exports.get(first) };
                found.extend(to.map(|to| (to.clone(), at, format!("{start}::{}", path.join("::")))));
            }
        }
        for (at, name) in calls(&file.code) {
            found.extend(methods.get(name).map(|to| (to.clone(), at, format!(".{name}()"))));
        }
        let Some(module) = all.get_mut(file.module()) else { continue };
        for (to, at, what) in found.into_iter().filter(|(to, ..)| to != file.module()) {
            module.needs.entry(to).or_insert_with(|| format!("{}: {what}", file.line(at)));
        }
    }
    all
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// Where paths begin, and with which word.
pub fn starts(code: &str) -> impl Iterator<Item = (usize, &'static str)> + '_ {
    let of = |start: &'static str| code.match_indices(start).map(move |(at, _)| (at, start));
    of("crate").chain(of("super")).filter(|&(at, start)| {
        code[at + start.len()..].starts_with("::") && !code[..at].ends_with(|c| is_word(c) || c == ':')
    })
}

/// All paths of `a::{b, c::{d, e}}`, as far as it goes.
pub fn paths(tree: &str, before: &[String]) -> Vec<Vec<String>> {
    let tree = tree.trim_start();
    if let Some(list) = tree.strip_prefix('{') {
        let (mut depth, mut from, mut all) = (0, 0, Vec::new());
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    all.extend(paths(&list[from..at], before));
                    from = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return all;
    }
    let name = word(tree);
    if name.is_empty() {
        return Vec::new();
    }
    let path = [before, &[name.into()]].concat();
    match tree[name.len()..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c| is_word(c) || c == '{') => paths(rest, &path),
        _ => vec![path],
    }
}

/// The methods that count, and the modules where they stand.
fn methods(files: &[File]) -> BTreeMap<&str, String> {
    let (mut seen, mut here) = (BTreeMap::<&str, u32>::new(), BTreeMap::new());
    for file in files {
        let mut spread = false;
        for line in file.code.lines() {
            if line.starts_with("impl") {
                spread = !line.contains(" for ") && SPREAD.iter().any(|of| line.ends_with(&format!(" {of} {{")));
            }
            let Some((before, after)) = line.split_once("fn ") else { continue };
            *seen.entry(word(after)).or_default() += 1;
            if spread && before.starts_with("    ") && !before.starts_with("     ") {
                here.insert(word(after), file.module().to_string());
            }
        }
    }
    here.retain(|name, _| seen[name] == 1 && !STANDARD.contains(name));
    here
}

/// Where methods are called, and which.
fn calls(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices('.').map(|(at, _)| (at, word(&code[at + 1..]))).filter(|&(at, name)| {
        let behind = &code[at + 1 + name.len()..];
        !name.is_empty() && (behind.starts_with('(') || behind.starts_with("::<"))
    })
}

/// The first sentence of a file's comment, without links.
fn first_sentence(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let all = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let end = all.find(". ").map_or(all.len(), |at| at + 1);
    let mut plain = String::new();
    let mut rest = &all[..end];
    while let Some(at) = rest.find("](") {
        plain += &rest[..at + 1];
        rest = rest[at..].split_once(')').map_or("", |(_, behind)| behind);
    }
    (plain + rest).replace(['[', ']'], "").replace('|', "\\|")
}

/// A circle, with a reason for each step, if there is one.
fn circle(modules: &Modules) -> Option<String> {
    fn visit<'m>(
        all: &'m Modules,
        at: &'m str,
        way: &mut Vec<&'m str>,
        done: &mut BTreeSet<&'m str>,
    ) -> Option<String> {
        if let Some(first) = way.iter().position(|&m| m == at) {
            let ring = way[first..].iter().zip(way[first + 1..].iter().chain([&at]));
            return Some(
                ring.map(|(from, to)| format!("  {from} -> {to}    {}", all[*from].needs[*to]))
                    .collect::<Vec<_>>()
                    .join("\n"),
            );
        }
        if !done.contains(at) {
            way.push(at);
            let found = all[at].needs.keys().find_map(|to| visit(all, to, way, done));
            if found.is_some() {
                return found;
            }
            way.pop();
            done.insert(at);
        }
        None
    }
    let mut done = BTreeSet::new();
    modules.keys().find_map(|at| visit(modules, at, &mut Vec::new(), &mut done))
}

/// All that a module needs, be it by way of others.
fn below<'m>(modules: &'m Modules, at: &str, all: &mut BTreeSet<&'m str>) {
    for to in modules[at].needs.keys() {
        if all.insert(to) {
            below(modules, to, all);
        }
    }
}

/// How many modules stand on each other below a module and those that it needs, as far as it is not in `layers` yet.
fn layer<'m>(modules: &'m Modules, at: &'m str, layers: &mut BTreeMap<&'m str, usize>) -> usize {
    if let Some(&known) = layers.get(at) {
        return known;
    }
    let here = modules[at].needs.keys().map(|to| layer(modules, to, layers) + 1).max().unwrap_or(0);
    layers.insert(at, here);
    here
}

/// What it needs itself, and not by way of another one.
pub fn stands_on<'m>(modules: &'m Modules, at: &str) -> Vec<&'m str> {
    let mut indirect = BTreeSet::new();
    modules[at].needs.keys().for_each(|to| below(modules, to, &mut indirect));
    modules[at].needs.keys().map(String::as_str).filter(|to| !indirect.contains(to)).collect()
}

/// The modules by their layers, from the lowest.
pub fn layers(modules: &Modules) -> BTreeMap<usize, Vec<&str>> {
    let (mut numbers, mut layers) = (BTreeMap::new(), BTreeMap::<usize, Vec<&str>>::new());
    modules.keys().for_each(|at| layers.entry(layer(modules, at, &mut numbers)).or_default().push(at));
    layers
}

fn page(modules: &Modules) -> String {
    let layers = layers(modules);
    let mut page = String::from(
        "# The modules of the memory manager\n\n\
        Drawn from `mm/src` by `./run.sh map`; `./run.sh lint` fails where this page is not what it draws, and where modules need each other\n\
        in a circle. A module needs what its paths lead to, and what it calls of `Space`, `Memory` and `Arena`, whose methods stand in many\n\
        files. It needs only modules of the lines below its own.\n\n```text\n",
    );
    for (number, names) in layers.iter().rev() {
        let _ = writeln!(page, "{number:>3}  {}", names.join("  "));
    }
    page += "```\n\nFrom below, and each with what it stands on itself, not by way of another one:\n\n\
        | module | what it is | stands on |\n|---|---|---|\n";
    for at in layers.values().flatten() {
        let _ = writeln!(page, "| `{at}` | {} | {} |", modules[*at].what, stands_on(modules, at).join(", "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Modules {
        let file = |&(path, text): &(&str, &str)| {
            File::new("mm", path.split('/').map(String::from).collect(), text.replace("; ", ";\n"))
        };
        modules(&files.iter().map(file).collect::<Vec<_>>())
    }

    fn circle_of(files: &[(&str, &str)]) -> Option<String> {
        circle(&of(files))
    }

    #[test]
    fn imports_and_paths_make_a_circle() {
        let plain = [("a", "use crate::{b::{X, Y}, c};"), ("b", "fn f() { crate::c::g() }"), ("c", "// crate::a")];
        assert_eq!(circle_of(&plain), None);
        let found = circle_of(&[plain[0], plain[1], ("c", "\nuse super::a::Z;")]).expect("a -> b -> c -> a");
        assert_eq!(
            found,
            "  a -> b    mm/src/a.rs:1: crate::b::X\n  b -> c    mm/src/b.rs:1: crate::c::g\n  c -> a    mm/src/c.rs:2: super::a::Z"
        );
    }

    #[test]
    fn the_way_by_the_root_counts() {
        let files = [("lib", "pub use a::{A, B}; mod a; mod b;"), ("a", "use crate::b::C;"), ("b", "use crate::B;")];
        assert!(circle_of(&files).is_some());
        assert!(circle_of(&[files[0], files[1], ("b", "#[cfg(test)]\nmod tests {\n    use crate::B;\n}\n")]).is_none());
    }

    #[test]
    fn calls_of_spread_methods_count() {
        let space = ("space", "impl<M: Machine> Space<M> {\n    pub fn low(&self) {\n        self.high();\n    }\n}\n");
        let edit = ("edit", "use crate::space::Space;\nimpl<M: Machine> Space<M> {\n    fn high(&self) {}\n}\n");
        assert!(circle_of(&[space, edit]).is_some_and(|c| c.contains("space -> edit    mm/src/space.rs:3: .high()")));
        // Whose it is cannot be told.
        assert!(circle_of(&[space, edit, ("other", "fn high() {}")]).is_none());
    }

    #[test]
    fn a_folder_is_one_module() {
        let files =
            [("a/mod", "mod b; use b::C;"), ("a/b", "use super::D; use crate::c::E;"), ("c", "use crate::a::C;")];
        assert!(circle_of(&files[..2]).is_none());
        assert!(circle_of(&files).is_some());
    }

    #[test]
    fn what_others_lead_to_is_left_out() {
        let files = [("a", "use crate::b; use crate::c;"), ("b", "use crate::c;"), ("c", "")];
        assert_eq!(stands_on(&of(&files), "a"), ["b"]);
        assert_eq!(layer(&of(&files), "a", &mut BTreeMap::new()), 2);
    }
}
