//! Finds every ordering of a source file that could be weaker, so that the copy gets a switch for each.
//!
//! An ordering is known by its file, the function, and the operation that it is an argument of, not by its line: the table of
//! docs/orderings.md stays true where lines move.

/// An ordering, or a fence, that could be weaker.
pub struct Place {
    /// What it is called: file, function, operation, ordering.
    pub name: String,
    /// Where it is, counted from one.
    pub line: usize,
    /// Whether it is a read-modify-write's.
    pub is_rmw: bool,
    /// The weaker ones, the weakest first; `none` is no fence at all.
    pub weaker: &'static [&'static str],
}

/// The orderings but for Relaxed, than which nothing is weaker.
const STRONG: [&str; 4] = ["Acquire", "Release", "AcqRel", "SeqCst"];

/// What has no orderings of its own: tests, machines for tests, and the file that stands between us and the model checker.
pub fn is_left_out(file: &str) -> bool {
    let below = file.rsplit('/').next().unwrap_or(file);
    file.contains("/tests/") || ["tests.rs", "fake.rs"].contains(&below) || file == "mm/src/sync.rs"
}

/// All places of a file, in order.
///
/// An ordering that is no argument of an atomic operation is an error: it could not be put to the test.
pub fn places(file: &str, text: &str) -> Result<Vec<Place>, String> {
    let mut all: Vec<Place> = Vec::new();
    if is_left_out(file) {
        return Ok(all);
    }
    let code = code_of(text);
    for (at, word) in words(&code) {
        let before = &code[..at];
        let line = before.matches('\n').count() + 1;
        if word == "Relaxed" || is_use(before) || is_test(before) {
            continue;
        }
        let lost =
            || format!("{file}:{line}: {word} is no argument of an atomic operation, so nothing could make it weaker");
        let call = open(before).ok_or_else(lost)?;
        let operation = operation(&code[..call]);
        // A compare-and-swap has two.
        let first = !words(&code[call..at]).any(|(there, _)| open(&code[..call + there]) == Some(call));
        let method = operation.rsplit('.').next().unwrap_or_default();
        let weaker: &'static [&'static str] = match (method, word) {
            ("fence", "SeqCst") => &["none", "AcqRel"],
            ("fence", "AcqRel") => &["none", "Acquire", "Release"],
            ("fence", _) => &["none"],
            ("load", "SeqCst") => &["Relaxed", "Acquire"],
            ("store", "SeqCst") => &["Relaxed", "Release"],
            ("load" | "store", _) => &["Relaxed"],
            (m, "SeqCst") if m.starts_with("compare_exchange") && !first => &["Relaxed", "Acquire"],
            (m, _) if m.starts_with("compare_exchange") && !first => &["Relaxed"],
            (m, "SeqCst") if is_rmw(m) => &["Relaxed", "AcqRel"],
            (m, "AcqRel") if is_rmw(m) => &["Relaxed", "Acquire", "Release"],
            (m, _) if is_rmw(m) => &["Relaxed"],
            _ => return Err(lost()),
        };
        let name = format!("{file} {} {operation} {word}", function(before));
        let times = all.iter().filter(|p| p.name == name || p.name.starts_with(&format!("{name} #"))).count();
        let name = if times == 0 { name } else { format!("{name} #{}", times + 1) };
        all.push(Place { name, line, is_rmw: is_rmw(method), weaker });
    }
    Ok(all)
}

/// A line of code in which each ordering that has a number, the first, the second and so on, asks for its switch.
pub fn with_switches(line: &str, numbers: &[Option<usize>], switches: &str) -> String {
    let code = code_of(line);
    let mut all: Vec<(usize, &str)> = words(&code).filter(|(_, word)| *word != "Relaxed").collect();
    let (mut new, mut numbers) = (line.to_string(), numbers.iter().rev());
    // From the end, so that what comes before stays where it is.
    while let Some((at, word)) = all.pop() {
        let Some(&Some(n)) = numbers.next() else { continue };
        let (from, to) = (new[..at].strip_suffix("Ordering::").map_or(at, str::len), at + word.len());
        let order = &new[from..to];
        let fence = new[..from].ends_with("fence(") && new[to..].starts_with(')');
        if fence {
            let from = from - "fence(".len();
            let all = format!("{switches}::orderings::of_fence({n}, {order}).into_iter().for_each(fence)");
            new.replace_range(from..=to, &all);
        } else {
            let all = format!("{switches}::orderings::order({n}, {order})");
            new.replace_range(from..to, &all);
        }
    }
    new
}

/// How many orderings of a line could be weaker, and which.
pub fn strong(line: &str) -> Vec<String> {
    words(&code_of(line)).filter(|(_, w)| *w != "Relaxed").map(|(_, w)| w.to_string()).collect()
}

fn is_rmw(method: &str) -> bool {
    method == "swap" || method.starts_with("compare_exchange") || method.starts_with("fetch_")
}

/// The text with blanks in the place of comments and of what stands between quotes; all else stays where it is.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let long = match rest[0] {
            b'/' if rest.starts_with(b"//") => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            b'"' => {
                let mut end = 1;
                while end < rest.len() && rest[end] != b'"' {
                    end += if rest[end] == b'\\' { 2 } else { 1 };
                }
                (end + 1).min(rest.len())
            }
            // A character; anything else with such a mark is a lifetime.
            b'\'' if rest.get(1) == Some(&b'\\') => 3 + rest[2..].iter().position(|b| *b == b'\'').unwrap_or(0),
            b'\'' if rest.get(2) == Some(&b'\'') => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        for b in code[at..at + long].iter_mut().filter(|b| **b != b'\n') {
            *b = b' ';
        }
        at += long;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The names of orderings in code, and where they begin.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut at = 0;
    code.split_inclusive(move |c| !is_name(c)).filter_map(move |part| {
        let (begin, word) = (at, part.trim_end_matches(|c| !is_name(c)));
        at += part.len();
        (word == "Relaxed" || STRONG.contains(&word)).then_some((begin, word))
    })
}

/// Whether what comes next belongs to a `use`.
fn is_use(before: &str) -> bool {
    let item = before.rfind(';').map_or(before, |end| &before[end + 1..]);
    let mut lines = item.lines().map(|l| l.trim_start());
    lines.any(|l| ["use ", "pub use ", "pub(crate) use "].iter().any(|u| l.starts_with(u)))
}

/// Whether what comes next is a module of tests, which ends its file.
fn is_test(before: &str) -> bool {
    before.contains("#[cfg(test)]\nmod ")
}

/// The bracket around what comes next.
fn open(before: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, b) in before.bytes().enumerate().rev() {
        match b {
            b')' | b']' | b'}' => depth += 1,
            b'(' if depth == 0 => return Some(at),
            b'[' | b'{' if depth == 0 => return None,
            b'(' | b'[' | b'{' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What is called: the method, and the path to what it is a method of, without blanks.
fn operation(before: &str) -> String {
    let mut depth = 0;
    let bytes = before.as_bytes();
    let mut begin = bytes.len();
    while let Some(&b) = begin.checked_sub(1).map(|at| &bytes[at]) {
        let name = b.is_ascii_alphanumeric() || b"_.?:".contains(&b);
        // A chain goes on over lines that begin with a point.
        let next = before[begin..].trim_start();
        let chain = b.is_ascii_whitespace() && (next.starts_with('.') || next.is_empty());
        match b {
            b')' | b']' => depth += 1,
            b'(' | b'[' if depth == 0 => break,
            b'(' | b'[' => depth -= 1,
            _ if depth > 0 || name || chain => {}
            _ => break,
        }
        begin -= 1;
    }
    // A blank stays between two words.
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    before[begin..].split_whitespace().fold(String::new(), |mut all, part| {
        if is_word(all.chars().next_back()) && is_word(part.chars().next()) {
            all.push(' ');
        }
        all + part
    })
}

/// The function that this is in, with the type whose it is.
fn function(before: &str) -> String {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect() };
    let own = before.rfind("fn ").map(|at| name(&before[at + 3..])).unwrap_or_default();
    let item = before.lines().rev().find(|l| l.starts_with(|c: char| c.is_ascii_alphabetic() || c == '}'));
    let item = item.unwrap_or_default();
    let Some(of) = item.strip_prefix("unsafe ").unwrap_or(item).strip_prefix("impl") else { return own };
    let of = match of.split_once(" for ") {
        Some((_, of)) => of,
        None if of.starts_with('<') => of.split_once("> ").map_or(of, |(_, of)| of),
        None => of,
    };
    format!("{}::{own}", name(of.trim_start_matches(['&', ' '])))
}
