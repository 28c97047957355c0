//! Judging tables of `check_recipient_access`: a row `example.com` answers for its sub-domains, too, where
//! `parent_domain_matches_subdomains` names `smtpd_access_maps`.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::{Told, not_checked, some_of, warning};

pub(super) fn sub_domains(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let parents = postfix.settings.words("parent_domain_matches_subdomains");
    let is_matched = parents.contains(&"smtpd_access_maps");
    let mut found = Vec::new();
    for access in &postfix.access {
        let rows = match &access.rows {
            Ok(rows) => rows,
            Err(why) => {
                found.push(not_checked(
                    &access.text,
                    why,
                    "a table there that does not open stops mail",
                ));
                continue;
            }
        };
        if !is_matched {
            continue;
        }
        let answered: Vec<String> = postfix
            .forms
            .keys()
            .filter(|name| !rows.contains_key(*name))
            .filter_map(|name| {
                parent_with_row(name, rows).map(|parent| format!("{name} by the row {parent}"))
            })
            .collect();
        if !answered.is_empty() {
            found.push(warning(
                format!("{} answers for {}", access.text, some_of(&answered)),
                "parent_domain_matches_subdomains names smtpd_access_maps, so the row of a domain is that of its sub-domains, too",
                "give each sub-domain a row of its own, or take smtpd_access_maps out of parent_domain_matches_subdomains".into(),
            ));
        }
    }
    found
}

/// The nearest domain above one that has a row.
fn parent_with_row<'name>(name: &'name str, rows: &BTreeMap<String, String>) -> Option<&'name str> {
    let mut above = name;
    while let Some((_, parent)) = above.split_once('.') {
        if rows.contains_key(parent) {
            return Some(parent);
        }
        above = parent;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_labels_to_the_left() {
        let rows = BTreeMap::from([("example.com".to_owned(), "DUNNO".to_owned())]);
        assert_eq!(
            parent_with_row("a.b.example.com", &rows),
            Some("example.com")
        );
        assert_eq!(parent_with_row("notexample.com", &rows), None);
        assert_eq!(parent_with_row("example.com", &rows), None);
    }
}
