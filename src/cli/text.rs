//! Numbers as people read them.

/// Bytes with a binary unit, three figures: 1.50 MiB.
pub fn bytes(n: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = (63 - n.max(1).leading_zeros() as usize) / 10;
    let unit = unit.min(units.len() - 1);
    if unit == 0 {
        return format!("{n} {}", units[0]);
    }
    let value = n as f64 / (1u64 << (10 * unit)) as f64;
    let decimals = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// A count with thousands separated: 12 345 678.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// So many of something: 1 read, 2 reads.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `part` of `whole` in percent. 100 % and 0 % mean exactly that.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    let text = format!("{percent:.2} %");
    match text.as_str() {
        "100.00 %" if part < whole => "99.99 %".into(),
        "0.00 %" if part > 0 => "0.01 %".into(),
        "100.00 %" => "100 %".into(),
        "0.00 %" => "0 %".into(),
        _ => text,
    }
}

/// Text in lines of at most `width` columns, if its words allow: the first begins with `first`, the others with `rest`.
pub fn wrap(text: &str, width: usize, first: &str, rest: &str) -> String {
    let (mut out, mut column) = (first.to_owned(), first.chars().count());
    let mut fresh = true;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if !fresh && column + 1 + long > width {
            out.push('\n');
            out.push_str(rest);
            (column, fresh) = (rest.chars().count(), true);
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        (column, fresh) = (column + long, false);
    }
    out
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a share never looks complete or empty when it is not | `shares_do_not_round_to_all_or_nothing` |
    //! | sizes and counts read well | `sizes_and_counts_read_well` |
    //! | lines are not longer than asked, and no word is lost | `text_is_wrapped_between_words` |
    use super::*;

    #[test]
    fn shares_do_not_round_to_all_or_nothing() {
        assert_eq!(share(999_999_999, 1_000_000_000), "99.99 %");
        assert_eq!(share(1, 1_000_000_000), "0.01 %");
        assert_eq!(share(5, 5), "100 %");
        assert_eq!(share(0, 5), "0 %");
        assert_eq!(share(985, 1000), "98.50 %");
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(count(12_345_678), "12 345 678");
        assert_eq!(count(999), "999");
        assert_eq!((counted(1, "read"), counted(0, "read")), ("1 read".to_owned(), "0 reads".to_owned()));
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("a bb ccc dddd", 8, "→ ", "  "), "→ a bb\n  ccc\n  dddd");
        assert_eq!(wrap("longerthanthat x", 5, "", " "), "longerthanthat\n x");
        assert_eq!(wrap("a bb", 4, "", ""), "a bb");
    }
}
