//! Makes a program smaller as long as it differs in the same way.

use std::mem;

use quire_workloads::differ::Program;
use quire_workloads::differ::names::Kind;

use super::ask::{Asked, Difference};

const PAGE: u64 = 4096;

/// The smallest program that was found.
pub fn shrink(asked: &Asked<'_>, program: &Program, difference: &Difference) -> Program {
    let kind = difference.kind();
    let asked = asked.closely(false);
    let same = |candidates: &[Program]| -> Vec<usize> {
        asked.differences(candidates).into_iter().filter(|d| d.kind() == kind).map(|d| d.program).collect()
    };
    let mut smallest = program.clone();
    if same(std::slice::from_ref(program)).is_empty() {
        println!("  (not again: it depends on what else ran)");
        return smallest;
    }
    let mut piece = smallest.steps.len().div_ceil(2);
    while piece > 0 {
        let starts: Vec<usize> = (0..smallest.steps.len()).step_by(piece).collect();
        let without = |start: usize| {
            let mut candidate = smallest.clone();
            candidate.steps.drain(start..(start + piece).min(smallest.steps.len()));
            candidate
        };
        let candidates: Vec<Program> = starts.iter().map(|&start| without(start)).collect();
        let fits = same(&candidates);
        match fits[..] {
            [] => piece /= 2,
            [one] => smallest = candidates[one].clone(),
            [first, ..] => {
                // All of them at once, or at least the first.
                let gone = |index: usize| fits.contains(&(index / piece));
                let steps = smallest.steps.iter().enumerate().filter(|(index, _)| !gone(*index)).map(|(_, step)| *step);
                let both = Program { steps: steps.collect(), ..smallest.clone() };
                smallest = if same(std::slice::from_ref(&both)).is_empty() { candidates[first].clone() } else { both };
            }
        }
        piece = piece.min(smallest.steps.len());
    }
    for _ in 0..12 {
        let candidates = simpler(&smallest);
        let Some(&first) = same(&candidates).first() else { break };
        smallest = candidates.into_iter().nth(first).unwrap_or(smallest);
    }
    smallest
}

/// The program with one argument simpler, in each way that there is.
fn simpler(program: &Program) -> Vec<Program> {
    let mut all = Vec::new();
    if program.window != 0 {
        all.push(Program { window: 0, ..program.clone() });
    }
    for (index, step) in program.steps.iter().enumerate() {
        for (position, kind) in step.call.kinds().iter().enumerate() {
            let value = step.arguments[position];
            let others: Vec<u64> = match kind {
                Kind::Bits(known) => known.iter().map(|(_, bits)| value & !bits).collect(),
                Kind::Length if value > PAGE => vec![PAGE, value / PAGE / 2 * PAGE],
                Kind::Number if value > 1 => vec![1],
                _ => Vec::new(),
            };
            for mut other in others.into_iter().filter(|other| *other != value) {
                let mut candidate = program.clone();
                mem::swap(&mut candidate.steps[index].arguments[position], &mut other);
                all.push(candidate);
            }
        }
    }
    all
}
