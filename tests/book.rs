//! The book names tests and scenarios; they must be there.
//!
//! | property | test |
//! |---|---|
//! | every test and scenario that `docs/complaints.md` names exists where it says | `what_the_complaints_name_exists` |

use std::path::{Path, PathBuf};

/// Rust files at a path: the file, or all in the folder.
fn sources(path: &Path) -> Vec<PathBuf> {
    match path.is_dir() {
        false => vec![path.to_owned()],
        true => std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect(),
    }
}

#[test]
fn what_the_complaints_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/complaints.md")).expect("the page");
    let scenarios = std::fs::read_to_string(root.join("tests/hil/src/scenarios.rs")).expect("the scenarios");
    let (mut tests, mut named) = (0, 0);
    for row in page.lines().filter(|line| line.starts_with("| **")) {
        let shown = row.split(" | ").nth(2).expect("three columns");
        let mut place = None;
        // Odd parts are in backticks.
        for (n, text) in shown.split('`').enumerate() {
            match n % 2 {
                0 if text.contains("scenario") => place = None,
                0 => {}
                _ if text.contains('/') => place = Some(root.join(text)),
                _ if text.contains(' ') || text == "cxddp-regdump" => place = None,
                _ => match &place {
                    Some(place) => {
                        let has = |file: &PathBuf| {
                            std::fs::read_to_string(file).is_ok_and(|source| source.contains(&format!("fn {text}(")))
                        };
                        assert!(sources(place).iter().any(has), "{} has no test {text}", place.display());
                        tests += 1;
                    }
                    None => {
                        assert!(scenarios.contains(&format!("name: \"{text}\"")), "no scenario {text}");
                        named += 1;
                    }
                },
            }
        }
    }
    assert!(tests >= 15 && named >= 6, "{tests} tests, {named} scenarios");
}
