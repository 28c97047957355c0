//! PMG's main.cf is made from a template; ours wraps the packaged one (`templates/gateway/pmg.main.cf.in` says how).
//!
//! Two new files in `/etc/pmg/templates`: a symbolic link to the packaged template, and after it the one that uses the link.
//! Not here: making main.cf from them. `pmgconfig sync` does that, and nobody else.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::{new_file, not_written, refused};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::templates::{self, Names};

/// Ours.
pub const OVERRIDE: &str = "/etc/pmg/templates/main.cf.in";
/// PMG's own, under a name by which ours reaches it.
const LINK: &str = "/etc/pmg/templates/main.cf.in.packaged";
/// PMG's own.
const PACKAGED: &str = "/var/lib/pmg/templates/main.cf.in";
/// There on every node of a cluster.
const CLUSTER: &str = "/etc/pmg/cluster.conf";

/// Puts link and template in their places below `root`, which is `/` but for tests.
pub fn install(root: &Path, names: &Names, out: &mut dyn Write) -> Result<u8> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let (ours, link, packaged) = (below(OVERRIDE), below(LINK), below(PACKAGED));
    if !packaged.is_file() {
        let why = "the packaged template is not there, so this is no Proxmox Mail Gateway";
        let next = "for another Postfix: `rcptsync init postfix --install`";
        return Err(refused(
            Exit::Configuration,
            "PMG cannot be told of the table",
            PACKAGED,
            why,
            next,
        ));
    }
    let text = templates::pmg_override(names);
    let is_linked = is_in_place(&link, fs::read_link(&link), &packaged)
        .map_err(|why| occupied(&link, &why, names))?;
    let is_written = is_in_place(&ours, fs::read_to_string(&ours), &text)
        .map_err(|why| occupied(&ours, &why, names))?;
    if is_linked && is_written {
        let _ = writeln!(out, "PMG is set up already; nothing was changed");
    } else {
        let directory = ours.parent().unwrap_or(root);
        fs::create_dir_all(directory).map_err(|error| not_written(directory, &error))?;
        if !is_linked {
            std::os::unix::fs::symlink(&packaged, &link)
                .map_err(|error| not_written(&link, &error))?;
            let _ = writeln!(out, "linked  {} -> {}", link.display(), packaged.display());
        }
        if !is_written {
            new_file::write(&ours, text.as_bytes(), 0o644)
                .map_err(|error| not_written(&ours, &error))?;
            let _ = writeln!(out, "wrote   {}", ours.display());
        }
    }
    let _ = writeln!(out, "next    pmgconfig sync --restart 1");
    let _ = writeln!(
        out,
        "then    postconf relay_recipient_maps smtpd_recipient_restrictions"
    );
    if below(CLUSTER).exists() {
        let _ = writeln!(
            out,
            "\nThis is a node of a cluster. PMG copies both files from the master to the others, and deletes what others have.\n\
             It does not copy the table: rcptsync runs on every node. A node that lacks the table leaves the setting out."
        );
    }
    Ok(Exit::Current.code())
}

/// Whether exactly this is there already; an error where something else is.
fn is_in_place<Found: PartialEq>(
    path: &Path,
    found: io::Result<Found>,
    wanted: &Found,
) -> std::result::Result<bool, String> {
    match found {
        Ok(found) if found == *wanted => Ok(true),
        Ok(_) => Err("something else is there already, and it is not overwritten".into()),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            Ok(false)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// An administrator's own template stays; these lines make it do what ours would.
fn occupied(path: &Path, why: &str, names: &Names) -> Box<Failure> {
    let next = format!(
        "put these into your own {OVERRIDE}:\n\
         behind reject_unauth_destination in smtpd_recipient_restrictions:  reject_unlisted_recipient\n\
         as a line of its own at the end:  relay_recipient_maps = {}\n\
         then: pmgconfig sync --restart 1",
        names.map()
    );
    refused(
        Exit::NotWritten,
        "a file of PMG's was not written",
        &path.display().to_string(),
        why,
        &next,
    )
}
