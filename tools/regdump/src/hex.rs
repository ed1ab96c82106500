//! The bytes of one structure, as somebody has written them down.

use connectx_ddp::inspect::{Hex, Item};

/// Bytes in hexadecimal by a table: words and bytes in any grouping, offsets in front of lines (`0010:`), and `0x` are
/// understood.
pub fn structure(layout: &str, text: &str) -> Result<Item, String> {
    let Some(info) = crate::meaning::layout(layout) else {
        return Err(format!("there is no layout {layout:?}; `cxddp-regdump decode --list` lists them"));
    };
    let mut digits = String::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let data = line.split_once(": ").map_or(line, |(_, data)| data);
        for word in data.split([' ', '\t', ',']) {
            let word = word.trim().trim_start_matches("0x");
            if !word.bytes().all(|byte| byte.is_ascii_hexdigit()) || word.len() % 2 != 0 {
                return Err(format!("{word:?} is no even number of hexadecimal digits"));
            }
            digits.push_str(word);
        }
    }
    let bytes: Hex = serde_json::from_value(digits.into()).map_err(|error| error.to_string())?;
    if bytes.0.is_empty() {
        return Err("there are no bytes".into());
    }
    Ok(Item { name: format!("{} bytes", bytes.0.len()), layout: info.name.into(), bytes, ..Item::default() })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | hexadecimal is read in whatever grouping, and what is none refused | `hexadecimal_is_read` |
    use super::*;

    #[test]
    fn hexadecimal_is_read() {
        let item = structure("pmtu_reg", "0000: 0001 0000, 0x27100000 # max\n0008: 05f20000\n").expect("bytes");
        assert_eq!(item.bytes.0, [0, 1, 0, 0, 0x27, 0x10, 0, 0, 5, 0xf2, 0, 0]);
        for (layout, text, word) in [("x", "00", "no layout"), ("pmtu_reg", "", "no bytes"), ("pmtu_reg", "0g", "0g")] {
            assert!(structure(layout, text).expect_err(text).contains(word));
        }
    }
}
