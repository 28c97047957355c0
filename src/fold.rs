//! Case folding as the gateway does it to a key before it looks it up.
//!
//! Postfix folds with ICU's full default case folding when `smtputf8_enable = yes` and the text is not plain ASCII
//! (`src/util/casefold.c`: `ucasemap_utf8FoldCase`, `U_FOLD_CASE_DEFAULT`), with ASCII lower case otherwise. It neither
//! normalises (composed and decomposed letters stay different) nor converts domain names. `str::to_lowercase` is
//! another function: it keeps `ß`, where folding makes `ss`.

use std::borrow::Cow;

use icu_casemap::CaseMapper;

/// Which folding the gateway that reads a table applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Folding {
    /// `smtputf8_enable = yes`: full Unicode case folding.
    Unicode,
    /// `smtputf8_enable = no`: ASCII letters only.
    Ascii,
    /// Both, for a table that gateways of both settings read.
    Both,
}

/// `text` under full Unicode case folding.
pub fn unicode(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return ascii(text);
    }
    CaseMapper::new().fold_string(text)
}

/// `text` with its ASCII letters in lower case.
pub fn ascii(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What postmap 3.7.11 makes of the same text is compared in tests/postmap.rs, for every letter that folds.
    #[test]
    fn folding_is_not_lower_casing() {
        for (text, unicode_folded, ascii_folded) in [
            ("Anna", "anna", "anna"),
            ("MÜLLER", "müller", "mÜller"),
            ("straße", "strasse", "straße"),
            ("STRASSE", "strasse", "strasse"),
            ("ΣΊΣΥΦΟΣ", "σίσυφοσ", "ΣΊΣΥΦΟΣ"),
            ("σίσυφος", "σίσυφοσ", "σίσυφος"),
            ("İ", "i̇", "İ"),
            ("ŉ", "ʼn", "ŉ"),
            ("", "", ""),
        ] {
            assert_eq!(unicode(text), unicode_folded, "{text}");
            assert_eq!(ascii(text), ascii_folded, "{text}");
        }
    }
}
