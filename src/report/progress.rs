//! How far a run is: lines that are drawn over and over on a terminal and gone at the end; elsewhere an event of the log now
//! and then (`-v`), for a journal that fills with progress hides what happened.
//!
//! A line a source with its entries, their rate and, where all is read again, how long that may take; then what is being
//! done, where it takes longer than a moment. Always on standard error. Whoever else writes there meanwhile does it through
//! [`beside`], so that neither ends up in the other's line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::number;
use crate::harmless::key;
use crate::snapshot::{Progress, Seen};
use crate::time::rough;

const REDRAW: Duration = Duration::from_millis(100);
/// What takes no longer is not worth a line.
const MOMENT: Duration = Duration::from_secs(1);
/// Between two events of the log.
const BETWEEN_EVENTS: Duration = Duration::from_secs(10);

const COUNTING: &str = "{prefix}  {human_pos} entries, {rate}, {elapsed}";
const ESTIMATING: &str =
    "{prefix}  {wide_bar} {human_pos} of about {human_len}, {rate}, {left} left";
const STAGE: &str = "{spinner} {msg}, {elapsed}";

/// What is drawn now.
static DRAWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

fn drawn() -> MutexGuard<'static, Option<MultiProgress>> {
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work`, showing meanwhile how far it is.
pub fn shown<T>(progress: &Progress, is_wanted: bool, work: impl FnOnce() -> T) -> T {
    let is_drawn = io::stderr().is_terminal();
    if !is_wanted || !(is_drawn || tracing::enabled!(tracing::Level::INFO)) {
        return work();
    }
    std::thread::scope(|scope| {
        let (working, is_over) = channel::<()>();
        let show = move || {
            let mut drawing = Drawing::default();
            let pause = if is_drawn { REDRAW } else { BETWEEN_EVENTS };
            // Nothing is ever sent; the other end goes when the work is done.
            while is_over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if is_drawn {
                    drawing.draw(&progress.seen());
                } else {
                    tell(&progress.seen());
                }
            }
            drawing.end();
        };
        // Where the system has no thread left, nothing is shown.
        let _ = std::thread::Builder::new().spawn_scoped(scope, show);
        let done = work();
        drop(working);
        done
    })
}

fn tell(seen: &Seen) {
    for source in seen.sources.iter().filter(|source| !source.is_over()) {
        let entries = source.entries_count();
        tracing::info!(
            source = source.name,
            entries,
            "source {}: {} entries read so far",
            source.name,
            number(entries)
        );
    }
    if let Some(stage) = seen.stage {
        tracing::info!("{stage}");
    }
}

/// The lines on the terminal.
#[derive(Default)]
struct Drawing {
    lines: MultiProgress,
    sources: BTreeMap<String, ProgressBar>,
    stage: Option<(&'static str, Instant, Option<ProgressBar>)>,
    started: Option<Instant>,
}

impl Drawing {
    fn draw(&mut self, seen: &Seen) {
        let started = *self.started.get_or_insert_with(Instant::now);
        if started.elapsed() < MOMENT {
            return;
        }
        drawn().get_or_insert_with(|| {
            self.lines.set_draw_target(ProgressDrawTarget::stderr());
            self.lines.clone()
        });
        let width = seen
            .sources
            .iter()
            .map(|source| source.name.len())
            .max()
            .unwrap_or(0);
        for source in &seen.sources {
            let (name, count) = (key(source.name.as_bytes()), source.entries_count());
            let bar = self.sources.entry(name.clone()).or_insert_with(|| {
                let bar = self
                    .lines
                    .add(ProgressBar::new(source.expected_count.unwrap_or(0)));
                bar.set_style(style(if source.expected_count.is_some() {
                    ESTIMATING
                } else {
                    COUNTING
                }));
                bar.set_prefix(format!("{name:<width$}"));
                bar.with_elapsed(started.elapsed())
            });
            if bar.is_finished() {
                continue;
            }
            // More than there were: there is nothing to estimate.
            if source
                .expected_count
                .is_some_and(|expected| count > expected)
            {
                bar.set_style(style(COUNTING));
                bar.set_length(count);
            }
            bar.set_position(count);
            if source.is_over() {
                bar.set_style(style("{prefix}  {msg}"));
                bar.finish_with_message(format!("{} entries read", number(count)));
            }
        }
        self.draw_stage(seen.stage);
    }

    fn draw_stage(&mut self, stage: Option<&'static str>) {
        let Some(stage) = stage else { return };
        match &mut self.stage {
            Some((shown, since, bar)) if *shown == stage => {
                if since.elapsed() >= MOMENT {
                    let bar = bar.get_or_insert_with(|| {
                        let bar = self.lines.add(ProgressBar::new_spinner());
                        bar.set_style(style(STAGE));
                        bar.set_message(stage);
                        bar.with_elapsed(since.elapsed())
                    });
                    bar.tick();
                }
            }
            shown => {
                if let Some((.., Some(bar))) = shown.replace((stage, Instant::now(), None)) {
                    bar.finish_and_clear();
                }
            }
        }
    }

    /// Nothing of it stays on the terminal.
    fn end(&self) {
        let _ = self.lines.clear();
        drawn().take();
    }
}

fn style(template: &str) -> ProgressStyle {
    // Over the whole time: what a moment says of a directory jumps from page to page.
    let per_second =
        |state: &ProgressState| state.pos() as f64 / state.elapsed().as_secs_f64().max(0.1);
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "rate",
            move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{}/s", number(per_second(state) as u64));
            },
        )
        .with_key(
            "left",
            move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let entries = state.len().unwrap_or(0).saturating_sub(state.pos());
                let seconds = entries as f64 / per_second(state).max(1.0);
                let _ = write!(out, "{}", rough(Duration::from_secs(seconds as u64 + 1)));
            },
        )
}

/// Writes to standard error, out of the way of what may be drawn there.
pub fn beside<T>(write: impl FnOnce() -> T) -> T {
    match &*drawn() {
        Some(lines) => lines.suspend(write),
        None => write(),
    }
}
