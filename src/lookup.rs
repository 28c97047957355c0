//! The keys that Postfix asks a table for, in its order: another for each kind of table. Pure.
//!
//! Sources: `src/global/mail_addr_find.c` (recipients, transport), `src/smtpd/smtpd_check.c` (access), `src/util/match_list.c`
//! (domains); `src/global/split_addr.c` for extensions. Whether a parent matches its sub-domains depends on the setting
//! `parent_domain_matches_subdomains`; both forms of a parent are named here, since a table says the same in both.

use crate::address::Address;
use crate::config::TableKind;
use crate::domains::forms_of;
use crate::fold::Folding;
use crate::keys::{Key, domain_part, folded_forms};

/// The keys for an address.
pub fn order(kind: TableKind, address: &Address, folding: Folding, delimiter: &str) -> Vec<String> {
    let whole = [Some(address.clone()), without_extension(address, delimiter)];
    let addresses = || {
        let addresses = whole.iter().flatten();
        addresses.flat_map(|address| forms(address, folding))
    };
    let domains = || {
        let forms = forms_of(address.domain(), folding);
        forms
            .into_iter()
            .map(|form| String::from_utf8_lossy(&form).into_owned())
    };
    let mut keys: Vec<String> = match kind {
        TableKind::Recipients => addresses()
            .chain(domains().map(|domain| format!("@{domain}")))
            .collect(),
        TableKind::Access | TableKind::Callout => {
            let locals = whole
                .iter()
                .flatten()
                .flat_map(|address| folded_forms(&format!("{}@", address.quoted_local()), folding));
            addresses()
                .chain(domains().flat_map(with_parents))
                .chain(locals)
                .collect()
        }
        TableKind::Transport => addresses()
            .chain(domains().flat_map(with_parents))
            .chain(["*".to_owned()])
            .collect(),
        TableKind::Domains => domains().flat_map(with_parents).collect(),
    };
    if folding == Folding::Ascii {
        // Without SMTPUTF8 a domain in its other form is no domain, and nobody is asked for.
        keys.retain(|key| domain_part(key.as_bytes()).is_ascii());
    }
    keys
}

/// An address as it is asked for: in external form, then in internal form where that is another. So the key of `a b@…`, which
/// is `"a b"@…`, is found for the local part `"a b"` with quotes of its own, too.
fn forms(address: &Address, folding: Folding) -> Vec<String> {
    let keys = Key::all_of(address, folding).into_iter();
    let mut forms: Vec<String> = keys.map(|key| key.as_str().to_owned()).collect();
    let domain = address.domain();
    for domain in [domain.ascii(), domain.unicode()] {
        for form in folded_forms(&format!("{}@{domain}", address.local()), folding) {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms
}

/// A name, then each of its parents with and without a dot, the nearest first.
fn with_parents(name: String) -> Vec<String> {
    let mut names = vec![name.clone()];
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        names.extend([parent.to_owned(), format!(".{parent}")]);
        rest = parent;
    }
    names
}

/// `split_addr` of Postfix: at the first delimiter, unless nothing would stand before it or the name is reserved.
fn without_extension(address: &Address, delimiter: &str) -> Option<Address> {
    let local = address.local();
    let folded = local.to_ascii_lowercase();
    let is_reserved = matches!(
        folded.as_str(),
        "postmaster" | "mailer-daemon" | "double-bounce"
    ) || (delimiter.contains('-')
        && (folded.starts_with("owner-") || folded.ends_with("-request")));
    let at = local
        .find(|character| delimiter.contains(character))
        .filter(|at| *at > 0 && !is_reserved)?;
    Address::of(&local[..at], address.domain()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: TableKind, address: &str, delimiter: &str, expected: &str) {
        let address = Address::parse(address).expect("an address");
        let order = order(kind, &address, Folding::Unicode, delimiter);
        assert_eq!(order.join(" "), expected);
    }

    #[test]
    fn keys_are_asked_for_as_postfix_does() {
        let check = |address: &str, delimiter: &str, expected: &str| {
            check(TableKind::Recipients, address, delimiter, expected);
        };
        let all = "anna+news@example.com @example.com";
        check("Anna+news@example.com", "", all);
        let all = "anna+news@example.com anna@example.com @example.com";
        check("Anna+news@example.com", "+", all);
        let all = "anna-news@example.com anna@example.com @example.com";
        check("anna-news@example.com", "+-", all);
        check("+news@example.com", "+", "+news@example.com @example.com");
        let all = "owner-list@example.com @example.com";
        check("owner-list@example.com", "-", all);
        let all = "owner+list@example.com owner@example.com @example.com";
        check("owner+list@example.com", "+", all);
        // What needs quotes is asked for with and without them; the local part may hold some of its own.
        let all = r#""a,b"@example.com a,b@example.com @example.com"#;
        check(r#""A,b"@example.com"#, "+", all);
        let all = r#""\"a,b\""@example.com "a,b"@example.com @example.com"#;
        check(r#""\"a,b\""@example.com"#, "+", all);
        let all = concat!(
            r#""a\"+x"@example.com a"+x@example.com "#,
            r#""a\""@example.com a"@example.com @example.com"#
        );
        check(r#""a\"+x"@example.com"#, "+", all);
        let all = concat!(
            r#""a\\b+x"@example.com a\b+x@example.com "#,
            r#""a\\b"@example.com a\b@example.com @example.com"#
        );
        check(r#""a\\b+x"@example.com"#, "+", all);
    }

    #[test]
    fn every_kind_of_table_is_asked_in_its_own_order() {
        let address = "a+b@x.example";
        check(
            TableKind::Access,
            address,
            "+",
            "a+b@x.example a@x.example x.example example .example a+b@ a@",
        );
        check(
            TableKind::Transport,
            address,
            "+",
            "a+b@x.example a@x.example x.example example .example *",
        );
        check(
            TableKind::Domains,
            address,
            "+",
            "x.example example .example",
        );
    }
}
