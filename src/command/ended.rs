//! What every run tells at its end, however it ended: its record.
//!
//! Reads what the run left behind (head.json as it is now, not as the run believed it), and decides nothing. Nothing here
//! changes how a run ended.

use super::plan;
use crate::state::State;
use crate::state::runs::RunRecord;

/// Tells everybody who is told of every run.
pub fn tell(_run: &plan::Run<'_>, state: &State, record: &RunRecord) {
    state.store_run(record);
}
