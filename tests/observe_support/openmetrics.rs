//! A parser of OpenMetrics text 1.0.0 that accepts nothing but what the specification does. Written from its ABNF and its
//! rules for metadata, names, suffixes and order; it knows nothing of who wrote the text. Exemplars are not supported, and
//! neither are histograms, summaries and state sets: nothing here has them.

use std::collections::{BTreeMap, BTreeSet};

/// A family with its samples, by labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub kind: String,
    pub unit: Option<String>,
    pub help: Option<String>,
    /// Name of the sample (with suffix) and labels, to value.
    pub samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Family {
    fn new() -> Family {
        Family { kind: String::new(), unit: None, help: None, samples: BTreeMap::new() }
    }

    fn kind(&self) -> &str {
        if self.kind.is_empty() { "unknown" } else { &self.kind }
    }
}

fn is_name(text: &str, colon: bool) -> bool {
    let good = |c: char| c.is_ascii_alphabetic() || c == '_' || (colon && c == ':');
    text.chars().next().is_some_and(good) && text.chars().all(|c| good(c) || c.is_ascii_digit())
}

/// `escaped-string`: `\\`, `\"` and `\n` are the only escapes; a bare quote ends a label value.
fn unescape(text: &str, quoted: bool) -> Result<String, String> {
    let (mut out, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some('"') => out.push('"'),
                Some('n') => out.push('\n'),
                other => return Err(format!("bad escape {other:?} in {text:?}")),
            },
            '"' if quoted => return Err(format!("bare quote in {text:?}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// `number`: a real number as the ABNF has it, or one of the words.
fn number(text: &str) -> Result<f64, String> {
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let word = matches!(bare.to_ascii_lowercase().as_str(), "inf" | "infinity") || text.eq_ignore_ascii_case("nan");
    let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (bare, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let real = match mantissa.split_once('.') {
        Some((whole, part)) => {
            (digits(whole) || whole.is_empty()) && (digits(part) || part.is_empty()) && !mantissa.eq(".")
        }
        None => digits(mantissa),
    };
    let scaled = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    match word || (real && scaled) {
        true => text.parse().map_err(|_| format!("{text:?} is no number")),
        false => Err(format!("{text:?} is no number")),
    }
}

/// `labels` after the opening brace: pairs and what follows the closing brace.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut found = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or_else(|| format!("no label at {rest:?}"))?;
        if !is_name(name, false) || name.starts_with("__") {
            return Err(format!("bad label name {name:?}"));
        }
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.ok_or_else(|| format!("label {name} does not end"))?;
        if found.insert(name.to_owned(), unescape(&after[..end], true)?).is_some() {
            return Err(format!("label {name} twice"));
        }
        match after[end + 1..].chars().next() {
            Some(',') => rest = &after[end + 2..],
            Some('}') => return Ok((found, &after[end + 2..])),
            other => return Err(format!("{other:?} after label {name}")),
        }
    }
}

/// Suffixes of the samples of a type.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total", "_created"],
        "info" => &["_info"],
        "gauge" | "unknown" => &[""],
        _ => &[],
    }
}

/// Parses a whole exposition.
pub fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let body = body.strip_suffix("# EOF").ok_or("it does not end with # EOF")?;
    let body = match body {
        "" => return Ok(BTreeMap::new()),
        body => body.strip_suffix('\n').ok_or("# EOF is not on a line of its own")?,
    };
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in body.split('\n') {
        let failed = |why: String| format!("{why}, in line {line:?}");
        if line.is_empty() || line.contains('\r') {
            return Err(failed("empty line or carriage return".into()));
        }
        if let Some(comment) = line.strip_prefix('#') {
            metadata(comment, &mut families, &mut current).map_err(failed)?;
        } else {
            sample(line, &mut families, &mut current).map_err(failed)?;
        }
    }
    no_clashes(&families)?;
    Ok(families)
}

/// Makes `name` the family that lines belong to; a family whose lines were left does not come back.
fn enter(name: &str, families: &mut BTreeMap<String, Family>, current: &mut Option<String>) -> Result<(), String> {
    if current.as_deref() != Some(name) {
        if families.contains_key(name) {
            return Err(format!("family {name} is torn apart"));
        }
        families.insert(name.to_owned(), Family::new());
        *current = Some(name.to_owned());
    }
    Ok(())
}

fn metadata(
    comment: &str,
    families: &mut BTreeMap<String, Family>,
    current: &mut Option<String>,
) -> Result<(), String> {
    let mut words = comment.splitn(4, ' ');
    let (Some(""), Some(what), Some(name), Some(value)) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("not TYPE, UNIT or HELP of something".into());
    };
    if !is_name(name, true) {
        return Err(format!("bad family name {name:?}"));
    }
    enter(name, families, current)?;
    let family = families.get_mut(name).ok_or("entered")?;
    if !family.samples.is_empty() {
        return Err("metadata after samples".into());
    }
    match what {
        "TYPE" if !family.kind.is_empty() => return Err("a second TYPE".into()),
        "TYPE" if suffixes(value).is_empty() => return Err(format!("type {value:?}")),
        "TYPE" => family.kind = value.into(),
        "UNIT" if family.unit.is_some() => return Err("a second UNIT".into()),
        "UNIT" if !is_name(value, false) || !name.ends_with(&format!("_{value}")) => {
            return Err(format!("unit {value:?} is no suffix of the name"));
        }
        "UNIT" => family.unit = Some(value.into()),
        "HELP" if family.help.is_some() => return Err("a second HELP".into()),
        "HELP" => family.help = Some(unescape(value, false)?),
        _ => return Err(format!("metadata {what:?}")),
    }
    if family.kind == "info" && family.unit.is_some() {
        return Err("info with a unit".into());
    }
    Ok(())
}

fn sample(line: &str, families: &mut BTreeMap<String, Family>, current: &mut Option<String>) -> Result<(), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err(format!("bad sample name {name:?}"));
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => match rest.strip_prefix('}') {
            Some(rest) => (BTreeMap::new(), rest),
            None => labels(rest)?,
        },
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.strip_prefix(' ').ok_or("no space before the value")?.split(' ');
    let value = number(words.next().ok_or("no value")?)?;
    if let Some(timestamp) = words.next() {
        number(timestamp)?;
    }
    if words.next().is_some() {
        return Err("more after the timestamp".into());
    }
    // The family whose lines these are, if the name is its; else a new one without metadata.
    let owner = current.clone().filter(|owner| {
        families.get(owner).is_some_and(|family| {
            suffixes(family.kind()).iter().any(|suffix| name.strip_suffix(suffix) == Some(owner.as_str()))
        })
    });
    let owner = owner.unwrap_or_else(|| name.to_owned());
    enter(&owner, families, current)?;
    let family = families.get_mut(&owner).ok_or("entered")?;
    match family.kind() {
        "counter" if !(value >= 0.0 && value.is_finite()) => return Err("a counter below 0, or not a number".into()),
        "info" if value != 1.0 => return Err("an info that is not 1".into()),
        _ => {}
    }
    match family.samples.insert((name.to_owned(), labels), value) {
        Some(_) => Err("a sample twice".into()),
        None => Ok(()),
    }
}

/// No family's samples have names that another family's samples could have.
fn no_clashes(families: &BTreeMap<String, Family>) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for (name, family) in families {
        let own: BTreeSet<String> =
            std::iter::once("").chain(suffixes(family.kind()).iter().copied()).map(|s| format!("{name}{s}")).collect();
        for own in own {
            if !names.insert(own.clone()) {
                return Err(format!("two families have samples called {own}"));
            }
        }
    }
    Ok(())
}

#[test]
fn the_parser_is_strict() {
    let good = "# TYPE a counter\n# UNIT a_bytes bytes\n# EOF\n";
    assert!(parse(good).is_ok());
    let good = "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes x\\\\ \"y\" \\n\n\
                a_bytes_total{l=\"1\\\"\\n\\\\\",m=\"\"} 17\na_bytes_total 1.5e3 12.5\n# TYPE b gauge\nb -1\n# EOF";
    let parsed = parse(good).expect("good");
    assert_eq!(parsed["a_bytes"].help.as_deref(), Some("x\\ \"y\" \n"));
    let label = BTreeMap::from([("l".to_owned(), "1\"\n\\".to_owned()), ("m".to_owned(), String::new())]);
    assert_eq!(parsed["a_bytes"].samples[&("a_bytes_total".to_owned(), label)], 17.0);
    for bad in [
        "",
        "# TYPE a counter\n",
        "# TYPE a counter# EOF\n",
        "a 1\n# EOF\n\n",
        "a 1\n# EOF\nb 1\n",
        "\n# EOF\n",
        "a 1\r\n# EOF\n",
        "# a comment\n# EOF\n",
        "#TYPE a counter\n# EOF\n",
        "# TYPE a counter\n# TYPE a counter\n# EOF\n",
        "# TYPE a nonsense\n# EOF\n",
        "# UNIT a bytes\n# EOF\n",
        "# HELP a \\x\n# EOF\n",
        "# TYPE a counter\na 1\n# TYPE a_b gauge\na_b 1\n# TYPE a counter\n# EOF\n",
        "# TYPE a counter\na_total -1\n# EOF\n",
        "# TYPE a counter\na_total NaN\n# EOF\n",
        "# TYPE a info\na_info 2\n# EOF\n",
        "# TYPE a gauge\na 1\n# HELP a late\n# EOF\n",
        "# TYPE a gauge\na{l=\"1\"} 1\na{l=\"1\"} 2\n# EOF\n",
        "# TYPE a gauge\na{l=\"1\",l=\"2\"} 1\n# EOF\n",
        "# TYPE a gauge\na{l=\"1\",} 1\n# EOF\n",
        "# TYPE a gauge\na{l=\"1\"}1\n# EOF\n",
        "# TYPE a gauge\na{l= \"1\"} 1\n# EOF\n",
        "# TYPE a gauge\na{1l=\"1\"} 1\n# EOF\n",
        "# TYPE a gauge\na{l=\"\\q\"} 1\n# EOF\n",
        "# TYPE a gauge\na  1\n# EOF\n",
        "# TYPE a gauge\na 0x10\n# EOF\n",
        "# TYPE a gauge\na .\n# EOF\n",
        "# TYPE a gauge\na\n# EOF\n",
        "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\na 2\n# EOF\n",
        "# TYPE a counter\na_total 1\n# TYPE a_total gauge\na_total 1\n# EOF\n",
        "# TYPE 1a gauge\n# EOF\n",
    ] {
        assert!(parse(bad).is_err(), "{bad:?} was taken");
    }
}
