//! Gathering what the checks judge: the only part of `check` that touches the world. It writes nothing, takes no lock, and
//! gives up on nothing silently: what could not be looked at becomes a fact of its own.

mod exposed;
mod files;
mod gateway;
pub mod pmg;
mod sources;

use std::path::Path;
use std::time::Instant;

pub(super) use gateway::RESTRICTIONS;

use super::facts::Facts;
use crate::command::plan::domains::listed;
use crate::config::Config;
use crate::exchange::Organisation;
use crate::postfix::relay_domains::{RelayDomainsError, relay_domains};
use crate::snapshot::Progress;
use crate::state::State;
use crate::time::Timestamp;

/// Where one `doctor` begins.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'run> {
    /// The configuration.
    pub config: &'run Config,
    /// The time.
    pub now: Timestamp,
    /// The same moment, for measuring from.
    pub started: Instant,
    /// When it must be over.
    pub deadline: Instant,
    /// How far the reading of sources is.
    pub progress: &'run Progress,
}

/// Gathers everything. Files of Proxmox Mail Gateway are looked for below `root`.
pub fn gather<'run>(begin: &Begin<'run>, root: &Path) -> Facts<'run> {
    let config = begin.config;
    let state = State::view(&config.state_dir);
    let files = files::gather(config, &state);
    let head = files.head.as_ref().and_then(|head| head.as_ref().ok());
    let sources = sources::gather(begin, &state, &files.secrets);
    let relayed = match relay_domains() {
        Err(RelayDomainsError::Empty) => Ok(Vec::new()),
        found => found.map_err(|error| error.to_string()),
    };
    let organisations: Vec<&Organisation> = config
        .sources
        .iter()
        .zip(&sources)
        .filter_map(|(source, now)| {
            let read = now
                .reading
                .as_ref()
                .and_then(|reading| reading.as_ref().ok());
            let known = head.and_then(|head| head.sources.get(&source.name));
            read.and_then(|read| read.organisation.as_ref())
                .filter(|found| !found.accepted_domains.is_empty())
                .or(known.and_then(|known| known.organisation.as_ref()))
        })
        .collect();
    let entries = relayed.as_deref().unwrap_or_default();
    let listed = listed(&config.domains, organisations.into_iter(), entries);
    let owner = files::owner(config);
    let account = rustix::process::geteuid();
    Facts {
        config,
        now: begin.now,
        is_root: account.is_root(),
        is_owner: account.is_root() || owner.is_none_or(|owner| owner == account.as_raw()),
        tables: files::tables(config, head),
        gateway: gateway::gather(config, &listed, entries),
        pmg: pmg::look(root),
        files,
        sources,
        listed,
        relayed,
    }
}
