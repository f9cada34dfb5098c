//! Makes the copy of the production code that has all deliberate defects in it, each behind a switch, from the table in `defects/`,
//! and a switch for each ordering (`build/orderings.rs`), which makes it weaker.
//!
//! Four packages are built with this script. Two are copies of crates; the models are compiled twice, over the sources as they are
//! (`quire-loom`) and over the copy (`quire-loom-copy`). README.md says how the table is written, and how one adds a defect.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/orderings.rs"]
mod orderings;

/// A heading of the table.
struct Defect {
    name: String,
    why: String,
    /// Where the table has it.
    at: String,
    edits: Vec<Edit>,
}

/// Lines that a source file has once, and what becomes of them.
struct Edit {
    file: String,
    at: String,
    lines: Vec<Line>,
}

enum Line {
    /// Stays.
    Same(String),
    /// Goes.
    Gone(String),
    /// Comes.
    New(String),
}

/// What becomes of one line of a source file.
#[derive(Default)]
struct Fate {
    before: Vec<String>,
    /// In its place, and for which defect.
    instead: Option<(String, Vec<String>)>,
    behind: Vec<String>,
}

fn main() {
    if let Err(why) = run() {
        eprintln!("{why}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let of = |name| env::var(name).map_err(|e| format!("{name}: {e}"));
    let (package, out) = (of("CARGO_PKG_NAME")?, PathBuf::from(of("OUT_DIR")?));
    let here = PathBuf::from(of("CARGO_MANIFEST_DIR")?);
    let top = here.ancestors().find(|d| d.join("loom-tests/build.rs").exists()).ok_or("no directory has loom-tests")?;
    println!("cargo::rerun-if-changed={}", top.join("loom-tests/build.rs").display());
    println!("cargo::rerun-if-changed={}", top.join("loom-tests/build").display());
    let defects = table(top)?;
    write(&out.join("defects.rs"), &names(&defects))?;
    // What is copied, and what the copy calls the crate with the switches.
    let wake = "kernel/sched/src/wake.rs";
    let (source, switches) = match package.as_str() {
        "quire-mm-copy" => ("mm/src", "crate"),
        "quire-swapd-copy" => ("swapd/src", "quire_mm"),
        "quire-loom-copy" => (wake, "quire_mm"),
        // The only one without the defects.
        _ => (wake, ""),
    };
    let known = |file: &str| ["mm/src/", "swapd/src/", wake].iter().any(|from| file.starts_with(from));
    if let Some(edit) = defects.iter().flat_map(|d| &d.edits).find(|e| !known(&e.file)) {
        return Err(format!("{}: {} is not among the sources that are copied", edit.at, edit.file));
    }
    println!("cargo::rerun-if-changed={}", top.join(source).display());
    let orderings = if switches.is_empty() { Vec::new() } else { all_orderings(top, &["mm/src", "swapd/src", wake])? };
    if package == "quire-mm-copy" {
        write(&out.join("orderings.rs"), &orderings_as_code(&orderings))?;
    }
    let files = files(&top.join(source))?;
    for edit in defects.iter().flat_map(|d| &d.edits).filter(|e| e.file.starts_with(source)) {
        if !files.contains(&top.join(&edit.file)) {
            return Err(format!("{}: there is no file {}", edit.at, edit.file));
        }
    }
    for file in &files {
        let name = file.strip_prefix(top).map_err(|e| e.to_string())?.display().to_string();
        let text =
            if switches.is_empty() { read(file)? } else { copy(&name, &read(file)?, &defects, &orderings, switches)? };
        let below = file.strip_prefix(top.join(source)).map_err(|e| e.to_string())?;
        // The copy of a root is included, where it may say nothing about the crate.
        let is_root = name == wake || below == Path::new("lib.rs");
        let to = if name == wake { out.join("wake.rs") } else { out.join(below) };
        write(&to, &if is_root { without_inner(&text) } else { text })?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    let done = fs::create_dir_all(file.parent().unwrap_or(file)).and_then(|()| fs::write(file, text));
    done.map_err(|e| format!("{}: {e}", file.display()))
}

/// All files at or below `path`, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let fail = |e| format!("{}: {e}", path.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(fail)? {
        all.extend(files(&entry.map_err(fail)?.path())?);
    }
    all.sort();
    Ok(all)
}

// --- The table ------------------------------------------------------------------------------------------------------

/// Reads all of it.
fn table(top: &Path) -> Result<Vec<Defect>, String> {
    let directory = top.join("loom-tests/defects");
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut defects: Vec<Defect> = Vec::new();
    for file in files(&directory)? {
        let name = file.strip_prefix(top).map_err(|e| e.to_string())?.display().to_string();
        for defect in page(&name, &read(&file)?)? {
            if let Some(first) = defects.iter().find(|d| d.name == defect.name) {
                return Err(format!("{}: {} is listed twice, first at {}", defect.at, defect.name, first.at));
            }
            defects.push(defect);
        }
    }
    Ok(defects)
}

/// Reads a page of it: headings, prose, paths, and blocks of a diff.
fn page(name: &str, text: &str) -> Result<Vec<Defect>, String> {
    let mut defects: Vec<Defect> = Vec::new();
    let (mut file, mut inside) = (String::new(), false);
    for (line, n) in text.lines().zip(1..) {
        let at = format!("{name}:{n}");
        if let Some(name) = line.strip_prefix("## ") {
            let name = name.to_string();
            if !name.chars().all(|c| c.is_ascii_alphanumeric()) || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
                return Err(format!("{at}: {name:?} is not a name for a defect"));
            }
            defects.push(Defect { name, why: String::new(), at, edits: Vec::new() });
            file.clear();
            continue;
        }
        let Some(defect) = defects.last_mut() else { continue };
        if inside {
            let edit = defect.edits.last_mut().ok_or("a line of no edit")?;
            inside = line != "```";
            let rest = line.get(1..).unwrap_or("").to_string();
            match line.chars().next() {
                _ if !inside => {}
                Some(' ') => edit.lines.push(Line::Same(rest)),
                Some('-') => edit.lines.push(Line::Gone(rest)),
                Some('+') => edit.lines.push(Line::New(rest)),
                _ => return Err(format!("{at}: a line of a diff begins with a space, `-` or `+`")),
            }
        } else if line == "```diff" {
            if file.is_empty() {
                return Err(format!("{at}: {}: no line before this says in which file", defect.name));
            }
            inside = true;
            defect.edits.push(Edit { file: file.clone(), at, lines: Vec::new() });
        } else if line.starts_with('`') && line.ends_with(".rs`") {
            file = line.trim_matches('`').to_string();
        } else if !line.is_empty() && defect.edits.is_empty() {
            defect.why = format!("{} {line}", defect.why).trim().to_string();
        }
    }
    for defect in &defects {
        let own = format!("defect({})", defect.name);
        let new = |e: &&Edit| e.lines.iter().any(|l| matches!(l, Line::New(t) if t.contains(&own)));
        if defect.why.is_empty() {
            return Err(format!("{}: {} does not say why it is wrong", defect.at, defect.name));
        }
        if !defect.edits.iter().any(|e| new(&e)) {
            return Err(format!("{}: {} has no line with `{own}`", defect.at, defect.name));
        }
    }
    Ok(defects)
}

/// The defects' names, as an enumeration.
fn names(defects: &[Defect]) -> String {
    let each = |f: fn(&Defect) -> String| defects.iter().map(f).collect::<String>();
    format!(
        "/// A deliberate defect.\n#[derive(Clone, Copy, PartialEq, Eq, Debug)]\npub enum Defect {{\n{}}}\n\n\
         /// All of them.\npub const ALL: &[Defect] = &[\n{}];\n",
        each(|d| format!("    /// {}\n    {},\n", d.why, d.name)),
        each(|d| format!("    Defect::{},\n", d.name)),
    )
}

// --- The orderings ----------------------------------------------------------------------------------------------------

/// A file and its orderings; they are numbered through all files.
struct Ordered {
    file: String,
    first: usize,
    places: Vec<orderings::Place>,
}

impl Ordered {
    /// The numbers of those in a line.
    fn of_line(&self, line: usize) -> Vec<Option<usize>> {
        (self.first..).zip(&self.places).filter(|(_, p)| p.line == line).map(|(n, _)| Some(n)).collect()
    }
}

/// All orderings of all sources that are copied.
fn all_orderings(top: &Path, sources: &[&str]) -> Result<Vec<Ordered>, String> {
    let (mut all, mut first) = (Vec::new(), 0);
    for source in sources {
        println!("cargo::rerun-if-changed={}", top.join(source).display());
        for path in files(&top.join(source))? {
            let file = path.strip_prefix(top).map_err(|e| e.to_string())?.display().to_string();
            let places = orderings::places(&file, &read(&path)?)?;
            let next = first + places.len();
            all.push(Ordered { file, first, places });
            first = next;
        }
    }
    Ok(all)
}

fn orderings_as_code(all: &[Ordered]) -> String {
    let places = all.iter().flat_map(|o| &o.places);
    let each = places.map(|p| {
        let (name, is_rmw, weaker) = (&p.name, p.is_rmw, p.weaker);
        format!("    Place {{ name: {name:?}, is_rmw: {is_rmw}, weaker: &{weaker:?} }},\n")
    });
    format!(
        "/// All of them.\npub static PLACES: [Place; {}] = [\n{}];\n",
        all.iter().map(|o| o.places.len()).sum::<usize>(),
        each.collect::<String>()
    )
}

// --- The copy -------------------------------------------------------------------------------------------------------

/// The text of a source file with all defects that belong there, and the switches of its orderings.
fn copy(name: &str, text: &str, defects: &[Defect], orderings: &[Ordered], switches: &str) -> Result<String, String> {
    let ordered = orderings.iter().find(|o| o.file == name).ok_or("a file without orderings")?;
    let source: Vec<&str> = text.lines().collect();
    let mut fates: Vec<Fate> = source.iter().map(|_| Fate::default()).collect();
    for defect in defects {
        for edit in defect.edits.iter().filter(|e| e.file == name) {
            place(&mut fates, &source, defect, edit, ordered, switches)?;
        }
    }
    let mut copy = String::new();
    for ((line, fate), n) in source.into_iter().zip(fates).zip(1..) {
        let as_it_is = || vec![orderings::with_switches(line, &ordered.of_line(n), switches)];
        let here = fate.instead.map_or_else(as_it_is, |(_, lines)| lines);
        for line in fate.before.into_iter().chain(here).chain(fate.behind) {
            copy += &line;
            copy.push('\n');
        }
    }
    Ok(copy)
}

/// Finds the lines of an edit, and notes what becomes of them.
fn place(
    fates: &mut [Fate],
    source: &[&str],
    defect: &Defect,
    edit: &Edit,
    ordered: &Ordered,
    switches: &str,
) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{}: {}: {what}", edit.at, defect.name));
    // The lines of code with their places. Comments and indentation do not count.
    let code: Vec<(usize, &str)> = source.iter().map(|l| l.trim()).enumerate().filter(|(_, l)| is_code(l)).collect();
    let old: Vec<&str> = edit.lines.iter().filter_map(|l| old(l)).map(str::trim).collect();
    let found: Vec<&[(usize, &str)]> =
        code.windows(old.len().max(1)).filter(|there| there.iter().map(|(_, l)| l).eq(&old)).collect();
    let &[there] = &found[..] else {
        let (file, times) = (&edit.file, found.len());
        return wrong(match old.iter().find(|wanted| !code.iter().any(|(_, line)| line == *wanted)) {
            _ if old.is_empty() => "the edit has no line of the source".to_string(),
            Some(line) => format!("{file} has no line `{line}`"),
            None => format!("{file} has these lines {times} times, not once:\n    {}", old.join("\n    ")),
        });
    };
    // The orderings of the lines that go are the last ones of those that come: a defect says first what it does, then what is right.
    let (mut owed, mut come) = (Vec::new(), Vec::new());
    for (line, &(at, _)) in edit.lines.iter().filter(|l| !matches!(l, Line::New(_))).zip(there) {
        if let Line::Gone(text) = line {
            owed.extend(orderings::strong(text).into_iter().zip(ordered.of_line(at + 1)));
        }
    }
    for line in &edit.lines {
        if let Line::New(text) = line {
            come.extend(orderings::strong(text));
        }
    }
    let own =
        come.len().checked_sub(owed.len()).filter(|own| come[*own..].iter().eq(owed.iter().map(|(word, _)| word)));
    let Some(own) = own else {
        return wrong("the lines that come do not end with the orderings of those that go, as they must".to_string());
    };
    let mut numbers = std::iter::repeat_n(None, own).chain(owed.into_iter().map(|(_, n)| n));
    // New lines come behind the old one before them, or in its place if that goes; those before the first old one stay before it.
    let mut rest = there.iter().map(|&(at, _)| at);
    let mut last: Option<(usize, bool)> = None;
    let mut goes_on = false;
    for line in &edit.lines {
        match line {
            Line::Same(_) => last = rest.next().map(|at| (at, false)),
            Line::Gone(_) => {
                let next = rest.next().ok_or("a line of no source")?;
                if let Some((other, _)) = fates[next].instead.replace((defect.name.clone(), Vec::new())) {
                    return wrong(format!("`{}` goes for {other} already", source[next].trim()));
                }
                last = Some((next, true));
            }
            Line::New(text) => {
                let beside = source[last.map_or(there[0].0, |(at, _)| at)];
                let indent = &beside[..beside.len() - beside.trim_start().len()];
                let list = match last {
                    None => &mut fates[there[0].0].before,
                    Some((at, true)) => &mut fates[at].instead.get_or_insert_default().1,
                    Some((at, false)) => &mut fates[at].behind,
                };
                if !goes_on {
                    list.push(format!("{indent}// {}, {}", defect.name, edit.at));
                }
                let own = format!("defect({})", defect.name);
                if text.replace(&own, "").contains("defect(") {
                    return wrong(format!("`{}` asks for another defect", text.trim()));
                }
                let is_on = format!("{switches}::defects::is_on({switches}::defects::Defect::{})", defect.name);
                let numbers: Vec<Option<usize>> = numbers.by_ref().take(orderings::strong(text).len()).collect();
                let text = orderings::with_switches(text, &numbers, switches);
                list.push(format!("{indent}{}", text.replace(&own, &is_on)));
            }
        }
        goes_on = matches!(line, Line::New(_));
    }
    Ok(())
}

/// Whether a line, without its indentation, is one of code.
fn is_code(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("//")
}

/// The text of a line that the source has.
fn old(line: &Line) -> Option<&str> {
    match line {
        Line::Same(text) | Line::Gone(text) => Some(text),
        Line::New(_) => None,
    }
}

/// The text without what it says about the module that it is, its documentation and inner attributes; the lines stay where they were.
fn without_inner(text: &str) -> String {
    let inner = |line: &str| line.starts_with("//!") || line.starts_with("#![");
    text.lines().map(|line| if inner(line) { "\n".to_string() } else { format!("{line}\n") }).collect()
}
