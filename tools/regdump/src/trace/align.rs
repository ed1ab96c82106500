//! Which commands of two traces are the same step: the longest common sequence of their kinds, and what is left of both in
//! another order.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Pairs that are looked at, at most; a byte of memory for each.
const MAX_PAIRS: usize = 1 << 28;

/// Steps among which the very same one is looked for.
const CANDIDATES: usize = 64;

/// A step of one or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number in the first.
    pub a: Option<usize>,
    /// Its number in the second.
    pub b: Option<usize>,
    /// Both have it, at other places of their order.
    pub moved: bool,
}

/// The two are too long to be compared: their lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} and {1} commands are too many to be compared: choose some with --command or --first")]
pub struct TooLong(pub usize, pub usize);

/// Aligns two sequences. Of those that are elsewhere in the other, `is_same` finds the very one among the next few.
pub fn align<K: Eq + Hash>(a: &[K], b: &[K], is_same: impl Fn(usize, usize) -> bool) -> Result<Vec<Step>, TooLong> {
    let ahead = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (rest_a, rest_b) = (&a[ahead..], &b[ahead..]);
    let behind = rest_a.iter().rev().zip(rest_b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (middle_a, middle_b) = (&rest_a[..rest_a.len() - behind], &rest_b[..rest_b.len() - behind]);
    let both = |a: usize, b: usize| Step { a: Some(a), b: Some(b), moved: false };
    let mut steps: Vec<Step> = (0..ahead).map(|n| both(n, n)).collect();
    steps.extend(middle(middle_a, middle_b)?.into_iter().map(|step| Step {
        a: step.a.map(|n| n + ahead),
        b: step.b.map(|n| n + ahead),
        ..step
    }));
    steps.extend((0..behind).rev().map(|n| both(a.len() - 1 - n, b.len() - 1 - n)));
    find_moved(&mut steps, a, b, is_same);
    Ok(steps)
}

/// Longest common sequence, by the lengths of those of all ends.
fn middle<K: Eq>(a: &[K], b: &[K]) -> Result<Vec<Step>, TooLong> {
    if a.len().checked_mul(b.len()).is_none_or(|pairs| pairs > MAX_PAIRS) {
        return Err(TooLong(a.len(), b.len()));
    }
    /// Where to go from a pair of places.
    const BOTH: u8 = 0;
    const ONLY_A: u8 = 1;
    const ONLY_B: u8 = 2;
    let mut ways = vec![ONLY_B; a.len() * b.len()];
    // Lengths of what follows in both: of the place behind in `a`, and of this one.
    let mut next = vec![0u32; b.len() + 1];
    for (i, key) in a.iter().enumerate().rev() {
        let mut this = vec![0u32; b.len() + 1];
        for (j, other) in b.iter().enumerate().rev() {
            let way = &mut ways[i * b.len() + j];
            this[j] = match key == other {
                true => {
                    *way = BOTH;
                    next[j + 1] + 1
                }
                false if next[j] >= this[j + 1] => {
                    *way = ONLY_A;
                    next[j]
                }
                false => this[j + 1],
            };
        }
        next = this;
    }
    let (mut i, mut j, mut steps) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        let way = match (i < a.len(), j < b.len()) {
            (true, true) => ways[i * b.len() + j],
            (true, false) => ONLY_A,
            _ => ONLY_B,
        };
        steps.push(Step { a: Some(i).filter(|_| way != ONLY_B), b: Some(j).filter(|_| way != ONLY_A), moved: false });
        i += usize::from(way != ONLY_B);
        j += usize::from(way != ONLY_A);
    }
    Ok(steps)
}

/// Joins steps that each has alone and the other has elsewhere.
fn find_moved<K: Eq + Hash>(steps: &mut Vec<Step>, a: &[K], b: &[K], is_same: impl Fn(usize, usize) -> bool) {
    let mut alone: HashMap<&K, VecDeque<usize>> = HashMap::new();
    for (at, step) in steps.iter().enumerate() {
        if let (None, Some(n)) = (step.a, step.b) {
            alone.entry(&b[n]).or_default().push_back(at);
        }
    }
    for at in 0..steps.len() {
        let (Some(n), None) = (steps[at].a, steps[at].b) else { continue };
        let Some(others) = alone.get_mut(&a[n]) else { continue };
        let same = others.iter().take(CANDIDATES).position(|other| steps[*other].b.is_some_and(|b| is_same(n, b)));
        if let Some(other) = others.remove(same.unwrap_or(0)) {
            (steps[at].b, steps[at].moved) = (steps[other].b.take(), true);
        }
    }
    steps.retain(|step| step.a.is_some() || step.b.is_some());
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | what both have in one order is joined, the rest is of one, and what is elsewhere is found | `steps_are_aligned` |
    //! | of several that are elsewhere, the one that is the same is joined | `the_very_same_one_is_found` |
    //! | every step of both is there once, in order; joined ones are alike | `nothing_is_lost` |
    //! | what is too long is refused | `too_long_is_refused` |
    use super::*;

    fn told(a: &str, b: &str) -> String {
        let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
        let steps = align(&a, &b, |_, _| false).expect("short");
        let text = steps.iter().map(|step| match (step.a, step.b) {
            (Some(n), Some(_)) if step.moved => format!("~{}", a[n]),
            (Some(n), Some(_)) => a[n].to_string(),
            (Some(n), None) => format!("-{}", a[n]),
            (None, n) => format!("+{}", b[n.expect("one of them")]),
        });
        text.collect()
    }

    #[test]
    fn steps_are_aligned() {
        assert_eq!(told("abc", "abc"), "abc");
        assert_eq!(told("abcd", "abxd"), "ab-c+xd");
        assert_eq!(told("", "ab"), "+a+b");
        assert_eq!(told("ab", ""), "-a-b");
        assert_eq!(told("aab", "ab"), "a-ab");
        assert_eq!(told("xabc", "abcx"), "~xabc");
        assert_eq!(told("hello", "yellow"), "-h+yello+w");
    }

    #[test]
    fn the_very_same_one_is_found() {
        let (a, b) = (["x", "a"], ["a", "x", "x"]);
        let steps = align(&a, &b, |n, other| (n, other) == (0, 2)).expect("short");
        assert!(steps.contains(&Step { a: Some(0), b: Some(2), moved: true }), "{steps:?}");
    }

    #[test]
    fn nothing_is_lost() {
        let mut seed = 1u64;
        for _ in 0..300 {
            let mut letters = || {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let len = (seed >> 60) as usize;
                (0..len).map(|n| (seed >> (3 * n + 4)) as u8 & 3).collect::<Vec<u8>>()
            };
            let (a, b) = (letters(), letters());
            let steps = align(&a, &b, |i, j| i == j).expect("short");
            assert_eq!(steps.iter().filter_map(|step| step.a).collect::<Vec<_>>(), (0..a.len()).collect::<Vec<_>>());
            let mut of_b: Vec<_> = steps.iter().filter(|step| !step.moved).filter_map(|step| step.b).collect();
            assert!(of_b.is_sorted());
            of_b.extend(steps.iter().filter(|step| step.moved).filter_map(|step| step.b));
            of_b.sort_unstable();
            assert_eq!(of_b, (0..b.len()).collect::<Vec<_>>());
            for step in &steps {
                if let (Some(i), Some(j)) = (step.a, step.b) {
                    assert_eq!(a[i], b[j]);
                }
            }
        }
    }

    #[test]
    fn too_long_is_refused() {
        let (a, b) = (vec![1u8; 1 << 15], vec![2u8; 1 << 14]);
        let error = align(&a, &b, |_, _| true).expect_err("too long");
        assert!(error.to_string().contains("--first"), "{error}");
        // What is the same at both ends costs nothing.
        assert_eq!(align(&a, &a, |_, _| true).expect("the same").len(), a.len());
    }
}
