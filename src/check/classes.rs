//! Judging what is asked before the table or instead of it: the class of a domain, and aliases.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::{Told, error, info, not_checked, some_of};

pub(super) fn ignored(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let mut by_parameter: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, parameter) in &postfix.classes {
        by_parameter
            .entry(parameter)
            .or_default()
            .push(name.clone());
    }
    let listed = by_parameter.into_iter().map(|(parameter, names)| {
        error(
            format!("{parameter} has {}", some_of(&names)),
            "a domain that stands there is not of the relay class, whatever relay_domains says: relay_recipient_maps is not asked \
             for it",
            format!("take it out of {parameter}"),
        )
    });
    let unknown = postfix.classes_unknown.iter().map(|(parameter, why)| {
        not_checked(
            &format!("whether {parameter} has a domain of ours"),
            why,
            "a table there that does not open stops mail",
        )
    });
    listed.chain(unknown).collect()
}

pub(super) fn alias_wildcards(facts: &Facts<'_>) -> Vec<Told> {
    let aliases = facts.postfix().map_or(&[][..], |postfix| &postfix.aliases);
    let told = aliases.iter().filter_map(|alias| match &alias.wildcards {
        Ok(wildcards) if wildcards.is_empty() => None,
        Ok(wildcards) => {
            let names: Vec<String> = wildcards.iter().cloned().collect();
            Some(error(
                format!("{} takes the mail of everybody in {} ({})", alias.parameter, some_of(&names), alias.text),
                "an address that an alias table matches is taken before relay_recipient_maps is asked",
                format!("take the row @DOMAIN or the pattern out of {}; list the addresses one by one", alias.text),
            ))
        }
        Err(why) => Some(not_checked(
            &format!("what {} takes beside the table ({})", alias.parameter, alias.text),
            why,
            "a table there that does not open stops mail",
        )),
    });
    told.collect()
}

pub(super) fn aliases(facts: &Facts<'_>) -> Vec<Told> {
    let aliases = facts.postfix().map_or(&[][..], |postfix| &postfix.aliases);
    let told = aliases.iter().filter_map(|alias| match &alias.addresses {
        Ok(addresses) if addresses.is_empty() => None,
        Ok(addresses) => Some(info(
            format!("{} has addresses that no table has: {}", alias.text, some_of(addresses)),
            "they are taken although no source knows them; if what they lead to goes, mail for them bounces",
            String::new(),
        )),
        // What does not open is told above.
        Err(_) if alias.wildcards.is_err() => None,
        Err(why) => Some(not_checked(&format!("which single addresses {} takes", alias.text), why, "")),
    });
    told.collect()
}
