//! `approve DIGEST`: releases the changes that one hold names.
//!
//! Reads no source and needs no secret. The next run applies what is still wanted of them and judges everything else
//! anew, so a busy directory does not outrun an approval; it lapses after 24 hours.

use std::io::Write;

use crate::config::Config;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::harmless::key;
use crate::hold::{Cause, is_approvable};
use crate::report::page::Page;
use crate::report::{GOOD, counted};
use crate::state::State;
use crate::state::head::{APPROVAL_LIFE, HoldState};
use crate::time::Timestamp;

/// The shortest prefix of a digest that is taken.
const PREFIX_MIN: usize = 8;

/// Why a hold cannot be approved, and what to do instead.
fn ignorance(hold: &HoldState) -> (String, String) {
    let scope = key(hold.scope.as_bytes());
    let (origin, section) = if hold.cause == Cause::DomainsNeverRead {
        (
            format!("the domains of {scope}"),
            "`from` of [domains]".to_owned(),
        )
    } else {
        (format!("source {scope}"), format!("[source.{scope}]"))
    };
    (
        format!(
            "the first publication waits for {origin}, and without it nobody knows whom the table would refuse"
        ),
        format!("let it be read once, or take {section} out of the configuration"),
    )
}

/// Approves the hold whose digest begins with `prefix`.
pub fn run(config: &Config, prefix: &str, out: &mut dyn Write) -> Result<u8> {
    let now = Timestamp::now();
    let state = State::lock(&config.state_dir)?;
    let mut head = state.head()?;
    let refused = |why: String| {
        Box::new(Failure {
            exit: Exit::Usage,
            what: "nothing was approved".into(),
            place: state.directory().display().to_string(),
            why,
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: "`rcptsync status` lists the holds of the last run; `rcptsync sync` finds the present ones".into(),
        })
    };
    if prefix.len() < PREFIX_MIN || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused(format!(
            "{prefix:?} is not the digest of a hold: at least {PREFIX_MIN} hexadecimal digits"
        )));
    }
    let prefix = prefix.to_ascii_lowercase();
    let found: Vec<String> = head
        .holds
        .keys()
        .filter(|digest| digest.starts_with(&prefix))
        .cloned()
        .collect();
    let [digest] = found.as_slice() else {
        return Err(refused(match found.len() {
            0 => format!("no hold of the last 24 hours has the digest {prefix}"),
            count => format!("{count} holds begin with {prefix}"),
        }));
    };
    if let Err(lost) = state.hold(digest) {
        return Err(refused(format!(
            "the rows of hold {digest} are lost: {lost}"
        )));
    }
    if let Some(hold) = head
        .holds
        .get(digest)
        .filter(|hold| !is_approvable(hold.cause, hold.removed_count))
    {
        let (why, next) = ignorance(hold);
        let mut failure = refused(why);
        failure.next = next;
        return Err(failure);
    }
    if let Some(hold) = head.holds.get_mut(digest) {
        hold.approved_at = Some(now);
        let what = format!(
            "{}, {} of table {}: {} and {}\n\
             the next run applies those that are still wanted, until {}; everything else is judged anew",
            hold.cause.name(),
            key(hold.scope.as_bytes()),
            hold.table,
            counted(hold.added_count, "addition", "additions"),
            counted(hold.removed_count, "removal", "removals"),
            now.after(APPROVAL_LIFE)
        );
        let _ = Page::stdout(out).hanging(&format!("{GOOD}approved{GOOD:#}: "), &what);
    }
    state.store_head(&head)?;
    Ok(Exit::Current.code())
}
