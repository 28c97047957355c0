//! How far the reading is: a bar on a terminal, nothing elsewhere (the log has its plain lines).

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::snapshot::Progress;

const REDRAW: Duration = Duration::from_millis(100);

/// Does `work`, showing meanwhile how many entries were read.
pub fn while_reading<T>(progress: &Progress, is_wanted: bool, work: impl FnOnce() -> T) -> T {
    if !is_wanted || !std::io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} reading: {human_pos} entries, {per_sec}, {elapsed}")
    {
        bar.set_style(style);
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                bar.set_position(progress.entries_count());
                bar.tick();
                std::thread::sleep(REDRAW);
            }
            bar.finish_and_clear();
        });
        let done = work();
        is_done.store(true, Ordering::Relaxed);
        done
    })
}
