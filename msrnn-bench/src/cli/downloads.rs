//! How downloads are shown, and how Ctrl-C ends them.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use msrnn_bench::hub::{Downloads, Progress};
use msrnn_bench::progress::among_others;

use super::INTERRUPT;

/// Files that are there before a line about them could be read.
const SMALL: u64 = 8 << 20;

/// A line on stderr for every large file, hidden where that is no terminal.
pub(super) const DOWNLOADS: Downloads = Downloads { advance, interrupt: &INTERRUPT };

static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn advance(progress: &Progress<'_>) {
    let Progress { file, done, size } = *progress;
    let Some(mut bar) = BAR.lock().ok().filter(|_| size >= SMALL) else { return };
    let shown = bar.get_or_insert_with(|| {
        let style =
            ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
        let bar = among_others(ProgressBar::new(size).with_message(file.to_owned()));
        // What was there before this run says nothing about speed.
        bar.reset_eta();
        style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
    });
    shown.set_position(done);
    if done == size {
        shown.finish_and_clear();
        *bar = None;
    }
}
