//! Text from elsewhere, harmless to look at: whoever writes an attribute, or answers in the place of a server, must not write to
//! the screen of the administrator who reads about it.
//!
//! Invariant: what comes out has no character that acts on a terminal, turns the order of the text around it or is not seen;
//! and nothing is lost, for each of them stands there as an escape. Not here: the escapes of Markdown (`report::markdown`).

/// Bytes from elsewhere as text that a terminal only shows: control characters, direction marks, characters that nobody sees
/// and bytes that are not UTF-8 stand there as escapes. Line ends stay.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\n' || !is_active(character) {
                text.push(character);
            } else {
                text.extend(character.escape_unicode());
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Characters that do something to a terminal or to the order of the text around them, and those that are not seen at all and
/// make two addresses look like one (`Default_Ignorable_Code_Point` of Unicode, and the marks of annotations).
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

/// A key for one line of output.
pub fn key(bytes: &[u8]) -> String {
    printable(bytes).replace('\n', "\\u{a}")
}

/// A key for a program that looks it up, and not for the eyes of a person. Only a foreign row can be no text.
pub fn exact(bytes: &[u8]) -> String {
    str::from_utf8(bytes).map_or_else(|_| key(bytes), str::to_owned)
}

/// JSON whose texts are exact, and which acts on nobody who looks at it: what [`printable`] would escape is escaped as JSON
/// does it.
pub fn inert_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        // A line end is one of the layout: in a text it is escaped already.
        if character != '\n' && is_active(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_acts_on_the_terminal() {
        for (bytes, expected) in [
            (b"anna@example.com".as_slice(), "anna@example.com"),
            ("müller@bücher.example".as_bytes(), "müller@bücher.example"),
            (b"\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("a\u{202e}b\u{200f}".as_bytes(), "a\\u{202e}b\\u{200f}"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            (
                "so\u{ad}ft\u{fe0f}\u{34f}".as_bytes(),
                "so\\u{ad}ft\\u{fe0f}\\u{34f}",
            ),
            (b"a\xffb", "a\\xffb"),
            (b"a\r\n", "a\\u{d}\n"),
        ] {
            assert_eq!(printable(bytes), expected);
        }
    }

    #[test]
    fn json_is_inert_and_exact() {
        let exact = "a\u{202e}b\u{e0041}c\u{7f}ü😀\n";
        let json = inert_json(&serde_json::to_string(exact).expect("a text"));
        assert_eq!(json, r#""a\u202eb\udb40\udc41c\u007fü😀\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), exact);
    }
}
