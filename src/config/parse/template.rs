//! `[table.NAME] template`: one that comes with the program, or a file of the administrator's own. Pure but for the reading,
//! which its caller does.

use std::path::Path;

use super::super::Format;
use super::super::reader::Section;
use crate::table::format::template::{Template, shipped};

/// The template of a table that is made by one. It is tried here, so that its mistakes are told before anything is done.
pub(super) fn template(
    section: &Section<'_, '_>,
    formats: &[Format],
    directory: &Path,
) -> Option<Template> {
    let is_made_by_one = formats.contains(&Format::Template);
    if is_made_by_one && formats.len() > 1 {
        section.problem(
            "formats",
            "\"template\" stands alone: the table is one file, and path is its whole name",
        );
    }
    let names = || {
        let names = shipped().iter().map(|template| template.name);
        names.collect::<Vec<_>>().join(", ")
    };
    let named = match section.text("template") {
        Some(named) if is_made_by_one => named,
        Some(named) => {
            let message = "means nothing unless formats = [\"template\"]";
            section.problem_at(&named.at, "template", message);
            return None;
        }
        None => {
            if is_made_by_one {
                section.problem(
                    "template",
                    format!(
                        "missing: the path of a template, or one that comes with rcptsync: {}",
                        names()
                    ),
                );
            }
            return None;
        }
    };
    let problem = |message: String| section.problem_at(&named.at, "template", message);
    let of_name = shipped()
        .iter()
        .find(|template| template.name == named.value);
    let text = match of_name {
        Some(template) => template.text.to_owned(),
        None if !named.value.contains('/') => {
            problem(format!(
                "\"{}\" is none of {}, nor a path (which has a slash)",
                named.value,
                names()
            ));
            return None;
        }
        None => {
            let file = directory.join(&named.value);
            let unread = |why: String| problem(format!("{}: {why}", file.display()));
            match section.read_file(&file)?.map(String::from_utf8) {
                Ok(Ok(text)) => text,
                Ok(Err(_)) => {
                    unread("holds a byte that is not UTF-8; save the file as UTF-8".into());
                    return None;
                }
                Err(error) => {
                    unread(error.to_string());
                    return None;
                }
            }
        }
    };
    Template::new(&named.value, &text)
        .map_err(|error| problem(format!("{}: {error}", named.value)))
        .ok()
}
