//! The book names tests, scenarios and texts; they must be there.
//!
//! | property | test |
//! |---|---|
//! | every text of a failure that `docs/operator.md` explains is one that a program can print | `the_texts_that_the_guide_explains_exist` |
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

/// What programs can print: the code of the driver and of what it uses, with lines that go on in the next one put together.
fn printable(folder: &Path, out: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            printable(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("a source");
            let mut lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            while let Some(line) = lines.next() {
                let mut line = line.to_owned();
                while line.ends_with('\\') {
                    line.pop();
                    line.push_str(lines.next().unwrap_or_default().trim_start());
                }
                out.push_str(&line);
                out.push('\n');
            }
        }
    }
}

#[test]
fn the_texts_that_the_guide_explains_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/operator.md")).expect("the page");
    let mut sources = String::new();
    for folder in ["src", "firmware-iface/src", "hw-regs/src", "tools/vfio-user/src"] {
        printable(&root.join(folder), &mut sources);
    }
    let (_, section) = page.split_once("\n## When it goes wrong").expect("the section");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let mut texts = 0;
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let text = row.split(" | ").next().expect("a column");
        // Odd parts are in backticks; what differs from case to case is left out of them.
        for text in text.split('`').skip(1).step_by(2) {
            let parts = text.split('…').map(str::trim).filter(|part| part.chars().any(char::is_alphabetic));
            assert!(text.len() >= 12, "{text}: too short to be told from others");
            for part in parts {
                assert!(sources.contains(part), "no program prints {part:?} ({text})");
            }
            texts += 1;
        }
    }
    assert!(texts >= 35, "{texts} texts");
}
