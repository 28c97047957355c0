//! Plain text in the words of roff, as man(7) pages are written. Pure.
//!
//! Invariant: what is passed in is text alone. No letter of it acts on the page but a pair of backticks, which prints bold.

/// mandoc(1) asks for source lines of at most 80 octets.
const WIDTH: usize = 78;

/// Text that stands within a line.
pub fn inline(text: &str) -> String {
    let mut roff = String::with_capacity(text.len());
    let mut is_bold = false;
    for letter in text.chars() {
        match letter {
            '\\' => roff.push_str("\\e"),
            '-' => roff.push_str("\\-"),
            '"' => roff.push_str("\\(dq"),
            '\'' => roff.push_str("\\(aq"),
            '`' => {
                is_bold = !is_bold;
                roff.push_str(if is_bold { "\\fB" } else { "\\fR" });
            }
            other => roff.push(other),
        }
    }
    roff
}

/// One paragraph without its macro, broken into lines. None of them begins with a letter that roff takes for a request.
pub fn paragraph(text: &str) -> String {
    let (mut roff, mut width) = (String::new(), 0);
    for word in inline(text).split_whitespace() {
        if width > 0 && width + 1 + word.len() <= WIDTH {
            roff.push(' ');
            width += 1;
        } else if width > 0 {
            roff.push('\n');
            width = 0;
        }
        // An apostrophe is written as an escape already.
        if width == 0 && word.starts_with('.') {
            roff.push_str("\\&");
        }
        roff.push_str(word);
        width += word.len();
    }
    roff.push('\n');
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(paragraph(text), format!("{expected}\n"));
    }

    #[test]
    fn text_is_never_a_request() {
        check(".so /etc/shadow", "\\&.so /etc/shadow");
        check("'tr ab", "\\(aqtr ab");
        check("\\fBno\\fR", "\\efBno\\efR");
        check("`.cdb` and --config", "\\fB.cdb\\fR and \\-\\-config");
        check("say \"no\"", "say \\(dqno\\(dq");
    }

    #[test]
    fn a_paragraph_is_broken_and_no_line_begins_with_a_request() {
        let told = paragraph(&format!("{} .x {}", "a".repeat(76), "b".repeat(90)));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1] == "\\&.x" && lines[2].len() == 90, "{told}");
    }
}
